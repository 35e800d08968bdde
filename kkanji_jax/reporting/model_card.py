"""The model card of a bundle, written from what the run recorded of itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from kkanji_jax.data.class_index import ClassIndex, character_of
from kkanji_jax.data.scripts import SCRIPTS, script_of

ATTRIBUTION = (
    '"KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" '
    "(created by NIJL and others), doi:10.20676/00000341"
)
# Of sources that are not part of it, by the name that their sample ids begin with.
MORE_ATTRIBUTIONS = {
    "char-shape": "『日本古典籍くずし字データセット』 (owned by NIJL and others, "
    "processed by CODH), doi:10.20676/00000340"
}
FEW_IMAGES = 10  # of a kana: fewer to learn from are named
# What a reader of old books would want to know, by the folder of M/eval that would tell it.
NUM_CONFUSIONS = 20
MEASURABLE = {
    "test": "its accuracy on images it has never seen (`evaluate --of test`)",
    "page_crops": "its accuracy on crops from photographs of pages, and on books outside the data",
}


def model_card(
    *,
    about: Mapping[str, Any],
    config: Mapping[str, Any],
    class_index: ClassIndex,
    train_counts: Mapping[str, int],
    environment: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
    calibration: Mapping[str, Any] | None,
    dtype: str,
    last_line: Mapping[str, Any] | None = None,
    confusions: Sequence[Mapping[str, str]] = (),
) -> str:
    """Markdown. `environment` is a run's env.json, `scores` its eval.json by evaluation.

    `last_line` is the last line of the run's metrics.jsonl, `confusions` the rows of the test's
    confusions.csv, the most frequent first.
    """
    model = config["model"]
    num_images = sum(train_counts[codepoint] for codepoint in class_index.codepoints)
    parts = [
        f"# kkanji_jax {model['variant']}: {len(class_index):,} characters",
        "Names the character in a 64x64 image of one handwritten Japanese character of before "
        "1900, white ink on black. It reads no lines and no pages, and names nothing outside its "
        "`index.json`: shown another character it answers with one of its own.",
        "## Characters it knows",
        _known(class_index, train_counts),
        "## Data and licence",
        f"Trained on {num_images:,} images of {len(class_index):,} characters (code points), "
        f"from {_attribution(scores)}, under CC BY-SA 4.0. These weights are an adaptation of that "
        "data and come under the same licence, with the same attribution.",
        *_pooled(scores),
        _table(_origin_rows(about, config, environment, last_line or {})),
        "## Scores",
        *(_scores_of(name, score) for name, score in sorted(scores.items())),
        *([] if scores else ["None: the run was exported without an evaluation."]),
        f"Weights are stored as {dtype}, which `bundle` above scores; a run's own are float32."
        if "bundle" in scores
        else f"Weights are stored as {dtype}; the scores above are of float32.",
        *_failures(scores.get("test"), confusions),
        "## Not measured",
        _list(_unknowns(scores, calibration)),
    ]
    return "\n\n".join(parts) + "\n"


def _attribution(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Whose images the dataset has, by the sources that an evaluation met."""
    met = {row["name"] for score in scores.values() for row in score.get("by_source") or ()}
    more = [text for source, text in MORE_ATTRIBUTIONS.items() if source in met]
    return ", and from ".join([ATTRIBUTION, *more])


def _known(class_index: ClassIndex, train_counts: Mapping[str, int]) -> str:
    """The kana of the index by name, those with few images apart; and how many others."""
    by_script: dict[str, list[str]] = {name: [] for name in SCRIPTS}
    for codepoint in class_index.codepoints:
        by_script[script_of(codepoint)].append(codepoint)
    kana, kanji, others = (by_script[name] for name in SCRIPTS)
    few = [codepoint for codepoint in kana if train_counts[codepoint] < FEW_IMAGES]
    text = f"{len(kana)} kana: {''.join(map(character_of, kana)) or 'none'}"
    if few:
        of = ", ".join(f"{character_of(each)} {train_counts[each]}" for each in few)
        text += f". Of these it has seen fewer than {FEW_IMAGES} images each: {of}"
    text += f". {len(kanji):,} kanji"
    text += f" and {len(others)} other signs" if others else ""
    return text + "; all of them are in `index.json`. Any other kana is misread, whatever it says."


def _origin_rows(
    about: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    last_line: Mapping[str, Any],
) -> list[tuple[str, Any]]:
    versions = environment.get("versions") or {}
    command = environment.get("command")
    return [
        ("dataset fingerprint", about.get("dataset_fingerprint")),
        ("manifest SHA-256", about.get("manifest_sha256")),
        ("weights", f"{about['weights']}, step {about['step']}"),
        ("config fingerprint", about.get("config_fingerprint")),
        ("seed", config["seed"]),
        ("command", f"`{' '.join(_public(command))}`" if command else None),
        ("started from", _source(config, about.get("warm_start"))),
        ("training", _training(last_line)),
        ("commit", environment.get("commit")),
        ("hardware", _hardware(environment)),
        ("software", ", ".join(f"{name} {v}" for name, v in versions.items() if v) or None),
    ]


def _source(config: Mapping[str, Any], warm_start: Mapping[str, Any] | None) -> str:
    """The weights that training began with; a folder's name may hold others by now."""
    if not config["init_from"]:
        return "nothing"
    folder = f"`{_cut(config['init_from'])}`"
    if warm_start is None:
        return f"the weights of {folder}"
    return (
        f"the {warm_start['weights']} weights of {folder} as it was then: step "
        f"{warm_start['step']}, trained on the dataset of manifest {warm_start['manifest_sha256']}"
    )


