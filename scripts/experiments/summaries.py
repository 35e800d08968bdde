"""What an experiment found, kept in docs/results/ where results.py finds it."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SUMMARIES = ROOT / "docs" / "results"


def write_json(path: Path, content: Any) -> None:
    """Writes `content` one value a line, for diffs; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
