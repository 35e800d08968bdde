"""Assigns each original to training, validation or test, before anything is augmented.

The only exception is `legacy`: it splits the augmented copies, to show the effect of that.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from data_tools.read.catalogue import Original, official_tests
from kkanji_jax.data.manifest import LEAKY_PROTOCOL, SPLITS

Ratios = tuple[float, float, float]
# Train/val/test in percent. In 5050 the test half stays whole: val is taken from training.
DEFAULT_RATIOS: dict[str, Ratios] = {
    "honest": (80.0, 10.0, 10.0),
    "5050": (45.0, 5.0, 50.0),
    "by-book": (80.0, 10.0, 10.0),
    LEAKY_PROTOCOL: (90.0, 10.0, 0.0),
}
PROTOCOLS = tuple(DEFAULT_RATIOS)


class Assignment(NamedTuple):
    """The split of each original, and why a class is left out; its splits are then ignored."""

    splits: list[str]
    left_out: dict[str, str]


def parse_ratios(text: str) -> Ratios:
    """`80/10/10` -> percentages of train, val and test; they sum to 100, train is over 0."""
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError:
        raise ValueError(
            f"--ratios must be train/val/test such as 80/10/10, not {text!r}"
        ) from None
    if not (train > 0 and val >= 0 and test >= 0 and abs(train + val + test - 100) < 1e-9):
        raise ValueError(f"--ratios must have train over 0 and a sum of 100, not {text!r}")
    return train, val, test


def parse_books(text: str) -> tuple[str, ...]:
    """`200021086,100249476` -> the ids of books, sorted."""
    return tuple(sorted({book.strip() for book in text.split(",") if book.strip()}))


def split_position(text: str, seed: int) -> float:
    """A number in [0, 1) from the seed and a text: for an original, its pixels' SHA-256."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def _split_at(position: float, ratios: Ratios) -> str:
    if position < ratios[0] / 100:
        return "train"
    return "val" if position < (ratios[0] + ratios[1]) / 100 else "test"


