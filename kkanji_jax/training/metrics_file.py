"""Reading metrics.jsonl: one JSON object per line, the oldest first. Works without NumPy.

Everything that reads the file uses this module: resuming, figures, reports, model cards, scripts.
"""

import json
from pathlib import Path
from typing import Any

FILE_NAME = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, in the order in which they were written.

    A last line that is not a complete JSON object is left out: a kill or a full disk cut it off.
    Blank lines are skipped. Any other line that is not one JSON object in UTF-8 is a ValueError
    that names the file and the line. FileNotFoundError if there is no file.
    """
    texts = path.read_bytes().split(b"\n")
    numbered = [(number, text) for number, text in enumerate(texts, 1) if text.strip()]
    lines = []
    for place, (number, text) in enumerate(numbered, 1):
        try:
            line = json.loads(text.decode("utf-8"))
            if not isinstance(line, dict):
                raise ValueError(f"expected a JSON object, got {text[:40]!r}")
        except ValueError as err:  # of JSON and of UTF-8 alike
            if place == len(numbered):
                break
            raise ValueError(
                f"{path} line {number} is damaged: {err}; restore the file, or remove that line"
            ) from err
        lines.append(line)
    return lines
