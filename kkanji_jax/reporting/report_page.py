"""A run's scores and figures as one HTML page that needs nothing else."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from kkanji_jax.plots.evaluated import Evaluated

MOST_SUSPECTS = 50

_STYLE = """
:root{--ink:#222;--faint:#6f6f6f;--line:#e4e2dc;--accent:#24496e;--warm:#c2512f}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1rem;color:var(--ink);background:#fff;line-height:1.5;
font-family:system-ui,"Noto Sans JP","Noto Sans CJK JP","Hiragino Sans","IPAexGothic",sans-serif}
h1{font-size:1.6rem;margin:.4rem 0}h2{margin:2.2rem 0 .6rem;border-top:2px solid var(--ink);
padding-top:.6rem}h3{margin:1.4rem 0 .4rem}p{max-width:46rem}
nav a{margin-right:1rem}a{color:var(--accent)}
.faint{color:var(--faint);font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));
gap:.6rem;margin:1rem 0}
.tile{border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem}
.tile b{display:block;font-size:1.5rem;color:var(--accent)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem .25rem 0;text-align:right;
border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}
td.text,th.text{text-align:left}td.glyph{font-size:1.25rem;text-align:left}
figure{margin:1.2rem 0;overflow-x:auto}img{max-width:100%;height:auto}
@media(max-width:34rem){table{font-size:.8rem}th,td{padding-right:.45rem}
img{max-width:none;width:38rem}}
summary{cursor:pointer;padding:.4rem 0}
@media print{details{display:block}}
"""


class Picture(NamedTuple):
    """A drawn figure: its file's name without suffix, and PNG bytes."""

    name: str
    png: bytes