def check_choice(
    protocol: str,
    ratios: Ratios,
    *,
    per_class: int | None,
    has_earlier: bool,
    has_books: bool = False,
) -> None:
    """ValueError for an unknown protocol, and for options that do not fit it."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"expected a protocol of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if protocol == "5050" and ratios[2] != 50:
        raise ValueError(
            f"--ratios of the protocol 5050 must be 50 for test, as in 45/5/50, not {ratios[2]:g}"
        )
    if protocol == LEAKY_PROTOCOL and not per_class:
        raise ValueError(
            "the protocol legacy splits augmented copies: say with --per-class N how many"
        )
    if has_earlier and protocol not in ("honest", "by-book"):
        raise ValueError(
            f"--splits-from goes with the protocols honest and by-book, got {protocol}"
        )
    if has_books and protocol != "honest":
        raise ValueError(
            f"--val-books and --test-books go with the protocol honest, got {protocol}"
        )


def hold_out(
    originals: Iterable[Original], *, val: Collection[str], test: Collection[str]
) -> dict[str, str]:
    """The split of each book in the sources: val and test as named, train for all others.

    Empty if no book is named, so that images of books are assigned by their hash like others.
    ValueError for a book that is named twice or is not in the source.
    """
    if not (val or test):
        return {}
    both = sorted(set(val) & set(test))
    if both:
        raise ValueError(f"--val-books and --test-books both name {', '.join(both)}")
    books = {original.book for original in originals if original.book}
    unknown = sorted({*val, *test} - books)
    if unknown:
        raise ValueError(
            f"the source has no book {', '.join(unknown)}, which --val-books or --test-books "
            f"names: it has {', '.join(sorted(books)) or 'no image that tells its book'}"
        )
    return {
        book: "val" if book in val else "test" if book in test else "train"
        for book in sorted(books)
    }


def assign_splits(
    originals: Iterable[Original],
    *,
    ratios: Ratios,
    seed: int,
    pooled: Collection[str] = (),
    earlier: Mapping[str, str] | None = None,
    books: Mapping[str, str] | None = None,
) -> list[str]:
    """The split of each original, under the honest protocol.

    Official test images are test, unless their set is `pooled`. Images of a book in `books` have
    the split of the book. Samples in `earlier` keep their split. Any other is assigned by its hash:
    the first `ratios[0]` percent of [0, 1) is train, then val, then test. If a class has no
    training image then, one of its images to which none of these rules applies is moved to train:
    the one with the largest hash. So the split of a sample depends on its pixels and the seed, and
    on other images of its class only in such a class. Equal pixels of one class have equal hashes.
    """
    earlier, books = earlier or {}, books or {}
    official = official_tests(pooled)
    splits: list[str] = []
    has_train: set[str] = set()
    largest: dict[str, tuple[float, str, int]] = {}
    for row, original in enumerate(originals):
        before = earlier.get(original.sample_id)
        if original.source in official:
            if before not in (None, "test"):
                raise ValueError(
                    f"{original.sample_id} was {before} before, but is an official test image: "
                    f"give --pool-official {original.source.removesuffix('-test')}, "
                    "or other earlier splits"
                )
            split = "test"
        elif original.book in books:
            split = books[original.book]
            if before not in (None, split):
                raise ValueError(
                    f"{original.sample_id} was {before} before, but its book {original.book} is "
                    f"{split}: name other books, or give other earlier splits"
                )
        elif before is not None:
            split = before
        else:
            position = split_position(original.pixels_sha256, seed)
            split = _split_at(position, ratios)
            mine = (position, original.sample_id, row)
            largest[original.codepoint] = max(largest.get(original.codepoint, mine), mine)
        if split == "train":
            has_train.add(original.codepoint)
        splits.append(split)
    for codepoint, (_, _, row) in largest.items():
        if codepoint not in has_train:
            splits[row] = "train"
    return splits


def _halve(
    originals: Sequence[Original], *, ratios: Ratios, seed: int, pooled: Collection[str]
) -> Assignment:
    """Half of each class is test, as in the published comparison; an odd image is for training.

    The images of a class are in the order of their hashes. The first half, `ratios[0]` +
    `ratios[1]` parts of it, is divided again by a second hash, so validation takes nothing from the
    test half. If the training part of a class would be empty, it gets the first image.
    """
    official = official_tests(pooled)
    splits = ["test"] * len(originals)
    members: dict[str, list[tuple[float, str, int]]] = {o.codepoint: [] for o in originals}
    for row, original in enumerate(originals):
        if original.source not in official:
            position = split_position(original.pixels_sha256, seed)
            members[original.codepoint].append((position, original.sample_id, row))
    left_out = {}
    for codepoint, ranked in members.items():
        if len(ranked) < 2:
            left_out[codepoint] = "fewer than 2 images to halve"
            continue
        half = [row for _, _, row in sorted(ranked)[: -(len(ranked) // 2)]]
        for row in half:
            position = split_position(f"val:{originals[row].pixels_sha256}", seed)
            splits[row] = "train" if position < ratios[0] / 50 else "val"
        if all(splits[row] == "val" for row in half):
            splits[half[0]] = "train"
    return Assignment(splits, left_out)


def _books_of(originals: Sequence[Original], earlier: Mapping[str, str]) -> dict[str, str | None]:
    """Each book, and its earlier split if it had one; refuses originals without a book."""
    bookless = sorted({o.source for o in originals if not o.book})
    if bookless:
        raise ValueError(
            "the protocol by-book needs the book of every image, which these sources do not tell: "
            f"{', '.join(bookless)}; leave them out of --source, or take the protocol honest"
        )
    books: dict[str, str | None] = {}
    for original in originals:
        known, before = books.get(original.book), earlier.get(original.sample_id)
        if known and before and known != before:
            raise ValueError(
                f"the earlier splits have the book {original.book} in {known} and in {before}"
            )
        books[original.book] = known or before
    return books


def _untrained(originals: Sequence[Original], splits: Sequence[str]) -> dict[str, str]:
    """The reason for leaving out each class without a training image."""
    trained = {o.codepoint for o, split in zip(originals, splits, strict=True) if split == "train"}
    return {
        o.codepoint: "no training image: it is in held-out books only"
        for o in originals
        if o.codepoint not in trained
    }


def _hold_books_out(
    originals: Sequence[Original], *, ratios: Ratios, seed: int, earlier: Mapping[str, str]
) -> Assignment:
    """Whole books are assigned by the hash of their id, so adding a book moves no other."""
    split_of = {
        book: before or _split_at(split_position(book, seed), ratios)
        for book, before in _books_of(originals, earlier).items()
    }
    for name, ratio in zip(SPLITS, ratios, strict=True):
        if ratio and name not in split_of.values():
            raise ValueError(
                f"none of the {len(split_of)} books falls into {name} with seed {seed}: "
                "give another --seed or other --ratios"
            )
    splits = [split_of[original.book] for original in originals]
    return Assignment(splits, _untrained(originals, splits))


def assign(
    protocol: str,
    originals: Sequence[Original],
    *,
    ratios: Ratios,
    seed: int,
    pooled: Collection[str] = (),
    earlier: Mapping[str, str] | None = None,
    books: Mapping[str, str] | None = None,
) -> Assignment:
    """The split of each original under `protocol`, and the classes that it leaves out.

    `books`, under honest, is what `hold_out` returns. Under legacy all are train except official
    test images; `split_copies` assigns the copies.
    """
    if protocol == "5050":
        return _halve(originals, ratios=ratios, seed=seed, pooled=pooled)
    if protocol == "by-book":
        return _hold_books_out(originals, ratios=ratios, seed=seed, earlier=earlier or {})
    if protocol == LEAKY_PROTOCOL:
        official = official_tests(pooled)
        return Assignment(["test" if o.source in official else "train" for o in originals], {})
    how = {"ratios": ratios, "seed": seed, "pooled": pooled, "earlier": earlier, "books": books}
    splits = assign_splits(originals, **how)
    return Assignment(splits, _untrained(originals, splits) if books else {})


def split_copies(
    sample_ids: Sequence[str],
    rows: Int32[np.ndarray, " n"],
    copies: Int32[np.ndarray, " n"],
    *,
    ratios: Ratios,
    seed: int,
) -> list[str]:
    """The split of each augmented copy under legacy: random, independent of its original."""
    return [
        _split_at(split_position(f"{sample_ids[row]}#{copy}", seed), ratios)
        for row, copy in zip(rows.tolist(), copies.tolist(), strict=True)
    ]
