"""Licence and attribution are stated for images, and never claimed for those of others."""

import json
from typing import Any

import pytest

from data_tools.fetch.sources import ATTRIBUTION
from data_tools.read.rights import read_rights


def test_rights_are_codh_s_unless_the_folder_states_its_own(source: Any):
    source.add_kanji("U+6625", 1)
    rights = read_rights(source.folder)
    assert rights == {"licence": "CC BY-SA 4.0", "attribution": ATTRIBUTION}
    stated = {"licence": "public domain", "attribution": "nobody"}
    path = source.add_file("rights.json", json.dumps(stated).encode())
    assert read_rights(source.folder) == stated
    for content in ("[]", "{}", '{"licence": null, "attribution": "nobody"}', "{"):
        path.write_text(content)
        with pytest.raises(ValueError, match="rights.json"):
            read_rights(source.folder)


def test_codh_s_licence_is_not_claimed_for_the_images_of_others(source: Any):
    png = source.png(source.draw(1))
    source.add_file("brsk1/characters/U+6625/U+6625_brsk1_001_X1_Y1.png", png)
    rights = read_rights(source.folder)
    assert rights["licence"] == "CC BY-SA 4.0" and "10.20676/00000340" in rights["attribution"]
    source.add_file("mine/U+6625/a.png", png)
    assert read_rights(source.folder)["licence"] == "CC BY-SA 4.0; not stated for mine/"
