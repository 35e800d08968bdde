"""python -m data_tools.inspect: the content of a DATASET, as text, sheets and a figure."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from data_tools.plan.audit import RULES
from data_tools.plan.audit_pictures import NO_CLASS, ids_in
from data_tools.view.audit_page import to_html
from data_tools.view.contact_sheet import draw_augmented_sheet, draw_sheet
from data_tools.view.dataset_view import (
    Dataset,
    Example,
    card,
    class_id_of,
    count_lines,
    describe,
    family_of,
    long_tail_figure,
    one_per_class,
    read_audit,
    read_pictures,
    spread,
)
from kkanji_jax import cli
from kkanji_jax.augment.policy import POLICIES, get_policy
from kkanji_jax.data.manifest import SPLITS
from kkanji_jax.files import file_named, written_whole
from kkanji_jax.random_streams import MAX_SEED

MAX_SHEET_IMAGES, MAX_CLASSES, MAX_AUGMENTED = 100, 80, 6


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "data_tools.inspect",
        "Shows what a DATASET holds. Without options: a summary.",
        "data/kuzushiji --character 春 --sheet spring.png",
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="a folder that build wrote")
    add("--of", choices=SPLITS, help="look at this split only")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--character", metavar="春|U+6625", help="list this character's examples")
    one.add_argument("--sample", metavar="ID", help="show one example, with its original or copies")
    one.add_argument(
        "--rule",
        choices=RULES,
        metavar="RULE",
        help=f"list what this rule of the audit found: {', '.join(RULES)}",
    )
    one.add_argument("--counts", action="store_true", help="images per class and split, as CSV")
    add(
        "--sheet",
        metavar="OUT.png",
        help="draw the chosen examples, or one of many classes",
    )
    add("--augmented", metavar="POLICY", help=f"the sheet shows copies by {'|'.join(POLICIES)}")
    add("--seed", type=int, metavar="N", help="seed of the augmented copies (default: 0)")
    add("--audit", metavar="OUT.html", help="the audit as a page, with small pictures")
    add("--long-tail", metavar="OUT.png", help="plot the images per class")
    return parser


def select(dataset: Dataset, options: argparse.Namespace) -> tuple[list[Example], str]:
    """Finds and prints the requested examples; returns them with the title of a sheet."""
    splits = (options.of,) if options.of else SPLITS
    if options.sample:
        family = family_of(dataset, options.sample, splits)
        mine = [example for example in family if example.sample_id == options.sample]
        if not mine:
            raise ValueError(
                f"no example {options.sample!r} in {', '.join(splits)} of {dataset.folder}; "
                "--character lists the ids of one character"
            )
        print("\n".join(describe(dataset, mine[0])))
        if options.sample != mine[0].parent_id:
            parents = [example for example in family if example.sample_id == example.parent_id]
            return [*parents, *mine], options.sample
        if len(family) > 1:
            print(f"copies     {len(family) - 1:,} written out")
        return family, options.sample
    if options.character:
        class_id = class_id_of(dataset, options.character)
        name = dataset.name_of(class_id)
        counts = ", ".join(f"{dataset.count(split, class_id):,} {split}" for split in splits)
        print(f"{name}, class {class_id}: {counts}")
        found = list(dataset.examples(splits, [class_id]))
        for example in found:
            print(f"{example.split:<5} {example.sample_id}")
        if not found:
            raise ValueError(f"{name} has no example in {', '.join(splits)} of {dataset.folder}")
        return found, f"{name}: {counts}"
    if options.counts:
        if options.sheet:
            raise ValueError("--counts prints a table: leave out --sheet, or --counts")
        print("\n".join(count_lines(dataset, splits)))
        return [], ""
    if not options.long_tail and not options.sheet and not options.audit:
        print("\n".join(card(dataset, splits)))
    if not options.sheet:
        return [], ""
    found = one_per_class(dataset, splits, MAX_AUGMENTED if options.augmented else MAX_CLASSES)
    if not found:
        raise ValueError(
            f"{dataset.folder} has no example in {', '.join(splits)}, of which a sheet could be "
            "drawn"
        )
    where = f"{dataset.folder.name}, {', '.join(splits)}"
    num_classes = len({c for s in splits for c in dataset.manifest["splits"][s]["class_counts"]})
    return found, f"{where}: {len(found)} of {num_classes:,} classes, the largest first"


def select_rule(dataset: Dataset, rule: str) -> tuple[list[Example], str]:
    """Prints what a rule of the audit found; returns the pictures that were kept of it."""
    found = read_audit(dataset.folder)["rules"][rule]
    names = [ids_in(finding) for finding in found["samples"]]
    print(f"{found['count']:,} {rule}: {found['finds']}; {found['action']}")
    for group in names:
        print(" ".join(group))
    pictures = read_pictures(dataset.folder)
    rows = {name: row for row, name in enumerate(pictures.sample_ids)} if pictures else {}
    examples = [
        Example(
            pictures.images[rows[name]], int(pictures.class_ids[rows[name]]), name, name, "", "", ""
        )
        for group in names
        for name in group
        if pictures and name in rows
    ]
    return examples, f"{dataset.folder.name}, {rule}: {found['finds']}"


def caption_of(dataset: Dataset, example: Example, options: argparse.Namespace) -> str:
    if options.rule:
        if example.class_id == NO_CLASS:
            return f"left out\n{example.sample_id}"
        return f"{dataset.name_of(example.class_id)}\n{example.sample_id.rpartition('/')[2]}"
    copy = example.sample_id.removeprefix(example.parent_id)
    if copy:
        return f"{example.split}\ncopy {copy[1:]}"
    if options.character or options.sample:
        return f"{example.split}\n{example.sample_id.rpartition('/')[2]}"
    splits = (options.of,) if options.of else SPLITS
    size = sum(dataset.count(split, example.class_id) for split in splits)
    return f"{dataset.name_of(example.class_id)}\n{size:,} images"


def _format_of(path: Path) -> str:
    """The format of a picture by its name; PNG if the name has no suffix, as for a pipe."""
    name = path.suffix.lower()
    if name not in ("", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".pdf"):
        raise ValueError(f"{path}: expected a picture's name, such as sheet.png, got {path.suffix}")
    return {"": "png", ".jpg": "jpeg", ".tif": "tiff"}.get(name, name.lstrip("."))


def _require_of_use(options: argparse.Namespace) -> None:
    """ValueError for an option that would change nothing."""
    if options.seed is not None and not options.augmented:
        raise ValueError("--seed is for --augmented: leave it out")
    if options.of and options.rule:
        raise ValueError(f"--rule {options.rule} is of all splits: leave out --of {options.of}")
    is_of_examples = options.character or options.sample or options.counts or options.sheet
    if options.of and (options.audit or options.long_tail) and not is_of_examples:
        flag = "--audit" if options.audit else "--long-tail"
        raise ValueError(f"{flag} shows all splits: leave out --of {options.of}")


def inspect(options: argparse.Namespace) -> None:
    """Prints and writes what was requested; ValueError if that is not possible."""
    for name in ("sheet", "audit", "long_tail"):
        text = getattr(options, name)
        if text is not None:
            setattr(options, name, file_named(text, f"--{name.replace('_', '-')}"))
    policy = get_policy(options.augmented) if options.augmented else None
    seed = options.seed or 0
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"--seed must be 0 to {MAX_SEED}, not {seed}")
    if policy and not options.sheet:
        raise ValueError("--augmented needs --sheet OUT.png as well, where its copies are drawn")
    _require_of_use(options)
    dataset = Dataset.open(options.dataset)
    if options.rule:
        examples, title = select_rule(dataset, options.rule)
        if options.sheet and not examples:
            raise ValueError(f"{dataset.folder} has kept no picture of what {options.rule} found")
    else:
        examples, title = select(dataset, options)
    if policy:
        examples = [example for example in examples if example.sample_id == example.parent_id]
        if not examples:
            raise ValueError(
                "--augmented needs an original, but all the examples chosen are copies: leave out "
                "--augmented, or --of"
            )
    if options.sheet:
        limit = MAX_AUGMENTED if policy else MAX_SHEET_IMAGES
        chosen = [examples[i] for i in spread(limit, len(examples))]
        images = [example.image for example in chosen]
        if policy:
            parents = [example.parent_id for example in chosen]
            sheet = draw_augmented_sheet(images, parents, policy, seed)
        else:
            captions = [caption_of(dataset, example, options) for example in chosen]
            sheet = draw_sheet(images, captions, 10, title)
        with written_whole(options.sheet) as unfinished:
            sheet.save(unfinished, format=_format_of(options.sheet))
        print(f"wrote {options.sheet}: {len(chosen):,} of {len(examples):,} examples")
    if options.audit:
        pictures = read_pictures(dataset.folder)
        page = to_html(dataset.manifest, read_audit(dataset.folder), pictures)
        with written_whole(options.audit) as unfinished:
            unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
        print(f"wrote {options.audit}: {len(page):,} bytes")
    if options.long_tail:
        figure = long_tail_figure(dataset)
        with written_whole(options.long_tail) as unfinished:
            figure.savefig(unfinished, dpi=150, format=_format_of(options.long_tail))
        print(f"wrote {options.long_tail}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 1 with one line on stderr."""
    options = make_parser().parse_args(argv)
    return cli.answer(lambda: inspect(options))


def run() -> NoReturn:
    """The process of `python -m data_tools.inspect` and kkanji-inspect."""
    cli.run(main, is_product=True)


if __name__ == "__main__":
    run()
