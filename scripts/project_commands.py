"""The project's own commands, for scripts that run several of them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments: object) -> None:
    """Runs `python ARGUMENTS` in the checkout, telling it on stderr; ValueError where it fails."""
    command = [sys.executable, *map(str, arguments)]
    print("$ python", *command[1:], file=sys.stderr, flush=True)
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise ValueError(f"stopped: python {' '.join(command[1:])} failed")
