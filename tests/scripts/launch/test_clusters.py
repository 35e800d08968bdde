"""The cluster examples' own lines, run here with the variables that a cluster sets."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_tools.write.assemble import Options, assemble

ROOT = Path(__file__).parents[3]
SBATCH, JOB = (
    ROOT / "scripts" / "launch" / "slurm" / "build.sbatch",
    ROOT / "scripts" / "launch" / "kubernetes" / "build.yaml",
)
pytestmark = pytest.mark.skipif(not SBATCH.is_file(), reason="the source tree is not beside")


@pytest.fixture
def environment(source: Any, tmp_path: Path) -> dict[str, str]:
    source.add_kanji("U+6625", 12)
    source.add_kanji("U+6765", 6)
    return os.environ | {
        "SOURCE": str(source.folder),
        "OUT": str(tmp_path / "a dataset"),
        "PYTHON": sys.executable,
    }


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(environment: dict[str, str], tmp_path: Path) -> None:
    options = Options(min_images=3)
    assemble(Path(environment["SOURCE"]), tmp_path / "whole", options)
    made = Path(environment["OUT"])
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in made.iterdir()) == names
    assert all((made / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)


def test_the_slurm_array_and_its_finish_make_the_dataset(
    environment: dict[str, str], tmp_path: Path
):
    environment |= {"SHARDS_PER_TASK": "2", "SLURM_CPUS_PER_TASK": "1"}
    command = ["bash", str(SBATCH), "--min-images", "3"]
    without = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert without.returncode != 0 and "submit with --array" in without.stderr
    said = [run(command, environment | {"SLURM_ARRAY_TASK_ID": str(task)}) for task in (1, 0, 2)]
    assert "1 of 3 shards" in said[0] and "2 of 3 shards" in said[1] and "0 of 3" in said[2]
    run(command, environment | {"FINISH": "1"})
    check(environment, tmp_path)


@pytest.mark.slow
def test_the_commands_of_the_kubernetes_jobs_make_the_dataset(
    environment: dict[str, str], tmp_path: Path
):
    text = JOB.read_text("utf-8")
    blocks = re.findall(r"^( +)args:\n +- \|\n((?:\1   +.*\n)+)", text, re.M)
    build, finish = ("\n".join(line.strip() for line in block.splitlines()) for _, block in blocks)
    assert "completionMode: Indexed" in text and "Never run on a real cluster" in text
    python = f"exec {sys.executable} -m"  # an image has the environment's python first in PATH
    environment |= {"OPTIONS": "--min-images 3", "SHARDS_PER_POD": "2"}
    for index in ("0", "1"):
        script = build.replace("exec python -m", python).replace("$(nproc)", "1")
        run(["bash", "-euc", script], environment | {"JOB_COMPLETION_INDEX": index})
    run(["bash", "-euc", finish.replace("exec python -m", python)], environment)
    check(environment, tmp_path)
