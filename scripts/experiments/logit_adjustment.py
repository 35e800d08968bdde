"""A model that expects rare characters and kana more often: logits are raised, without training.

    python scripts/experiments/logit_adjustment.py runs/release-cpu_fine_end --factor 0.2 \\
        --below 100 --kana 0.75 --out runs/release-adjusted

A character with n training images, fewer than --below, gets --factor * log(below / n) added to its
bias (post-hoc logit adjustment, arXiv:2007.07314, section 4.1; capped, so that common characters
stay as they are). Every kana gets --kana, in nats: most characters on the page of a book are kana,
most training images are kanji (arXiv:1802.03916 on such a shift). OUT is a folder like a finished
run's, to be evaluated, calibrated and exported. `without_training.py` shows what each of these
changes on val. A run is adjusted once.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from edited_runs import require_new, write_run
from jaxtyping import Bool, Float32

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.scripts import script_of
from kkanji_jax.saved.trained import load_trained

RECORD = "logit_adjustment"


def raised_by(
    counts: Sequence[int], factor: float, below: int
) -> Float32[np.ndarray, " {len(counts)}"]:
    """What is added to the logit of each class, by its number of training images, in nats."""
    if not 0 <= factor < math.inf:
        raise ValueError(f"--factor must be at least 0 and finite, not {factor}")
    if below < 1:
        raise ValueError(f"--below must be at least 1, not {below}")
    images = np.clip(counts, 1, below)
    return (factor * np.log(below / images)).astype(np.float32)


def are_kana(class_index: ClassIndex) -> Bool[np.ndarray, " k"]:
    """Whether each class is a kana."""
    return np.array([script_of(codepoint) == "kana" for codepoint in class_index.codepoints])


def write(workdir: Path, factor: float, below: int, kana: float, out: Path) -> None:
    """Writes OUT; refuses one that is there, and a run that was adjusted before."""
    if not math.isfinite(kana):
        raise ValueError(f"--kana must be finite, not {kana}")
    require_new(workdir, out)
    run = load_trained(workdir)
    if RECORD in (run.warm_start or {}):
        raise ValueError(f"{workdir} was adjusted already: name the run that was trained")
    counts = [run.train_counts[codepoint] for codepoint in run.class_index.codepoints]
    added = raised_by(counts, factor, below) + np.float32(kana) * are_kana(run.class_index)
    classifier = run.params["classifier"]
    params = run.params | {"classifier": classifier | {"bias": classifier["bias"] + added}}
    record = {RECORD: {"factor": factor, "below": below, "kana": kana}}
    write_run(out, run, params, run.batch_stats, record)
    print(f"{out}: {np.count_nonzero(added):,} of {len(added):,} logits changed")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument("--factor", type=float, default=0.2, help="default: 0.2")
    parser.add_argument("--below", type=int, default=100, metavar="N", help="default: 100 images")
    parser.add_argument("--kana", type=float, default=0.0, metavar="NATS", help="default: 0")
    parser.add_argument("--out", type=Path, required=True, metavar="WORKDIR", help="a new folder")
    args = parser.parse_args(argv)
    try:
        write(args.workdir, args.factor, args.below, args.kana, args.out)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
