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


def told(score: dict[str, Any]) -> str:
    """A share with its interval and n, for the screen."""
    if not score["n"]:
        return "- (n = 0)"
    low, high = score["ci95"]
    return f"{100 * score['value']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] (n = {score['n']})"
