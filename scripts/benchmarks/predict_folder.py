"""`predict` on a folder of images, by each backend, and against another checkout.

    python scripts/benchmarks/predict_folder.py --glyphs data/codh/kkanji2 [--against CHECKOUT]
        [--images 4000] [--rounds 5] [--backends onnx,jax] [--only-glyphs]
        [--model M] [--their-model M]

The images are published glyphs or photographed crops, whatever lies below the folder. In turns,
each a command from the shell. A command on a few of the images comes before each, and its
time is taken off: what is left is the reading, without the start. Images a second of the clock and
of CPU time are told; the latter counts where others use the machine. Needs onnxruntime.

Before that, and alone with --only-glyphs, what comes before the network: each image is decoded, and
made a glyph, by one thread of a process for each checkout, in turns.
"""

import argparse
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import turns

BACKENDS = ("onnx", "jax")
SUFFIXES = (".png", ".jpg")
NUM_FEW = 128  # a whole batch, so that JAX has compiled the same programs


def copy_spread(glyphs: Path, count: int, out: Path) -> None:
    """Copies `count` images from all over `glyphs` to `out`/all, and a few of them to `out`/few.

    If there are fewer, each is copied several times.
    """
    files = sorted(file for file in glyphs.rglob("*") if file.suffix in SUFFIXES)
    if not files:
        raise ValueError(f"expected images below {glyphs}, found none")
    for name in ("all", "few"):
        (out / name).mkdir()
    chosen = itertools.islice(itertools.cycle(files[:: max(1, len(files) // count)]), count)
    for number, file in enumerate(chosen):
        shutil.copyfile(file, out / "all" / f"{number:06d}{file.suffix}")
        if number < NUM_FEW:
            shutil.copyfile(file, out / "few" / f"{number:06d}{file.suffix}")


def run_worker(checkout: str, step: str, folder: Path) -> None:
    sys.path.insert(0, checkout)
    from kkanji_jax.glyphs.glyph_image import glyph_steps
    from kkanji_jax.glyphs.image_files import load_picture

    files = sorted(folder.iterdir())
    pictures = [load_picture(file) for file in files]

    def decode() -> int:
        for file in files:
            load_picture(file)
        return len(files)

    def make_glyphs() -> int:
        for picture in pictures:
            glyph_steps(picture)
        return len(files)

    turns.serve({"decode": decode, "glyph": make_glyphs}[step])


def compare_steps(folder: Path, checkouts: dict[str, Path], rounds: int) -> None:
    """Prints what decoding and making a glyph cost, and against the other checkout."""
    commands = {
        f"{name}, {step}": [__file__, "--worker", str(checkout), step, "--glyphs", str(folder)]
        for step in ("decode", "glyph")
        for name, checkout in checkouts.items()
    }
    found = turns.take_turns(commands, rounds, num_cores=2)
    for name, own in found.items():
        cost_s = statistics.median(turn.cpu_s / turn.units for turn in own)
        print(f"{name}: {1e3 * cost_s:.2f} ms of CPU time an image")
        theirs = found.get(name.replace("ours", "theirs"), own)
        if theirs is not own:
            print(turns.comparison(name.replace("ours", "theirs"), turns.ratios(own, theirs)))


def spent(folder: Path, backend: str, checkout: Path, model: Path | None) -> tuple[float, float]:
    """Seconds of CPU time and of the clock that one command takes."""
    told = [] if model is None else ["--model", str(model.resolve())]
    before, begun_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "kkanji_jax.predict",
            str(folder),
            "--backend",
            backend,
            "--format",
            "csv",
            "--out",
            str(folder.parent / f"{checkout.name}-{backend}.csv"),
            *told,
        ],
        check=True,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stderr=subprocess.DEVNULL,
    )
    wall_s = time.perf_counter() - begun_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--glyphs", type=Path, required=True, help="folder of images")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version of this")
    parser.add_argument("--model", type=Path, metavar="M", help="default: the package's")
    parser.add_argument("--their-model", type=Path, metavar="M", help="of the other version")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", default=",".join(BACKENDS), metavar="A,B")
    parser.add_argument("--only-glyphs", action="store_true", help="do not read them")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        checkout, step = args.worker
        run_worker(checkout, step, args.glyphs)
        return 0
    backends = args.backends.split(",")
    checkouts = {"ours": turns.ROOT}
    if args.against:
        checkouts["theirs"] = args.against.resolve()
    models = {"ours": args.model, "theirs": args.their_model}
    found: dict[tuple[str, str], list[turns.Turn]] = {
        (name, backend): [] for backend in backends for name in checkouts
    }
    with tempfile.TemporaryDirectory() as scratch:
        copy_spread(args.glyphs, args.images, Path(scratch))
        compare_steps(Path(scratch) / "all", checkouts, args.rounds)
        if args.only_glyphs:
            return 0
        for _ in range(args.rounds):
            for name, backend in found:
                few = spent(Path(scratch) / "few", backend, checkouts[name], models[name])
                full = spent(Path(scratch) / "all", backend, checkouts[name], models[name])
                cpu_s, wall_s = full[0] - few[0], full[1] - few[1]
                found[name, backend].append(turns.Turn(cpu_s, wall_s, args.images - NUM_FEW))
    for (name, backend), own in found.items():
        by_clock = statistics.median(turn.units / turn.wall_s for turn in own)
        by_cpu = statistics.median(turn.units / turn.cpu_s for turn in own)
        print(f"{name}, {backend}: {by_clock:,.0f} images/s, {by_cpu:,.0f} a CPU second")
    if args.against:
        for backend in backends:
            pair = found["ours", backend], found["theirs", backend]
            print(turns.comparison(f"theirs, {backend}", turns.ratios(*pair)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
