"""The gates of the compiled step: what they object to, and that the real step passes them."""

import dataclasses
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "scripts" / "benchmarks"
if not BENCH.is_dir():
    pytest.skip("the source tree is not beside", allow_module_level=True)
sys.path.insert(0, str(BENCH))
import h100_structure  # noqa: E402

GOOD = h100_structure.Figures(
    images=1024,
    image_mb=23.0,
    augment_mb=0.08,
    temporary_mb=2.4,
    donated_share=0.99,
    num_kernels=1000.0,
    mb_by_kind={"conv": 23.0},
    kernels_by_kind={"conv": 1000.0},
    misread_gradients=(),
    collectives={},
    gradient_sums={},
)
WIDE = dataclasses.replace(GOOD, image_mb=50.0)
EIGHT = dataclasses.replace(GOOD, collectives={"all-reduce": 99.0}, gradient_sums={"f32": 1.0})


def test_good_figures_pass() -> None:
    assert h100_structure.objections(GOOD, WIDE, EIGHT) == []


@pytest.mark.parametrize(
    ("program", "fields", "expected"),
    [
        (0, {"image_mb": 25.1}, "25.1 MB/image"),
        (1, {"image_mb": 40.0}, "of float32's bytes"),
        (0, {"temporary_mb": 2.7}, "temporaries"),
        (0, {"augment_mb": 0.14}, "for augmentation"),
        (0, {"donated_share": 0.9}, "is donated"),
        (0, {"misread_gradients": ("c bf16[1,5,5,1152]",)}, "batch for channels"),
        (2, {"collectives": {"all-reduce": 99.0, "all-gather": 1.0}}, "all-gather"),
        (2, {"gradient_sums": {"f32": 2.0}}, "sums of gradients"),
        (2, {"gradient_sums": {"f32": 1.0, "bf16": 1.0}}, "sums of gradients"),
        (2, {"gradient_sums": {}}, "sums of gradients"),
    ],
)
def test_each_gate_objects_to_what_it_guards(program: int, fields: dict, expected: str) -> None:
    figures = [GOOD, WIDE, EIGHT]
    figures[program] = dataclasses.replace(figures[program], **fields)
    (objection,) = h100_structure.objections(*figures)
    assert expected in objection


def run(script: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A script in a process that finds the packages that compile for CUDA, or a skip."""
    folder = os.environ.get("KKANJI_CUDA_COMPILER")
    if not folder:
        pytest.skip("KKANJI_CUDA_COMPILER is unset: no folder of packages that compile for CUDA")
    path = os.pathsep.join((folder, str(ROOT), str(BENCH)))
    return subprocess.run(
        [sys.executable, str(script), *flags],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_without_the_compiler_a_line_says_what_to_install() -> None:
    result = subprocess.run(
        [sys.executable, "-S", str(BENCH / "h100_structure.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0 and "--no-deps" in result.stdout
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, str(BENCH / "h100_structure.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert f"jax-cuda12-plugin=={version('jax')}" in result.stderr and "\n" == result.stderr[-1]
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_real_step_passes_every_gate_on_one_gpu_and_on_eight(tmp_path: Path) -> None:
    result = run(BENCH / "h100_structure.py", "--json", str(tmp_path / "figures.json"))
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures) == 3 and all(each["num_kernels"] > 100 for each in figures.values())


@pytest.mark.slow
def test_planted_faults_are_objected_to_in_a_real_program() -> None:
    result = run(Path(__file__).with_name("planted_steps.py"))
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout)
    assert found["as it is"] == []
    for expected in ("of float32's bytes", "batch for channels"):
        assert any(expected in objection for objection in found["planted"])
