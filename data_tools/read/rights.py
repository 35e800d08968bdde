"""Licence and attribution of the images in a folder of sources."""

import json
from pathlib import Path

from data_tools.fetch.sources import ATTRIBUTION, LICENCE
from data_tools.read.layouts import find_layout

RIGHTS_NAME = "rights.json"
_STATED = ("licence", "attribution")
CHAR_SHAPE_ATTRIBUTION = (
    "『日本古典籍くずし字データセット』（国文学研究資料館ほか所蔵／人文学オープンデータ共同利用センター加工）"
    "doi:10.20676/00000340"
)


def read_rights(folder: Path) -> dict[str, str]:
    """`licence` and `attribution` of the images in a source folder, for the manifest.

    rights.json beside the images states both for all of them, as an object with these two strings.
    Without it, CODH's sets have CODH's, and none is stated for other images. ValueError for a
    rights.json of other content.
    """
    path = folder / RIGHTS_NAME
    if path.is_file():
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as err:
            raise ValueError(f"{path} is no JSON in UTF-8: {err}; correct it") from err
        told = stated if isinstance(stated, dict) else {}
        rights = {name: told[name] for name in _STATED if isinstance(told.get(name), str)}
        if len(rights) < len(_STATED):
            raise ValueError(f"{path} must be an object with the texts {' and '.join(_STATED)}")
        return rights
    layout = find_layout(folder)
    licences: list[str] = []
    attributions: list[str] = []
    if layout.kkanji or layout.parts:
        licences.append(LICENCE)
        attributions.append(ATTRIBUTION)
    if layout.books:
        licences.append(LICENCE)
        attributions.append(CHAR_SHAPE_ATTRIBUTION)
    for name in layout.image_folders:
        licences.append(f"not stated for {name}/")
        attributions.append(f"not stated for {name}/ (no {RIGHTS_NAME})")
    return {"licence": "; ".join(dict.fromkeys(licences)), "attribution": "; ".join(attributions)}
