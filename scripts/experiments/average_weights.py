"""A model between a run and the model that it began with: less is forgotten, less is learnt.

    python scripts/experiments/average_weights.py runs/release-cpu_kana_end --share 0.85 \\
        --out runs/release-average [--base BUNDLE]

Weights and batch statistics are --share of the run's and the rest of those of --base (the package's
model), as in arXiv:2109.01903. The classifier's columns follow their code points; a character that
only the run knows keeps the run's column. OUT is a folder like a finished run's, to be evaluated,
calibrated and exported; its log and config are the run's. It cannot be trained on: begin another
run with --config.init_from=OUT.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from edited_runs import require_new, write_run

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.saved.trained import Trained, load_trained


def between(base: Any, run: Any, share: float) -> Any:
    """Each array of two equal trees: `share` of the run's, the rest of the base's, in float32."""
    import jax

    return jax.tree.map(
        lambda old, new: np.asarray((1 - share) * old + share * new, np.float32), base, run
    )


def classifier_between(
    base: dict[str, np.ndarray],
    run: dict[str, np.ndarray],
    of_base: ClassIndex,
    of_run: ClassIndex,
    share: float,
) -> dict[str, np.ndarray]:
    """`between` for the classifier, by code point; what the base does not know is the run's."""
    column_of = {codepoint: i for i, codepoint in enumerate(of_base.codepoints)}
    columns = np.array([column_of.get(codepoint, -1) for codepoint in of_run.codepoints])
    return {
        name: np.where(
            columns >= 0,
            (1 - share) * base[name][..., np.maximum(columns, 0)] + share * value,
            value,
        ).astype(np.float32)
        for name, value in run.items()
    }


def average(base: Trained, run: Trained, share: float) -> tuple[Any, Any]:
    """(weights, batch statistics) between two models of one network; ValueError if they differ."""
    if not 0 <= share <= 1:
        raise ValueError(f"--share must be 0 (the base) to 1 (the run), not {share}")
    for name in ("variant", "stem_stride", "last_stride"):
        held, other = (trained.config["model"].get(name, 2) for trained in (base, run))
        if held != other:
            raise ValueError(
                f"{base.path} and {run.path} are different networks: model.{name} is {held} and "
                f"{other}"
            )
    rest = [
        {name: part for name, part in trained.params.items() if name != "classifier"}
        for trained in (base, run)
    ]
    classifier = classifier_between(
        base.params["classifier"],
        run.params["classifier"],
        base.class_index,
        run.class_index,
        share,
    )
    params = between(rest[0], rest[1], share) | {"classifier": classifier}
    return params, between(base.batch_stats, run.batch_stats, share)


def write(workdir: Path, base: Path | None, share: float, out: Path) -> None:
    """Writes OUT; refuses one that is there."""
    require_new(workdir, out)
    run, old = load_trained(workdir), load_trained(base)
    params, batch_stats = average(old, run, share)
    weights_sha256 = hashlib.sha256(
        b"".join(np.ascontiguousarray(part).tobytes() for part in old.params["classifier"].values())
    ).hexdigest()
    record = {
        "share_of_the_run": share,
        "folder": old.path.name,
        "step": old.step,
        "weights": old.weights,
        "classifier_sha256": weights_sha256,
        **old.identity,
    }
    write_run(out, run, params, batch_stats, {"averaged_with": record})
    print(f"{out}: {share:g} of {workdir}, {1 - share:g} of {old.path}; {json.dumps(record)}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument("--base", type=Path, metavar="M", help="default: the package's model")
    parser.add_argument("--share", type=float, required=True, help="of the run: 0 to 1")
    parser.add_argument("--out", type=Path, required=True, metavar="WORKDIR", help="a new folder")
    args = parser.parse_args(argv)
    try:
        write(args.workdir, args.base, args.share, args.out)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
