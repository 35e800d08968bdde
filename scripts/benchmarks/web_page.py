"""One glyph through the page's network in node, against ONNX Runtime, each with one thread.

    python scripts/benchmarks/web_page.py [--model BUNDLE] [--stem-stride N] [--rounds 7]

In turns, in CPU seconds, on the same glyphs. With another stem stride than the bundle's the answers
mean nothing, and the times stand. Needs node and onnxruntime; web_page.mjs is node's side.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import turns

CALLS = 20
GLYPHS = "glyphs.bin"
WANTED_MS = 60.0  # of a CPU, an image: what leaves an answer well below 100 ms


def with_stem_stride(bundle: Path, stride: int, out: Path) -> None:
    """Writes the bundle `out`: that one with another stride in its config."""
    from kkanji_jax.files import write_sums

    shutil.copytree(bundle, out, ignore=shutil.ignore_patterns("web", "model.onnx"))
    about = json.loads((out / "config.json").read_text(encoding="utf-8"))
    about["config"]["model"]["stem_stride"] = stride
    (out / "config.json").write_text(json.dumps(about), encoding="utf-8")
    write_sums(out)


def run_page(folder: Path) -> None:
    """Replaces this process by the node that serves the page of a folder."""
    node = shutil.which("node")
    if node is None:
        raise ValueError("no node on the path: nothing to run the page's network with")
    program = str(Path(__file__).with_suffix(".mjs"))
    os.execv(node, [node, program, str(folder / "web"), str(folder.parent / GLYPHS)])


def run_onnx(folder: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    model = str(folder / "model.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    glyphs = np.fromfile(folder.parent / GLYPHS, np.uint8).reshape(CALLS, 1, 64, 64)

    def work() -> int:
        for glyph in glyphs:
            session.run(["logits"], {"images": glyph})
        return CALLS

    work()
    turns.serve(work)


WORKERS = {"page": run_page, "onnx": run_onnx}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    package = turns.ROOT / "kkanji_jax" / "pretrained" / "b0"
    parser.add_argument("--model", type=Path, default=package, help="a bundle (the package's)")
    parser.add_argument("--stem-stride", type=int, choices=(1, 2), help="the bundle's, if unset")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "BUNDLE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        WORKERS[args.worker[0]](Path(args.worker[1]))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        bundle, exported = args.model, Path(scratch) / "exported"
        if args.stem_stride:
            bundle = Path(scratch) / "other"
            with_stem_stride(args.model, args.stem_stride, bundle)
        export = [sys.executable, "-m", "kkanji_jax.export", "--model", bundle, "--out", exported]
        environment = os.environ | {"PYTHONPATH": str(turns.ROOT)}
        subprocess.run([*export, "--web"], check=True, env=environment, stdout=subprocess.DEVNULL)
        (Path(scratch) / "package.json").write_text('{"type": "module"}')  # node asks for it
        glyphs = np.random.default_rng(0).integers(0, 256, (CALLS, 64, 64), np.uint8)
        (Path(scratch) / GLYPHS).write_bytes(glyphs.tobytes())
        commands = {name: [__file__, "--worker", name, str(exported)] for name in WORKERS}
        found = turns.take_turns(commands, args.rounds, num_cores=1)
    for name, own in found.items():
        spent = [1e3 * turn.cpu_s / turn.units for turn in own]
        told = f"{name}: {statistics.median(spent):.1f} ms of a CPU an image"
        told += f" ({min(spent):.1f} to {max(spent):.1f}, {len(spent)} turns of {CALLS})"
        print(told + (f"; expected {WANTED_MS:g} at most" if name == "page" else ""))
    print(turns.comparison("onnx", turns.ratios(found["page"], found["onnx"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