def page(
    run: str,
    splits: Sequence[Evaluated],
    pictures: Sequence[Picture],
    provenance: Sequence[tuple[str, str]],
) -> str:
    """The whole page. `splits` come most important first; the first one gives the tiles."""
    names = [split.split for split in splits]
    of_training = [picture for picture in pictures if not picture.name.endswith(tuple(names))]
    nav = "".join(f'<a href="#{name}">{name}</a>' for name in [*names, "training", "provenance"])
    parts = [
        f"<h1>{escape(run)}</h1>",
        _headline(splits[0]) if splits else "<p>Not evaluated yet: no scores but training's.</p>",
        f"<nav>{nav}</nav>",
    ]
    for split in splits:
        own = [picture for picture in pictures if picture.name.endswith(f"_{split.split}")]
        parts.append(_split_section(split, own))
    parts.append(f'<h2 id="training">Training</h2>{_figures(of_training)}')
    rows = [[escape(name), f'<span class="faint">{escape(value)}</span>']
            for name, value in provenance]  # fmt: skip
    parts.append('<h2 id="provenance">Where the numbers come from</h2>' + _METHOD)
    parts.append(_table(["", ""], rows, text_columns=(1,)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(run)}: report</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


_METHOD = (
    "<p>Every image of a split is scored once. A score stands with the number n of images that "
    "it rests on and, in brackets, its 95 % interval: a percentile bootstrap over images, or the "
    "exact binomial bound where all are right or all are wrong. Macro means run over the classes "
    "that have an image in the split. The expected calibration error (ECE) is the mean gap "
    "between probability and accuracy over 15 bins of equally many images. Temperature and "
    "thresholds of the verdicts were fitted on val, at its natural frequency of characters.</p>"
)


def _headline(split: Evaluated) -> str:
    content = split.content
    tiles = [("top-1", content["top1"]), ("top-5", content["top5"]),
             ("mean per class", content["macro"])]  # fmt: skip
    if content.get("ece_calibrated"):
        tiles.append(("ECE, calibrated", content["ece_calibrated"]))
    boxes = [_tile(_percent(score["value"]), name, _interval(score)) for name, score in tiles]
    for row in content.get("verdicts") or ():
        if row["verdict"] == "accept" and row["accuracy"]["value"] is not None:
            note = f"of the {_percent(row['coverage']['value'])} that are accepted"
            boxes.append(_tile(_percent(row["accuracy"]["value"]), "right", note))
    said = (
        f"{content['split']} split, n = {content['num_examples']:,} images of "
        f"{content['num_classes']:,} classes, {content['weights'].upper()} weights of step "
        f"{content['checkpoint_step']:,}, {split.protocol}"
    )
    return f'<p class="faint">{escape(said)}</p><div class="tiles">{"".join(boxes)}</div>'


def _tile(value: str, name: str, note: str) -> str:
    return f'<div class="tile"><b>{value}</b>{name}<br><span class="faint">{note}</span></div>'


def _split_section(split: Evaluated, pictures: Sequence[Picture]) -> str:
    content = split.content
    parts = [f'<h2 id="{split.split}">{split.split}</h2>', f"<p>{escape(split.subtitle)}</p>"]
    names = ("top1", "top5", "macro", "macro_precision", "macro_recall", "macro_f1",
             "weighted_precision", "weighted_recall", "weighted_f1")  # fmt: skip
    rows = [_score_row(_said(name), content[name]) for name in names]
    tolerant = content.get("variant_tolerant")
    if tolerant:
        label = f"top-1, any form counts ({tolerant['classes']} classes)"
        rows.append(_score_row(label, tolerant["top1"]))
    for name, score in content.get("raw", {}).items():
        if name != "loss":
            rows.append(_score_row(f"{_said(name)}, raw weights", score))
    parts.append(_table(["score", "value", "95 % interval", "n"], rows))
    parts.append("<h3>By training images of a class</h3>")
    parts.append(_table(["images", "classes", "top-1", "95 % interval", "n"], [
        [_range(row), f"{row['classes']:,}", _percent(row["top1"]),
         _interval({"ci95": row["ci95"]}), f"{row['n']:,}"]
        for row in content["by_class_size"] if row["classes"]
    ]))  # fmt: skip
    for title, key in (("By script", "by_script"), ("By source", "by_source")):
        if content.get(key):
            parts += [f"<h3>{title}</h3>", _group_table(content[key])]
    for test in content.get("official_tests", ()):
        parts.append(_official(test))
    if content.get("verdicts"):
        parts += ["<h3>Verdicts</h3>", _verdict_table(content)]
    if content.get("unknown"):
        parts += ["<h3>Characters outside the index</h3>", _unknown_table(content["unknown"])]
    parts.append(_figures(pictures))
    parts += [_class_details(split), _suspect_details(split)]
    return "\n".join(parts)


def _group_table(rows: Sequence[dict[str, Any]]) -> str:
    return _table(
        ["", "classes", "top-1", "95 % interval", "top-5", "mean per class", "n"],
        [
            [escape(row["name"]), f"{row['classes_with_examples']:,}",
             _percent(row["top1"]["value"]), _interval(row["top1"]),
             _percent(row["top5"]["value"]), _percent(row["macro"]["value"]), f"{row['n']:,}"]
            for row in rows
        ],
    )  # fmt: skip


def _official(test: dict[str, Any]) -> str:
    whole = "whole" if test["is_whole"] else f"{test['n']:,} of its {test['of']:,} images"
    measure = "balanced accuracy" if test["measure"] == "balanced" else "top-1"
    title = f"<h3>{escape(test['source'])}, the official test ({whole}): {measure}</h3>"
    if "why_not" in test:
        return f"{title}<p>No score: {escape(test['why_not'])}.</p>"
    rows = [
        _score_row(name, test[key])
        for name, key in (
            ("over all classes of the index", "over_all_classes"),
            ("among its own classes, as published", "among_its_classes"),
        )
    ]
    return title + _table(["", "value", "95 % interval", "n"], rows)


def _verdict_table(content: dict[str, Any]) -> str:
    rows = [
        [row["verdict"], _percent(row["accuracy"]["value"]), _interval(row["accuracy"]),
         _percent(row["stated_accuracy"]), _percent(row["coverage"]["value"]),
         _percent(row["top5"]["value"]), f"{row['accuracy']['n']:,}"]
        for row in content["verdicts"]
    ]  # fmt: skip
    note = (
        f"Temperature {content['calibration']['temperature']:.3f}. ECE "
        f"{_percent(content['ece']['value'])} before, "
        f"{_percent(content['ece_calibrated']['value'])} after. Val said: the accuracy stated when "
        "the thresholds were fitted."
    )
    head = ["verdict", "right", "95 % interval", "val said", "share", "in top-5", "n"]
    return _table(head, rows) + f'<p class="faint">{note}</p>'


def _unknown_table(unknown: dict[str, Any]) -> str:
    rows = [
        [escape(row["score"].replace("_", " ")), f"{row['auroc']['value']:.4f}",
         f"{row['auroc']['ci95'][0]:.4f}–{row['auroc']['ci95'][1]:.4f}",
         _percent(row["fpr95"]["value"]), _interval(row["fpr95"])]
        for row in unknown["by_score"]
    ]  # fmt: skip
    head = ["told by", "AUROC", "95 % interval", "FPR at 95 %", "95 % interval"]
    note = f"{unknown['n_unknown']:,} images of {unknown['classes']:,} characters."
    if unknown["verdicts"]:
        shares = [f"{_percent(score['value'])} {name}"
                  for name, score in unknown["verdicts"].items()]  # fmt: skip
        note += f" Their verdicts: {', '.join(shares)}."
    return _table(head, rows) + f'<p class="faint">{escape(note)}</p>'


def _class_details(split: Evaluated) -> str:
    rows = [row for row in split.table("per_class.csv") if row["n"] != "0"]
    if not rows:
        return ""
    rows.sort(key=lambda row: (float(row["recall"]), -int(row["n"]), row["codepoint"]))
    cells = [
        [row["codepoint"], escape(row["character"]), row["train_images"], row["n"],
         _percent(float(row["recall"])),
         _percent(float(row["precision"])) if row["precision"] else "–",
         _percent(float(row["f1"])),
         f"{escape(_character(row['most_read_as']))} {row['most_read_as']} "
         f"×{row['most_read_as_count']}" if row["most_read_as"] else ""]
        for row in rows
    ]  # fmt: skip
    head = ["class", "", "train images", "n", "recall", "precision", "F1", "most often read as"]
    table = _table(head, cells, text_columns=(7,), glyph_columns=(1,))
    return (
        f"<details><summary>All {len(rows):,} classes of {split.split}, worst recall first"
        f"</summary>{table}</details>"
    )


def _suspect_details(split: Evaluated) -> str:
    rows = split.table("suspects.csv")
    if not rows:
        return ""
    cells = [
        [escape(row["sample_id"]), escape(row["label_character"]),
         escape(row["read_as_character"]), f"{float(row['label_probability']):.2g}",
         f"{float(row['read_as_probability']):.2f}"]
        for row in rows[:MOST_SUSPECTS]
    ]  # fmt: skip
    head = ["image", "label", "read as", "p of label", "p of reading"]
    return (
        f"<details><summary>{len(cells)} suspected label errors of {split.split}, likeliest first"
        f"</summary>{_table(head, cells, glyph_columns=(1, 2))}</details>"
    )


def _figures(pictures: Iterable[Picture]) -> str:
    return "\n".join(
        f'<figure><img loading="lazy" alt="{escape(picture.name.replace("_", " "))}" '
        f'src="data:image/png;base64,{base64.b64encode(picture.png).decode()}"></figure>'
        for picture in pictures
    )


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: Sequence[int] = (),
    glyph_columns: Sequence[int] = (),
) -> str:
    """A table of cells that are HTML already, in a frame that scrolls where a phone is narrow."""
    kinds = dict.fromkeys(text_columns, ' class="text"') | dict.fromkeys(
        glyph_columns, ' class="glyph"'
    )
    lines = "".join(
        "<tr>"
        + "".join(f"<td{kinds.get(i, '')}>{cell}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    titles = "".join(f"<th{kinds.get(i, '')}>{name}</th>" for i, name in enumerate(head))
    top = f"<thead><tr>{titles}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table>{top}<tbody>{lines}</tbody></table></div>'


def _score_row(name: str, score: dict[str, Any]) -> list[str]:
    return [escape(name), _percent(score["value"]), _interval(score), f"{score['n']:,}"]


def _said(name: str) -> str:
    return name.replace("_", " ").replace("top", "top-")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _interval(score: dict[str, Any]) -> str:
    if score["ci95"] is None:
        return "–"
    return f"{100 * score['ci95'][0]:.2f}–{100 * score['ci95'][1]:.2f}"


def _range(row: dict[str, Any]) -> str:
    if row["max"] is None:
        return f"{row['min']} and more"
    return str(row["min"]) if row["min"] == row["max"] else f"{row['min']}–{row['max']}"


def _character(codepoint: str) -> str:
    return chr(int(codepoint[2:], 16))
