"""The project's own commands, for scripts that run several of them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_python(*arguments: object) -> None:
    """Runs `python ARGUMENTS` in the checkout, and prints it to stderr; ValueError if it fails."""
    command = [sys.executable, *map(str, arguments)]
    print("$ python", *command[1:], file=sys.stderr, flush=True)
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise ValueError(f"stopped: python {' '.join(command[1:])} failed")


def require_finished(workdir: Path) -> None:
    """ValueError for a run that was stopped: training then saves and exits with 0."""
    from kkanji_jax.training.metrics_file import FILE_NAME, read_metrics

    records = read_metrics(workdir / FILE_NAME)
    total = next(record["total_steps"] for record in records if record["kind"] == "train")
    if (step := records[-1]["step"]) < total:
        raise ValueError(
            f"stopped: {workdir} is at step {step} of {total}; the same command goes on"
        )
