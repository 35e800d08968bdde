"""The benchmark scripts: their arithmetic, their help, and that each runs to its end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "scripts" / "benchmarks"
if not BENCH.is_dir():
    pytest.skip("the source tree is not beside", allow_module_level=True)
sys.path.insert(0, str(BENCH))
import train_step  # noqa: E402
import turns  # noqa: E402

WORKER = "import turns, sys; turns.serve(lambda: int(sys.argv[1]), 'a note')"


def run(script: str, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("XLA_FLAGS", None)
    return subprocess.run(
        [sys.executable, str(BENCH / script), *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    "script",
    [
        "train_step.py",
        "dispatch.py",
        "checkpoint_save.py",
        "gpu.py",
        "h100_structure.py",
        "page.py",
        "predict_folder.py",
    ],
)
def test_help_comes_without_heavy_imports(script: str) -> None:
    code = (
        "import runpy, sys\nsys.argv = ['x', '--help']\n"
        f"sys.path.insert(0, {str(BENCH)!r})\n"
        f"try:\n    runpy.run_path({str(BENCH / script)!r}, run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'jax', 'flax', 'torch', 'optax'} & set(sys.modules)\nassert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_the_count_of_operations_is_the_papers_at_224_px() -> None:
    # Table 2 of arXiv:1905.11946: 0.39 billion multiply-adds, with colour and 1,000 classes.
    macs, depthwise = train_step.forward_macs("b0", 224, 2, 1000)
    colour = 2 * 112 * 112 * 9 * 32  # two more input channels in the stem
    assert macs + colour == pytest.approx(0.39e9, rel=0.02)
    assert 0 < depthwise < 0.15 * macs


def test_workers_take_turns_and_are_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {"ours": ["-c", WORKER, "6"], "peer": ["-c", WORKER, "2"]}
    monkeypatch.setenv("PYTHONPATH", str(BENCH))
    found = turns.take_turns(commands, 3, num_cores=1)
    assert [turn.units for turn in found["ours"]] == [6, 6, 6] and len(found["peer"]) == 3
    ours = [turns.Turn(1.0, 1.0, 6), turns.Turn(2.0, 1.0, 6)]
    peer = [turns.Turn(1.0, 1.0, 2), turns.Turn(4.0, 9.0, 2)]
    assert turns.ratios(ours, peer) == [3.0, 6.0]  # by CPU seconds, whatever the clock said
    assert turns.comparison("it", [3.0, 6.0]) == "against it: 4.50 x (3.00 to 6.00, 2 pairs)"


def test_a_worker_that_dies_is_named() -> None:
    with pytest.raises(ValueError, match="the program of peer ended with status 3"):
        turns.take_turns({"peer": ["-c", "raise SystemExit(3)"]}, 1, num_cores=1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="no node on the path to run the page with")
def test_the_benchmark_of_the_page_runs_through() -> None:
    result = run("page.py", "--stem-stride", "1", "--rounds", "2")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "page: " in result.stdout and "against onnx: " in result.stdout
    assert "2 pairs" in result.stdout


@pytest.mark.slow
def test_the_benchmark_of_a_folder_runs_through(tiny_source: Path, tmp_path: Path) -> None:
    flags = ["--glyphs", str(tiny_source), "--images", "144", "--rounds", "1"]
    result = run("predict_folder.py", *flags, "--against", str(ROOT))
    assert result.returncode == 0, result.stderr[-2000:]
    for backend in ("onnx", "jax"):
        assert f"ours, {backend}: " in result.stdout
        assert f"against theirs, {backend}: " in result.stdout


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_through_without_one(tmp_path: Path) -> None:
    result = run("gpu.py", "--smoke", "--minutes", "30", "--json", str(tmp_path / "figures.json"))
    assert result.returncode == 0, result.stderr[-2000:]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"ours, 4", "ours, 8", "no augmentation, 4", "constant batch, 4"} <= set(
        figures["images_per_s"]
    )
    assert all(
        set(forms) == {"taps", "conv", "hybrid"} for forms in figures["depthwise_us"].values()
    )


def test_without_a_gpu_the_script_for_one_says_so() -> None:
    result = run("gpu.py")
    assert result.returncode == 1 and "JAX sees no GPU here" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", ["dispatch.py", "checkpoint_save.py"])
def test_the_benchmarks_of_the_trainer_run_through(script: str) -> None:
    result = run(script, "--variant", "nano", "--rounds", "2")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "2 pairs" in result.stdout
