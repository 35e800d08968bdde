"""The sections of docs/RESULTS.md that compare runs: one thing varies, the rest is held."""

from collections.abc import Iterable, Sequence
from typing import Any

from results_tables import as_score, as_table

# What a recipe can vary. An axis is tested by a run that varies it, and not before.
AXES = {
    "sampling exponent": "`data.sampling_exponent`: class share ~ size to this power",
    "mixup or cutout": "mixing or erasing parts of images in training",
    "label smoothing": "`loss.label_smoothing`",
    "logit adjustment": "subtracting the log frequency of a class (arXiv:2007.07314)",
    "cosine head": "a classifier of normalised features and weights",
    "stem stride or input size": "`model.stem_stride` 1, or `model.image_px` other than 64",
    "augmentation strength": "`augment.policy`",
    "last epochs without augmentation": "clean images at the end of training",
    "small-shift averaging": "averaging the answers to shifted copies at test",
    "network size": "B1 to B7 instead of B0",
    "activations in bfloat16": "`model.dtype`",
    "seed": "the same run with another `seed`",
    "5050 protocol": "half of each class for training, as the published 94.28 %",
    "legacy protocol": "balanced first, split afterwards, against the honest split",
    "audit": "with and without the images that the audit drops",
}
_AXIS_OF_FIELD = {
    "data.sampling_exponent": "sampling exponent",
    "augment.mixup_alpha": "mixup or cutout",
    "loss.label_smoothing": "label smoothing",
    "model.stem_stride": "stem stride or input size",
    "augment.policy": "augmentation strength",
    "model.dtype": "activations in bfloat16",
}


# scripts/experiments/without_training.py varies these in a run that is there.
_AXES_WITHOUT_TRAINING = {"logit adjustment", "small-shift averaging", "audit"}


def axes_of(
    summaries: Iterable[dict[str, Any]],
    ablations: Iterable[dict[str, Any]],
    untrained: Iterable[dict[str, Any]],
) -> set[str]:
    """The axes that a table varies; ValueError for one that AXES does not have."""
    tested = {summary["axis"] for summary in summaries} - {None}
    if unknown := tested - AXES.keys():
        raise ValueError(f"no such axis: {min(unknown)}; wanted one of {', '.join(AXES)}")
    tested |= {f"{summary['dataset']['protocol']} protocol" for summary in summaries} & AXES.keys()
    tables = [table["rows"] for table in ablations]
    changes = [line for rows in tables for row in rows for line in row["changes"]]
    tested |= {_AXIS_OF_FIELD[line.partition(":")[0]] for line in changes}
    if any(len(row["runs"]) > 1 for rows in tables for row in rows):  # which differ in their seed
        tested.add("seed")
    return tested | _AXES_WITHOUT_TRAINING if list(untrained) else tested


def comparison(axis: str, summaries: Sequence[dict[str, Any]]) -> str:
    """Runs that differ in one thing, side by side: one table for all that share a title."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for summary in summaries:
        tables.setdefault(summary["title"], []).append(summary)
    return "\n\n".join([
        f"## Comparison: {axis}",
        f"What varies: {AXES[axis]}.",
        *(part for runs in tables.values() for part in _side_by_side(runs)),
    ])  # fmt: skip


def _side_by_side(summaries: Sequence[dict[str, Any]]) -> list[str]:
    common: set[str] = set()
    if len(summaries) > 1:
        common = set.intersection(*(set(summary["config_differences"]) for summary in summaries))
    rows = []
    for summary in summaries:
        varied = [f"`{line}`" for line in summary["config_differences"] if line not in common]
        for name, scores in summary["splits"].items():
            rows.append([
                summary["name"], "; ".join(varied) or "as it is", name,
                f"{scores['num_examples']:,}", as_score(scores["top1"]), as_score(scores["macro"]),
                f"{summary['training']['elapsed_s'] / 60:.0f} min",
            ])  # fmt: skip
    first = summaries[0]
    return [
        first["title"],
        *first["remarks"],
        as_table(["run", "its difference", "split", "n", "top-1", "macro", "training"], rows),
        "```bash\n" + "\n".join(first["commands"]) + "\n```",
    ]


def ablations_section(name: str, table: dict[str, Any]) -> str:
    """One change at a time, against the first row."""
    base = table["rows"][0]["runs"]

    def cells(runs: Sequence[dict[str, Any]], score: str) -> list[str]:
        values = {run["seed"]: run[score]["value"] for run in runs}
        gains = [values[run["seed"]] - run[score]["value"] for run in base if run["seed"] in values]
        each = ", ".join(f"{100 * value:.1f}" for value in values.values())
        gain = "" if runs is base else f"{100 * sum(gains) / len(gains):+.1f}"
        return [each, f"{100 * sum(values.values()) / len(values):.1f} %", gain]

    rows = [
        [row["name"], "; ".join(f"`{line}`" for line in row["changes"]) or "as it is",
         *cells(row["runs"], "top1"), *cells(row["runs"], "macro")[1:],
         f"{sum(run['elapsed_s'] for run in row['runs']) / len(row['runs']) / 60:.0f} min"]
        for row in table["rows"]
    ]  # fmt: skip
    first = base[0]
    low, high = first["top1"]["ci95"]
    head = ["run", "its difference", "top-1 by seed", "mean", "gain", "macro", "gain", "training"]
    return "\n\n".join([
        f"## Ablations: {name}",
        f"One change at a time (`configs/ablation.py`), {first['classes']} classes of every size, "
        f"{first['train_examples']:,} images for training, {first['steps']:,} steps, "
        f"scored on val (n = {first['num_examples']:,}): test is left for what is chosen. "
        f"A gain is the mean over the seeds that both runs have. One run's interval is about "
        f"{50 * (high - low):.1f} points each way. {table['hardware']}.",
        as_table(head, rows),
        "```bash\n"
        'export XLA_FLAGS="--xla_cpu_enable_fast_math=true --xla_cpu_prefer_vector_width=512"\n'
        "python scripts/experiments/ablations.py --source data/codh --scratch runs/ablations\n```",
    ])  # fmt: skip


def without_training_section(name: str, table: dict[str, Any]) -> str:
    """What a run's scores become when nothing is trained anew."""
    as_it_is = table["rows"]["as it is"]
    rows = [
        [what, f"{scores['top1']['n']:,}", *(
            cell for key in ("top1", "macro") for cell in (
                as_score(scores[key]),
                "" if scores is as_it_is
                else f"{100 * (scores[key]['value'] - as_it_is[key]['value']):+.1f}",
            )
        )]
        for what, scores in table["rows"].items()
    ]  # fmt: skip
    return "\n\n".join([
        f"## Without training anew: {name}",
        "On val. The run's logits moved by a multiple of the log of n, the training images of a "
        "class (arXiv:2007.07314; sampling in training went by the square root of n); "
        "probabilities averaged over moved copies of an image; and the blank images that the audit "
        "dropped put back. These have the same pixels, so one split would hold all of them: this "
        "is the most that they could cost.",
        as_table(["change", "n", "top-1", "gain", "macro", "gain"], rows),
        "```bash\npython scripts/experiments/without_training.py --model M "
        "--dataset data/release\n```",
    ])  # fmt: skip
