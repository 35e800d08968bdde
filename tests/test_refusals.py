"""A mistake in a command is one line with its remedy, in seconds, before any data is read."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from kkanji_jax.files import read_json, write_json

ROOT = Path(__file__).parents[1]
MOST_CPU_S = 5.0  # of processor time: the clock on the wall measures the neighbours too
B0 = ("--config", "configs/b0.py:smoke")


class Case(NamedTuple):
    """What is wrong with a command, and the words that its one line must have."""

    arguments: tuple[str, ...]
    expected: tuple[str, ...]
    status: int = 2
    platform: str = "cpu"


CASES = {
    "no config": Case((), ("--config is missing", "configs/b0.py")),
    "no such config": Case(("--config", "configs/b10.py"), ("no config file configs/b10.py",)),
    "unknown variant": Case(("--config", "configs/b0.py:laptop"), ("'laptop'", "full, cpu")),
    "a flag's typo": Case((*B0, "--work=x"), ("work", "workdir")),
    "a field's typo": Case((*B0, "--config.batchsize=3"), ("batchsize", "batch_size")),
    "a nested typo": Case((*B0, "--config.optim.lr=3"), ("no config field lr", "--help")),
    "a word for a number": Case((*B0, "--config.batch_size=many"), ("batch_size", "many")),
    "a fraction for a count": Case((*B0, "--config.batch_size=2.5"), ("batch_size", "2.5")),
    "unknown network": Case((*B0, "--config.model.variant=b9"), ("b9", "b0"), 1),
    "a word too many": Case((*B0, "resume"), ("flags only", "resume")),
    "a batch that does not divide": Case(
        (*B0, "--config.batch_size=30"), ("must divide by 8 devices, got 30",), 1
    ),
    "a batch beyond the data": Case(
        (*B0, "--config.batch_size=4000"), ("4,000 is more than the", "examples of an epoch"), 1
    ),
    "no such accelerator": Case(B0, ("JAX finds no device here", "JAX_PLATFORMS"), 1, "cuda"),
}


@pytest.fixture(scope="module")
def unreadable(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of which everything is right but the bytes of its shards."""
    dataset = Path(shutil.copytree(tiny_dataset, tmp_path_factory.mktemp("data") / "unreadable"))
    for path in dataset.glob("*.array_record"):
        path.write_bytes(bytes(path.stat().st_size))
    return dataset


def refusal(case: Case, dataset: Path, workdir: Path) -> str:
    """The one line that the command says; its processor time is checked."""
    if case.arguments:
        case = case._replace(arguments=(*case.arguments, f"--config.data.dataset={dataset}"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "kkanji_jax.train", *case.arguments, "--workdir", str(workdir)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": case.platform},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == case.status, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_CPU_S
    return done.stderr


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_with_its_remedy_before_data_is_read(
    name: str, unreadable: Path, tmp_path: Path
) -> None:
    told = refusal(CASES[name], unreadable, tmp_path / "run")
    for words in CASES[name].expected:
        assert words in told, told
    assert "has changed" not in told and not (tmp_path / "run").exists()


def test_a_dataset_without_val_is_refused_before_data_is_read(
    unreadable: Path, tmp_path: Path
) -> None:
    dataset = Path(shutil.copytree(unreadable, tmp_path / "no val"))
    manifest = read_json(dataset / "manifest.json")
    manifest["splits"]["val"] = {"num_examples": 0, "num_classes": 0, "class_counts": {}}
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["split"] != "val"]
    write_json(dataset / "manifest.json", manifest)
    told = refusal(Case(B0, (), 1), dataset, tmp_path / "run")
    assert "has no validation images; build it with other --ratios" in told, told
    assert not (tmp_path / "run").exists()


def test_what_is_right_comes_as_far_as_the_data(unreadable: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kkanji_jax.train", *B0, "--workdir", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, f"--config.data.dataset={unreadable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "has changed since it was built" in done.stderr.splitlines()[-1], done.stderr
