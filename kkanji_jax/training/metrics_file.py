"""metrics.jsonl as it is read: one JSON object a line, the oldest first. NumPy-free.

Everything that reads the file reads it here: resuming, figures, reports, model cards, scripts.
"""

import json
from pathlib import Path
from typing import Any

FILE_NAME = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, in the order in which they were written.

    A last line that is no whole JSON object is left out: a killed process or a full disk tore it.
    Blank lines hold nothing and are passed over. Any other line that is not one JSON object in
    UTF-8 is a ValueError that names the file and the line. FileNotFoundError without a file.
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
