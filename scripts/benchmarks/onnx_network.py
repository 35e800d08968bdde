"""CPU time of the network in ONNX Runtime: bundles and batch sizes in turns, and by operation.

    python scripts/benchmarks/onnx_network.py --glyphs data/codh/kkanji2 --models NEW,OLD
        [--batches 16,32] [--images 128] [--rounds 9]

Each of the models, which are bundles or ONNX files, reads the same images by as many threads as
there are cores, each with a batch of its own, as `predict --backend onnx` does. The ratio is to the
first model and batch size. Then one thread runs a batch of the first size 30 times, and the least
time of each operation is told. Needs onnxruntime.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import turns

OUTPUTS = ["logits", "features"]
NUM_PROFILED = 30


def session_of(model: Path, profile: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile / "profile")
    file = model / "model.onnx" if model.is_dir() else model
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def glyphs_below(folder: Path, count: int) -> Any:
    import numpy as np

    from kkanji_jax.glyphs.glyph_image import glyph_image

    files = sorted(file for file in folder.rglob("*") if file.suffix in (".png", ".jpg"))
    if not files:
        raise ValueError(f"expected images below {folder}, found none")
    return np.stack([glyph_image(file) for file in files[:: max(1, len(files) // count)][:count]])


def read_all(session: Any, pool: ThreadPoolExecutor, glyphs: Any, batch_size: int) -> float:
    """CPU seconds an image."""
    begun_s = time.process_time()
    batches = [glyphs[at : at + batch_size] for at in range(0, len(glyphs), batch_size)]
    list(pool.map(lambda batch: session.run(OUTPUTS, {"images": batch}), batches))
    return (time.process_time() - begun_s) / len(glyphs)


def print_operations(model: Path, glyphs: Any) -> None:
    """Prints the shares of the operations: of each node the least time of all runs."""
    with tempfile.TemporaryDirectory() as scratch:
        session = session_of(model, Path(scratch))
        for _ in range(NUM_PROFILED):
            session.run(OUTPUTS, {"images": glyphs})
        events = json.loads(Path(session.end_profiling()).read_text())
    least: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["args"]["op_name"], event["name"]
            least[node] = min(least.get(node, event["dur"]), event["dur"])
    shares: dict[str, float] = defaultdict(float)
    for (operation, _), microseconds in least.items():
        shares[operation] += microseconds
    total = sum(shares.values())
    print(f"{model}: {total / len(glyphs) / 1e3:.2f} ms an image in one thread, of it")
    for operation, microseconds in sorted(shares.items(), key=lambda item: -item[1]):
        if microseconds >= 0.005 * total:
            print(f"    {operation:20} {microseconds / total:6.1%}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--glyphs", type=Path, required=True, help="folder of images")
    parser.add_argument("--models", required=True, metavar="A,B", help="bundles, or ONNX files")
    parser.add_argument("--batches", default="16,32", metavar="N,M")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(argv)
    sys.path.insert(0, str(turns.ROOT))
    from kkanji_jax.workers import num_cores

    models = [Path(name) for name in args.models.split(",")]
    batch_sizes = [int(size) for size in args.batches.split(",")]
    glyphs = glyphs_below(args.glyphs, args.images)
    sessions = {model: session_of(model) for model in models}
    spent: dict[tuple[Path, int], list[float]] = {(m, n): [] for m in models for n in batch_sizes}
    with ThreadPoolExecutor(num_cores()) as pool:
        for turn in range(args.rounds + 1):  # the first of them warms up
            for (model, batch_size), own in spent.items():
                cost_s = read_all(sessions[model], pool, glyphs, batch_size)
                if turn:
                    own.append(cost_s)
    first = next(iter(spent.values()))
    for (model, batch_size), own in spent.items():
        name = f"{model}, batches of {batch_size}"
        print(f"{name}: {1e3 * statistics.median(own):.2f} ms of CPU time an image")
        if own is not first:
            found = [b / a for a, b in zip(first, own, strict=True)]
            print(f"    the first {turns.comparison(name, found)}")
    for model in models:
        print_operations(model, glyphs[: batch_sizes[0]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
