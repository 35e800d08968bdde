"""An eval.json as text for a terminal."""

from collections.abc import Sequence
from typing import Any

from kkanji_jax.data.manifest import LEAK_WARNING, LEAKY_PROTOCOL


def score_table(content: dict[str, Any]) -> str:
    """Every headline score with its n and interval, then the parts that it is made of."""
    lines = [
        f"{content['split']}  n={content['num_examples']:,}  {content['weights']} weights  "
        f"step {content['checkpoint_step']}  {content['num_classes']:,} classes",
        f"{'score':<30}{'value':>8}   {'95 % interval':<18}{'n':>8}",
    ]
    if content["protocol"] == LEAKY_PROTOCOL:
        lines.insert(0, LEAK_WARNING)
    macro = f"macro ({content['macro']['classes']:,} classes)"
    rows = [("top-1", content["top1"]), ("top-5", content["top5"]), (macro, content["macro"])]
    for average in ("macro", "weighted"):
        for name in ("precision", "f1"):
            rows.append((f"{average} {name}", content[f"{average}_{name}"]))
    rows += [(f"top-1, {row['name']}", row["top1"]) for row in content["by_script"]]
    looks = content.get("by_look", ())
    for row in looks if len({row["name"].split()[0] for row in looks}) > 1 else ():
        rows.append((f"top-1, {row['name']}", row["top1"]))
        rows += [
            ("  accepted of it: right", verdict["accuracy"])
            for verdict in row.get("verdicts", ())
            if verdict["verdict"] == "accept"
        ]
    rows += [(f"top-1, {row['name']}", row["top1"]) for row in content["by_source"]]
    if content["variant_tolerant"]:
        rows.append(("top-1, any form counts", content["variant_tolerant"]["top1"]))
    rows.append(("ece", content["ece"]))
    if content["ece_calibrated"]:
        rows.append(("ece, calibrated", content["ece_calibrated"]))
    rows.append(("aurc", content["risk_coverage"]["aurc"]))
    rows += [(f"raw weights: {key}", score) for key, score in content.get("raw", {}).items()]
    lines += [_row(name, score["value"], score["ci95"], score["n"]) for name, score in rows]
    for test in content["official_tests"]:
        for key in ("over_all_classes", "among_its_classes"):
            if key in test:
                name = f"{test['source']} {test['measure']}, {key.split('_')[0]}"
                lines.append(_row(name, *(test[key][part] for part in ("value", "ci95", "n"))))
    lines.append("top-1 by training images of a class")
    for row in content["by_class_size"]:
        top = "" if row["max"] is None else f"-{row['max']}"
        size = f"{row['min']}" if row["min"] == row["max"] else f"{row['min']}{top or '+'}"
        name = f"  {size} ({row['classes']:,} classes)"
        lines.append(_row(name, row["top1"], row["ci95"], row["n"]))
    if content["verdicts"]:
        lines.append("accuracy by verdict")
    for row in content["verdicts"] or ():
        accuracy, coverage = row["accuracy"], row["coverage"]
        stated = "-" if row["stated_accuracy"] is None else f"{row['stated_accuracy']:.4f}"
        line = _row(f"  {row['verdict']}", accuracy["value"], accuracy["ci95"], accuracy["n"])
        lines.append(f"{line}   val said {stated}; {100 * coverage['value']:.1f} % of the images")
    for row in content.get("unknown", {}).get("by_score", ()):
        for key in ("auroc", "fpr95"):
            score = row[key]
            name = f"outside, {row['score']}: {key}"
            lines.append(_row(name, score["value"], score["ci95"], score["n_unknown"]))
    return "\n".join(lines)


def _row(name: str, value: float | None, interval: Sequence[float] | None, n: int) -> str:
    shown = "-" if value is None else f"{value:.4f}"
    reach = "" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"
    return f"{name:<30}{shown:>8}   {reach:<18}{n:>8,}"
