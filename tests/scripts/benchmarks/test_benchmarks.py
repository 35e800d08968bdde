"""The benchmark scripts: their arithmetic, their help, and that each runs to its end."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "scripts" / "benchmarks"
if not BENCH.is_dir():
    pytest.skip("the source tree is not beside", allow_module_level=True)
sys.path.insert(0, str(BENCH))
import hlo_traffic  # noqa: E402
import step_profile  # noqa: E402
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
        "onnx_network.py",
        "predict_folder.py",
        "step_profile.py",
        "web_page.py",
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


def test_torch_stands_for_its_eight_forms() -> None:
    names = train_step.expand("ours,torch")
    assert names[0] == "ours" and len(set(names)) == 9
    assert "compiled-bfloat16-channels_last" in names and "eager-float32-nchw" in names
    with pytest.raises(ValueError, match="--only takes ours, flax, .*; got tf"):
        train_step.expand("ours,tf")


def test_a_worker_may_run_in_another_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$1" "$2" 7\n')
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(BENCH))
    commands = {"ours": ["-c", WORKER, "6"], "peer": ["-c", WORKER, "2"]}
    found = turns.take_turns(commands, 1, num_cores=1, pythons={"peer": str(python)})
    assert [found[name][0].units for name in commands] == [6, 7]


def test_a_profile_adds_up_by_kind_and_tells_the_largest_first() -> None:
    backward = "jit(train_steps)/transpose(jvp(jit(depthwise_conv)))/cond/jit(_pad)/pad"
    kinds = {
        "pad.1": step_profile.kind_of("pad.1", "fusion", backward),
        "ynn.2": step_profile.kind_of("ynn.2", "fusion", "jit(train_steps)/jvp()/dot_general"),
        "ynn.3": step_profile.kind_of("ynn.3", "fusion", "jit(train_steps)/jvp()/reduce_sum"),
        "dot.4": step_profile.kind_of("dot.4", "dot", "jit(train_steps)/jvp()/transpose"),
        "add.5": step_profile.kind_of("add.5", "fusion", "jit(train_steps)/add"),
    }
    spent = {"pad.1": 1.0, "ynn.2": 2.0, "ynn.3": 0.5, "dot.4": 4.0, "add.5": 0.5}
    assert step_profile.shares(spent, kinds) == [
        ("matrix products, forward", 0.75),
        ("depthwise convolution, backward, padding", 0.125),
        ("sums (batch statistics, pooling), forward", 0.0625),
        ("update, averages", 0.0625),
    ]


def test_a_trace_tells_the_time_of_each_instruction(tmp_path: Path) -> None:
    images = np.ones((64, 64), np.float32)
    compiled = jax.jit(lambda x: jnp.tanh(x @ x)).lower(images).compile()
    text = compiled.as_text()
    assert text is not None
    program, entry = hlo_traffic.parse(text)
    names = [name for name, op in program[entry].items() if op.opcode not in hlo_traffic.IDLE]
    compiled(images)
    with jax.profiler.trace(str(tmp_path)):
        jax.block_until_ready(compiled(images))
    spent = step_profile.instruction_times(tmp_path, names)
    assert spent.keys() <= set(names) and all(time_ns > 0 for time_ns in spent.values())
    with pytest.raises(ValueError, match="has no instruction of the program"):
        step_profile.instruction_times(tmp_path, ["absent"])


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
    result = run("web_page.py", "--stem-stride", "1", "--rounds", "2")
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
def test_the_benchmark_of_the_network_tells_each_batch_size_and_operation(
    tiny_source: Path,
) -> None:
    model = ROOT / "kkanji_jax" / "pretrained" / "b0"
    flags = ["--glyphs", str(tiny_source), "--models", str(model), "--batches", "2,4"]
    result = run("onnx_network.py", *flags, "--images", "8", "--rounds", "1")
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"{model}, batches of 2: " in result.stdout
    assert f"the first against {model}, batches of 4: " in result.stdout
    operations = re.findall(r"^    (\w+) +\d+\.\d%$", result.stdout, re.MULTILINE)
    assert operations[0] == "Conv"


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