def _public(command: Sequence[str]) -> list[str]:
    """A command without the folders of the machine it ran on."""
    program, *rest = command
    shown = []
    for word in rest:
        flag, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        shown.append(f"{flag}{equals}{_cut(value)}")
    module = program.rpartition("/")[2].removesuffix(".py")
    return ["python", "-m", f"kkanji_jax.{module}", *shown]


def _cut(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] if path[:1] == "/" else path


def _training(last_line: Mapping[str, Any]) -> str | None:
    if "elapsed_s" not in last_line:
        return None
    return (
        f"{last_line['examples']:,} images shown in {last_line['step']:,} steps "
        f"({last_line['epoch']:.1f} epochs), {last_line['elapsed_s'] / 60:.0f} minutes"
    )


def _hardware(environment: Mapping[str, Any]) -> str | None:
    devices = environment.get("devices")
    if not devices:
        return None
    return f"{', '.join(devices)}; {environment.get('processors')} processors"


def _scores_of(name: str, score: Mapping[str, Any]) -> str:
    of = f"`{name}`: {score.get('split')} split, n = {score.get('num_examples'):,}"
    of += f", {score.get('weights')} weights, protocol {score.get('protocol')}"
    lines = [of, "", "| score | value | 95 % interval | n |", "|---|---|---|---|"]
    named = dict(score)
    named |= {f"top-1, {row['name']}": row["top1"] for row in score.get("by_script") or ()}
    for row in score.get("by_look") or ():
        named[f"top-1, {row['name']}"] = row["top1"]
        for verdict in row.get("verdicts", ())[:1]:
            name = f"of {row['name']}, right among `{verdict['verdict']}`"
            named[name] = verdict["accuracy"]
            named[f"of {row['name']}, share of `{verdict['verdict']}`"] = verdict["coverage"]
    if score.get("variant_tolerant"):
        named["top-1, any form of the character counts"] = score["variant_tolerant"]["top1"]
    for row in score.get("verdicts") or ():
        named[f"right among `{row['verdict']}`"] = row["accuracy"]
        named[f"share of `{row['verdict']}`"] = row["coverage"]
    for row in score.get("unknown", {}).get("by_score", ())[:1]:  # the one that verdicts go by
        of_unknown = {"n": row["auroc"]["n_unknown"]}
        named["characters outside the index: AUROC"] = {**row["auroc"], **of_unknown}
        named["characters outside the index: FPR at 95 %"] = {**row["fpr95"], **of_unknown}
    for key, value in named.items():
        if isinstance(value, Mapping) and {"value", "n", "ci95"} <= value.keys():
            lines.append(_score_row(key, value["value"], value["ci95"], value["n"]))
    for row in score.get("by_class_size", ()):
        if not row["n"]:
            continue
        label = f"top-1 in classes of {_size_of(row)}"
        lines.append(_score_row(label, row["top1"], row["ci95"], row["n"]))
    return "\n".join(lines)


def _size_of(row: Mapping[str, Any]) -> str:
    """A range of class sizes, in words."""
    if row["max"] is None:
        return f"{row['min']} or more training images"
    if row["min"] == row["max"]:
        return f"{row['min']} training image{'s' if row['min'] != 1 else ''}"
    return f"{row['min']} to {row['max']} training images"


def _score_row(name: str, value: float | None, interval: Sequence[float] | None, n: int) -> str:
    shown = "-" if value is None else f"{value:.4f}"
    reach = "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
    return f"| {name} | {shown} | {reach} | {n:,} |"


def _pooled(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    sources = sorted(
        {source for score in scores.values() for source in score.get("pool_official") or ()}
    )
    if not sources:
        return []
    return [
        f"The official test images of {', '.join(sources)} were split like all others: most are "
        "among its training images, and it has no score on that official test."
    ]


def _failures(test: Mapping[str, Any] | None, confusions: Sequence[Mapping[str, str]]) -> list[str]:
    """What went wrong on test: its rare classes, and its commonest confusions."""
    if test is None:
        return []
    failures = [
        f"Rare characters: of {row['n']:,} test images whose class has {_size_of(row)}, "
        f"{100 * row['top1']:.0f} % are read right."
        for row in test.get("by_class_size", ())
        if row["n"] and row["max"] is not None and row["max"] < 20
    ]
    pairs = [
        f"{row['true_character']} as {row['predicted_character']} ({row['count']})"
        for row in confusions[:NUM_CONFUSIONS]
    ]
    if pairs:
        failures.append(f"Commonest confusions on test, with their number: {', '.join(pairs)}.")
    return ["## Known failures", _list(failures)] if failures else []


def _unknowns(
    scores: Mapping[str, Mapping[str, Any]], calibration: Mapping[str, Any] | None
) -> list[str]:
    unknowns = [what for name, what in MEASURABLE.items() if name not in scores]
    if "unknown" not in scores.get("test", {}):
        unknowns.append("how well it tells characters it does not know (`evaluate --unknown`)")
    if calibration is None:
        unknowns.append("what its probabilities are worth: they are not calibrated")
    unknowns.append("hands, periods and prints that the Kuzushiji dataset does not hold")
    return unknowns


def _table(rows: Sequence[tuple[str, Any]]) -> str:
    told = [f"| {name} | {'not recorded' if value is None else value} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *told])


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
