"""Makes a bundle of a trained model: `python -m kkanji_jax.export --model runs/b0 --out BUNDLE`.

A bundle is a folder of plain files: rounded weights, the network as model.onnx, the characters,
the run's config, calibration and model card, and the digests of them all. Every command that takes
--model reads it. With --self-contained, one ONNX file for other programs instead:
`python -m kkanji_jax.export --model runs/b0 --onnx --self-contained --out b0.onnx`.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kkanji_jax import cli
from kkanji_jax.files import file_named, is_foreign, read_json, require_utf8

if TYPE_CHECKING:
    from kkanji_jax.reporting.model_card import RunRecords
    from kkanji_jax.saved.trained import Trained


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "kkanji_jax.export", __doc__ or "", "--model runs/b0 --out bundles/b0 --onnx"
    )
    parser.add_argument(
        "--model", metavar="M", help="folder of a run, or a bundle (default: the package's)"
    )
    parser.add_argument(
        "--out", required=True, metavar="OUT", help="a new folder, or a new .onnx file"
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "int8"),
        help="type of the weights; int8 halves the file and rounds more (default: that of the "
        "bundle, and float16 for a run)",
    )
    parser.add_argument(
        "--onnx",
        action=argparse.BooleanOptionalAction,
        help="with model.onnx; without it, --backend onnx also needs the onnx package "
        "(default: with, if that package is installed)",
    )
    parser.add_argument(
        "--self-contained",
        action="store_true",
        help="instead of a bundle, one ONNX file with weights, preprocessing and code points",
    )
    parser.add_argument(
        "--web",
        action="store_true",
        help="also write web/, a page that recognises characters in the browser",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        help="with --web: show examples from its training images beside each candidate",
    )
    parser.add_argument(
        "--weights", choices=("ema", "raw"), help="default: ema if the run kept an average"
    )
    parser.add_argument(
        "--which", choices=("best", "latest"), default="best", help="which checkpoint of the run"
    )
    return parser


def _check(args: argparse.Namespace) -> None:
    if args.dataset and not args.web:
        raise ValueError("--dataset gives the web page its examples: give --web too")
    if args.self_contained and args.onnx is False:
        raise ValueError("--self-contained is an ONNX file: it cannot be had with --no-onnx")
    if args.self_contained and args.web:
        raise ValueError("--web is a folder of a bundle: it cannot be had with --self-contained")
    if args.self_contained != (args.out.suffix == ".onnx"):
        raise ValueError(
            "--out must be FILE.onnx with --self-contained, and the name of a folder without, not "
            f"{args.out}"
        )


def export(args: argparse.Namespace) -> None:
    """Writes the bundle, or the one ONNX file."""
    _check(args)

    from kkanji_jax import __version__
    from kkanji_jax.config import fingerprint
    from kkanji_jax.export.bundle import export_bundle, export_self_contained
    from kkanji_jax.reporting.model_card import model_card
    from kkanji_jax.saved.bundle import CARD, Bundle, flatten
    from kkanji_jax.saved.trained import load_trained

    trained = load_trained(args.model, weights=args.weights, which=args.which)
    dtype = args.dtype or "float16"
    if trained.stale_calibration:
        print(f"warning: {trained.stale_calibration}", file=sys.stderr)
    if trained.is_bundle:
        about, held = _about_of(trained.path)
        dtype = args.dtype or held
        card = _stored_as((trained.path / CARD).read_text(encoding="utf-8"), held, dtype)
    else:
        records = _records_of(trained)
        about = {
            "weights": trained.weights,
            "step": trained.step,
            **trained.identity,
            "dataset_fingerprint": records.environment.get("dataset_fingerprint"),
            "config_fingerprint": fingerprint(trained.config),
            "package_version": __version__,
            "warm_start": _without_machine(trained.warm_start) if trained.warm_start else None,
        }
        card = model_card(trained, about, records, dtype)
    bundle = Bundle(
        about=about,
        config=_without_machine(trained.config),
        class_index=trained.class_index,
        variables=flatten(trained.params, "params") | flatten(trained.batch_stats, "batch_stats"),
        train_counts=trained.train_counts,
        calibration=trained.calibration,
        model_card=card,
    )
    if args.self_contained:
        export_self_contained(args.out, bundle, dtype)
        return
    export_bundle(
        args.out,
        bundle,
        dtype=dtype,
        with_onnx=_has_onnx(args.onnx),
        with_web=args.web,
        dataset=args.dataset,
    )


def _has_onnx(asked: bool | None) -> bool:
    """Whether a bundle gets model.onnx: as asked, or else if its package is installed."""
    if asked is not None:
        return asked
    is_there = importlib.util.find_spec("onnx") is not None
    if not is_there:
        told = 'the package that writes it is not installed: pip install "kkanji_jax[onnx]"'
        print(f"without model.onnx: {told}", file=sys.stderr)
    return is_there


def _without_machine(record: dict[str, Any]) -> dict[str, Any]:
    """A config or record in which each absolute path is cut to its last part."""
    cut: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            cut[name] = _without_machine(value)
        else:
            is_absolute = isinstance(value, str) and os.path.isabs(value)
            cut[name] = os.path.basename(value.rstrip("/")) if is_absolute else value
    return cut


def _about_of(bundle: Path) -> tuple[dict[str, Any], str]:
    """What a bundle says of its weights, and the type that they have in it."""
    content = _json_in(bundle / "config.json")
    return {k: v for k, v in content.items() if k not in ("config", "dtype")}, content["dtype"]


def _stored_as(card: str, held: str, dtype: str) -> str:
    """The card of a bundle of `held` weights, for those of them that are stored as `dtype`."""
    if dtype == held:
        return card
    told = f"Weights are stored as {dtype}, rounded from those of a bundle with {held}"
    return card.replace(f"Weights are stored as {held}", told)


def _records_of(trained: "Trained") -> "RunRecords":
    from kkanji_jax.reporting.model_card import RunRecords

    run = trained.path
    scores = _scores_of(trained)
    return RunRecords(
        environment=_json_in(run / "env.json"),
        scores=scores,
        last_line=_last_line(run / "metrics.jsonl"),
        confusions=_table_in(run / "eval" / "test" / "confusions.csv") if "test" in scores else [],
    )


def _json_in(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _last_line(path: Path) -> dict[str, Any]:
    from kkanji_jax.training.metrics_file import read_metrics

    lines = read_metrics(path) if path.exists() else []
    return lines[-1] if lines else {}


def _table_in(path: Path) -> list[dict[str, str]]:
    from kkanji_jax.evaluation.csv_tables import read_csv

    return read_csv(path) if path.exists() else []


def _scores_of(trained: "Trained") -> dict[str, Any]:
    """eval.json by the name of its folder, without those of other weights, which are told."""
    found = {}
    for path in sorted((trained.path / "eval").glob("*/eval.json")):
        content = _json_in(path)
        step = content.get("checkpoint_step", trained.step)
        weights = content.get("weights", trained.weights)
        if (step, weights) == (trained.step, trained.weights):
            found[path.parent.name] = content
        else:
            told = f"warning: {path} scores the {weights} weights of step {step}, not the"
            print(
                f"{told} {trained.weights} ones of step {trained.step}: it is left out of the "
                "model card; evaluate again",
                file=sys.stderr,
            )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Exports; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)

    def work() -> None:
        args.out = file_named(args.out, "--out") if args.self_contained else Path(args.out)
        require_utf8(args.out.resolve())  # the onnx package opens only such paths
        export(args)
        if args.out.is_file():
            print(f"wrote {args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
            return
        files = sorted(path for path in args.out.iterdir() if not is_foreign(path.name))
        size = sum(path.stat().st_size for path in files if path.is_file())
        print(f"wrote {args.out}: {', '.join(path.name for path in files)}; {size / 1e6:.1f} MB")

    return cli.answer(work)


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.export` and kkanji-export."""
    cli.run(main)


if __name__ == "__main__":
    run()
