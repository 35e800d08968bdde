"""python -m data_tools.build: from source files to a DATASET: read, audit, split, write shards."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from data_tools.plan.build_plan import ENGINES, Options
from data_tools.plan.protocols import DEFAULT_RATIOS, PROTOCOLS, parse_books, parse_ratios
from data_tools.read.catalogue import BadFilesError
from data_tools.write.assemble import Outcome, assemble, assemble_slice, parse_slice
from kkanji_jax import cli
from kkanji_jax.augment.policy import POLICIES

RAY = "ray"  # of --engine: what works, rather than what augments


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "data_tools.build",
        "Builds a DATASET from a folder of CODH's files, or of your own. The same command resumes\n"
        "a build that was stopped.",
        "--source data/codh --out data/kuzushiji --min-images 2",
    )
    add = parser.add_argument
    add(
        "--source",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of CODH's files, or of your images (docs/data.md)",
    )
    add("--out", type=Path, required=True, metavar="DATASET", help="folder to write")
    add(
        "--protocol",
        choices=PROTOCOLS,
        default="honest",
        help="how splits are made: honest, each original by the hash of its pixels; 5050, half "
        "of each class for test; by-book, whole books held out; legacy, augmented before the "
        "split, to show the effect of leakage",
    )
    defaults = ", ".join(
        f"{name} {'/'.join(f'{ratio:g}' for ratio in ratios)}"
        for name, ratios in DEFAULT_RATIOS.items()
    )
    add("--ratios", metavar="A/B/C", help=f"train/val/test in percent (default: {defaults})")
    add("--splits-from", type=Path, metavar="CSV", help="a splits.csv whose assignments are kept")
    for name in ("val", "test"):
        add(
            f"--{name}-books",
            metavar="BOOK,...",
            type=parse_books,
            default=(),
            help=f"books whose images are {name}; all other images of known books are then train, "
            "and the rest are split as by --protocol honest (default: none)",
        )
    add("--leave-out", type=Path, metavar="CSV", help="images to drop: sample_id[,reason]")
    add(
        "--min-images",
        type=int,
        default=1,
        metavar="N",
        help="leave out classes with fewer images, counted after the audit",
    )
    add(
        "--per-class",
        type=int,
        metavar="N",
        help="write a balanced training set to disk, N examples of each class",
    )
    add(
        "--policy",
        choices=[name for name in POLICIES if name != "none"],
        help="how --per-class augments copies (default: glyph_safe; with legacy: legacy)",
    )
    add(
        "--engine",
        choices=(*ENGINES, RAY),
        default="device",
        help="what augments the copies: device, the JAX code of training; host, albumentations; "
        "ray: as device, and all work of the build is done on a Ray cluster (docs/scaling.md)",
    )
    add(
        "--address",
        metavar="A",
        help="address of the Ray cluster (default: RAY_ADDRESS, or this machine)",
    )
    add(
        "--pool-official",
        action="append",
        choices=["kmnist", "k49"],
        default=[],
        help="split this set's official test images like others; there is no official score then",
    )
    add(
        "--skip-bad",
        action="store_true",
        help="list unusable files and drop them, instead of stopping",
    )
    add("--seed", type=int, default=0, help="seed of splits, order and augmentation")
    add(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes that read and write; the bytes do not depend on it",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--shards",
        metavar="I:J",
        help="write only shards I to J - 1, while other processes write others",
    )
    part.add_argument(
        "--finish",
        action="store_true",
        help="complete the dataset from the shards that --shards wrote",
    )
    return parser


def _describe(out: Path, outcome: Outcome, elapsed_s: float) -> None:
    manifest, audit = outcome.manifest, outcome.audit
    if not outcome.is_new:
        print(f"{out} holds this dataset already: nothing to do")
        return
    counts = [f"{rule['count']:,} {name}" for name, rule in audit["rules"].items() if rule["count"]]
    print(f"audit: {audit['num_found']:,} images found, {audit['num_kept']:,} kept")
    print(f"audit: {', '.join(counts) or 'nothing to report'}")
    if audit["dropped_classes"]:
        num_images = sum(each["num_passed"] for each in audit["dropped_classes"])
        print(f"audit: {len(audit['dropped_classes']):,} classes left out, {num_images:,} images")
    for name, split in manifest["splits"].items():
        print(f"{name}: {split['num_examples']:,} examples of {split['num_classes']:,} classes")
    size = sum(shard["bytes"] for shard in manifest["shards"])
    kept = f", {outcome.num_resumed} of them from before" if outcome.num_resumed else ""
    print(
        f"{out}: {len(manifest['shards'])} shards{kept}, {size / 1e6:,.1f} MB, {elapsed_s:.0f} s; "
        f"all that was found or dropped is listed in {out / 'audit.json'}"
    )


def _say(line: str) -> None:
    print(line, flush=True)


def build(args: argparse.Namespace) -> None:
    """Builds what the options ask for, and prints what was built."""
    started_s = time.monotonic()
    options = Options(
        protocol=args.protocol,
        ratios=parse_ratios(args.ratios) if args.ratios else None,
        splits_from=args.splits_from,
        val_books=args.val_books,
        test_books=args.test_books,
        leave_out=args.leave_out,
        min_images=args.min_images,
        per_class=args.per_class,
        policy=args.policy,
        engine="device" if args.engine == RAY else args.engine,
        pool_official=tuple(sorted(set(args.pool_official))),
        skip_bad=args.skip_bad,
        seed=args.seed,
    )
    source, out, workers = args.source, args.out, args.workers
    if args.address and args.engine != RAY:
        raise ValueError("--address is for --engine ray: leave it out")
    if args.engine == RAY:
        if args.shards:
            raise ValueError("--engine ray writes all shards: leave out --shards")
        from data_tools.ray_workers import RayWorkers

        source, out = source.absolute(), out.absolute()  # a node has a working folder of its own
        workers = RayWorkers(args.address, args.workers)
    with cli.Progress() as progress:
        if args.shards:
            made = assemble_slice(
                args.source,
                args.out,
                options,
                parse_slice(args.shards),
                workers=args.workers,
                report=progress,
                say=_say,
            )
            kept = f", {made.num_resumed} of them from before" if made.num_resumed else ""
            print(
                f"{args.out}: {made.num_shards} of {made.num_all} shards are in --shards "
                f"{args.shards}, all written{kept}; --finish makes a dataset of all {made.num_all}"
            )
            return
        outcome = assemble(
            source,
            out,
            options,
            finish=args.finish,
            workers=workers,
            report=progress,
            say=_say,
        )
    _describe(args.out, outcome, time.monotonic() - started_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when the dataset is complete, 1 with one line on stderr otherwise."""
    args = make_parser().parse_args(argv)

    def work() -> None:
        try:
            build(args)
        except BadFilesError as err:
            for problem in err.problems:
                print(f"  {problem}", file=sys.stderr)
            raise

    interrupted = "stopped: the same command again goes on from here"
    return cli.answer(work, interrupted=interrupted)


def run() -> NoReturn:
    """The process of `python -m data_tools.build` and kkanji-build."""
    cli.run(main)


if __name__ == "__main__":
    run()
