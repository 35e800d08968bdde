"""The model card of a bundle, written from what the run recorded of itself."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kkanji_jax.data.class_index import ClassIndex, character_of
from kkanji_jax.data.scripts import SCRIPTS, script_of
from kkanji_jax.reporting.evaluation_view import EvaluationView
from kkanji_jax.reporting.rendering import render
from kkanji_jax.saved.trained import Trained

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
RARE = 20  # a class of fewer training images than this
MEASURABLE = {
    "test": "its accuracy on images it has never seen (`evaluate --of test`)",
    "page_crops": "its accuracy on crops from photographs of pages, and on books outside the data",
}


class RunRecords(NamedTuple):
    """What a run and its evaluations have written down, as their files have it."""

    environment: Mapping[str, Any]  # env.json
    scores: Mapping[str, Mapping[str, Any]]  # eval.json, by the name of the evaluation
    last_line: Mapping[str, Any]  # of metrics.jsonl; empty without one
    confusions: Sequence[Mapping[str, str]]  # confusions.csv of test, the most frequent first


def model_card(trained: Trained, about: Mapping[str, Any], records: RunRecords, dtype: str) -> str:
    """Markdown. `about` is what the bundle says of the weights, stored as `dtype`."""
    class_index, train_counts, scores = trained.class_index, trained.train_counts, records.scores
    evaluations = [(name, EvaluationView.of(score)) for name, score in sorted(scores.items())]
    test = dict(evaluations).get("test")
    pooled = {source for score in scores.values() for source in score.get("pool_official") or ()}
    return render(
        "model_card.md.j2",
        {
            "variant": trained.config["model"]["variant"],
            "num_classes": len(class_index),
            "num_images": sum(train_counts[codepoint] for codepoint in class_index.codepoints),
            "attribution": _attribution(scores),
            **_known(class_index, train_counts),
            "pooled": sorted(pooled),
            "origin": _origin_rows(about, trained.config, records.environment, records.last_line),
            "evaluations": evaluations,
            "dtype": dtype,
            "are_scored": dtype in scores,
            "rare": [
                row for row in test.filled_class_sizes if row.most is not None and row.most < RARE
            ]
            if test
            else [],
            "confusions": records.confusions[:NUM_CONFUSIONS] if test else [],
            "unmeasured": _unmeasured(dict(evaluations), trained.calibration),
        },
    )


def _attribution(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Whose images the dataset has, by the sources in the evaluations."""
    met = {row["name"] for score in scores.values() for row in score.get("by_source") or ()}
    more = [text for source, text in MORE_ATTRIBUTIONS.items() if source in met]
    return ", and from ".join([ATTRIBUTION, *more])


def _known(class_index: ClassIndex, train_counts: Mapping[str, int]) -> dict[str, Any]:
    """The characters of the index: kana by name, with those of few images; numbers of others."""
    by_script: dict[str, list[str]] = {name: [] for name in SCRIPTS}
    for codepoint in class_index.codepoints:
        by_script[script_of(codepoint)].append(codepoint)
    kana, kanji, others = (by_script[name] for name in SCRIPTS)
    return {
        "kana": [character_of(codepoint) for codepoint in kana],
        "few_images": FEW_IMAGES,
        "few": [
            (character_of(codepoint), train_counts[codepoint])
            for codepoint in kana
            if train_counts[codepoint] < FEW_IMAGES
        ],
        "num_kanji": len(kanji),
        "num_others": len(others),
    }


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
        *_averaged(about.get("warm_start") or {}),
        *_adjusted(about.get("warm_start") or {}),
        ("training", _training(last_line)),
        ("commit", environment.get("commit")),
        ("hardware", _hardware(environment)),
        ("software", ", ".join(f"{name} {v}" for name, v in versions.items() if v) or None),
    ]


def _averaged(warm_start: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row if the weights are an average of the run's and another model's."""
    other = warm_start.get("averaged_with")
    if not other:
        return []
    share = other["share_of_the_run"]
    told = (
        f"{100 * share:.0f} % of the run's weights, {100 * (1 - share):.0f} % of those of "
        f"`{other['folder']}` as it was then, step {other['step']} (average_weights.py)"
    )
    return [("averaged", told)]


def _adjusted(warm_start: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row if logits were raised after training."""
    how = warm_start.get("logit_adjustment")
    if not how:
        return []
    told = (
        f"after training, {how['factor']:g} log({how['below']}/n) was added to the logit of each "
        f"character with n training images, fewer than {how['below']}, and {how['kana']:g} to that "
        "of each kana (logit_adjustment.py)"
    )
    return [("adjusted", told)]


def _source(config: Mapping[str, Any], warm_start: Mapping[str, Any] | None) -> str:
    """The weights that training began with; the folder of that name may have others by now."""
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
    """A command without the folders of the machine on which it ran."""
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


def _unmeasured(
    evaluations: Mapping[str, EvaluationView], calibration: Mapping[str, Any] | None
) -> list[str]:
    missing = [what for name, what in MEASURABLE.items() if name not in evaluations]
    if "test" not in evaluations or evaluations["test"].unknown is None:
        missing.append("how well it tells characters it does not know (`evaluate --unknown`)")
    if calibration is None:
        missing.append("what its probabilities are worth: they are not calibrated")
    missing.append("hands, periods and prints that the Kuzushiji dataset does not hold")
    return missing
