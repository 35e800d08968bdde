"""The pictures that a dataset keeps of its audit are as many as they may be, and the first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.plan import audit_pictures
from data_tools.write.assemble import Options, assemble
from kkanji_jax.data.records import decode


def test_no_rule_keeps_more_pictures_than_the_limit(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit_pictures, "MAX_PICTURES", 3)
    source.add_kanji("U+6625", 4)
    for number in range(9):
        black = np.full((64, 64), number, np.uint8)
        source.add_file(f"kkanji2/U+6625/b{number}.png", source.png(black))
    outcome = assemble(source.folder, tmp_path / "out", Options())
    assert outcome.audit["rules"]["blank"]["count"] == 9
    pictures = decode((tmp_path / "out" / "audit.record").read_bytes())
    assert [each.rpartition("/")[2] for each in pictures.sample_ids] == ["b0", "b1", "b2"]
