"""Scores on somebody's own labelled images, which belong to no dataset."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kkanji_jax.cli import Report, say_nothing
from kkanji_jax.data.class_index import character_of
from kkanji_jax.evaluation.csv_tables import write_csv
from kkanji_jax.evaluation.intervals import share
from kkanji_jax.files import write_json
from kkanji_jax.inference.recogniser import Recogniser
from kkanji_jax.inputs.image_input import shown_path
from kkanji_jax.inputs.labelled_images import Labelled, open_labelled
from kkanji_jax.inputs.python_images import ImageError

TOP = 5
BATCH_SIZE = 128
SCORES, READINGS, CONFUSIONS = "images.json", "images.csv", "images_confusions.csv"
CONFUSIONS_FIGURE = "images_confusions.png"


class Answer(NamedTuple):
    """What was read: code points, best first, the verdict, and what is remarkable of the image."""

    labelled: Labelled
    codepoints: tuple[str, ...] = ()
    verdict: str = ""
    error: str = ""
    remarks: tuple[str, ...] = ()


def read_labelled(
    recogniser: Recogniser,
    labelled: list[Labelled],
    report: Report = say_nothing,
    orient: str = "no",
) -> list[Answer]:
    """What the model reads in each image; an image that cannot be read has its error.

    `orient` is as `Recogniser.predict` takes it.
    """
    answers: list[Answer] = []
    for start in range(0, len(labelled), BATCH_SIZE):
        batch = labelled[start : start + BATCH_SIZE]
        opened = [_opened(item) for item in batch]
        sources = [item.image for item in opened if not item.error]
        readings = iter(recogniser.predict(sources, TOP, orient=orient, on_error="row"))
        for item, there in zip(batch, opened, strict=True):
            reading = ImageError(there.error, 0, item.path) if there.error else next(readings)
            if isinstance(reading, ImageError):
                # Its number is that of a batch, of which nobody knows.
                told = str(reading).removesuffix(f" (image {reading.number})")
                answers.append(Answer(item, error=told))
            else:
                names = tuple(candidate.codepoint for candidate in reading)
                answers.append(Answer(item, names, reading.verdict, remarks=reading.remarks))
        report("images", len(answers), len(labelled))
    return answers


def _opened(item: Labelled) -> Labelled:
    """With its image, or why there is none."""
    if item.error:
        return item
    try:
        return item._replace(image=open_labelled(item))
    except (ValueError, OSError) as err:
        return item._replace(error=" ".join(str(err).split()))


def scores_of(answers: list[Answer], known: frozenset[str]) -> dict[str, Any]:
    """Shares with n and interval; characters that the index lacks are counted apart.

    `top1` and `top5` are of readable images whose character is in `known`: one without candidates,
    as a blank one, counts as wrong. A verdict's `precision` is of all readable images with it, so
    that what cannot be right counts against it.
    """
    read = [answer for answer in answers if not answer.error]
    inside = [answer for answer in read if answer.labelled.codepoint in known]
    outside = [answer for answer in read if answer.labelled.codepoint not in known]
    by_verdict: dict[str, list[Answer]] = {}
    for answer in read:
        by_verdict.setdefault(answer.verdict or "none", []).append(answer)
    lacking = Counter(answer.labelled.codepoint for answer in outside)
    return {
        "num_images": len(answers),
        "num_unreadable": len(answers) - len(read),
        "top1": share(_num_right(inside, 1), len(inside)),
        "top5": share(_num_right(inside, TOP), len(inside)),
        "verdicts": {
            verdict: {
                "precision": share(_num_right(those, 1), len(those)),
                "num_outside_index": sum(a.labelled.codepoint not in known for a in those),
            }
            for verdict, those in sorted(by_verdict.items())
        },
        "outside_index": {
            "num_images": len(outside),
            "num_characters": len(lacking),
            "characters": dict(sorted(lacking.items())),
        },
    }


def _num_right(answers: list[Answer], top: int) -> int:
    return sum(answer.labelled.codepoint in answer.codepoints[:top] for answer in answers)


def score_lines(scores: dict[str, Any]) -> Iterator[str]:
    """The scores as text for a terminal."""
    yield f"{scores['num_images']:,} images, {scores['num_unreadable']:,} could not be read"
    yield f"{'score':<24}{'value':>8}   {'95 % interval':<18}{'n':>8}"
    yield _line("top-1", scores["top1"])
    yield _line("top-5", scores["top5"])
    for verdict, told in scores["verdicts"].items():
        yield _line(f"right where {verdict}", told["precision"])
    outside = scores["outside_index"]
    if outside["num_images"]:
        first = " ".join(f"{character_of(c)} {c}" for c in list(outside["characters"])[:20])
        yield (
            f"apart: {outside['num_images']:,} images of {outside['num_characters']:,} characters "
            f"that the model lacks, which it cannot read right: {first}"
        )


def _line(name: str, told: dict[str, Any]) -> str:
    if not told["n"]:
        return f"{name:<24}{'-':>8}   {'':<18}{0:>8}"
    low, high = told["ci95"]
    interval = f"{low:.1%} to {high:.1%}"
    return f"{name:<24}{told['value']:>8.1%}   {interval:<18}{told['n']:>8,}"


def write_labelled(out: Path, answers: list[Answer], scores: dict[str, Any]) -> None:
    """Writes SCORES, READINGS (each image) and CONFUSIONS (each error, most frequent first).

    `scores` may hold more than `scores_of` gave.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SCORES, scores)
    heading = ["path", "codepoint", "is_right", "verdict", "error"]
    heading += [*(f"candidate_{rank}" for rank in range(1, TOP + 1)), "remark"]
    rows = [heading]
    for answer in answers:
        is_right = answer.labelled.codepoint in answer.codepoints[:1]
        own = [shown_path(answer.labelled.path), answer.labelled.codepoint, str(int(is_right))]
        padded = [*answer.codepoints, *[""] * (TOP - len(answer.codepoints))]
        remark = "; ".join(answer.remarks)
        rows.append([*own, answer.verdict, answer.error, *padded, remark])
    write_csv(out / READINGS, rows)
    errors = Counter(
        (answer.labelled.codepoint, answer.codepoints[0] if answer.codepoints else "")
        for answer in answers
        if not answer.error and answer.labelled.codepoint not in answer.codepoints[:1]
    )
    told = [["true", "read", "true_character", "read_character", "count"]]
    for (true, read), count in sorted(errors.items(), key=lambda pair: (-pair[1], pair[0])):
        characters = [character_of(true), character_of(read) if read else ""]
        told.append([true, read, *characters, str(count)])
    write_csv(out / CONFUSIONS, told)
