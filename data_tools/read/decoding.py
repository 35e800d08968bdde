"""Decodes files with the suffix of an image, in the order of the source."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import tee
from pathlib import Path
from typing import NamedTuple

from data_tools.read import formats
from kkanji_jax.workers import Workers

CHUNK_FILES, CHUNK_BYTES = 128, 2**20  # what a worker is given at a time, at most


class Finding(NamedTuple):
    """One entry of a rule of the audit: a sample or a file, and why.

    `codepoint` is that of an image that is dropped here, so that its class counts it; else empty.
    """

    rule: str
    name: str
    detail: str
    codepoint: str = ""


class Unread(NamedTuple):
    """A file with the suffix of an image, not decoded yet."""

    sample_id: str
    codepoint: str
    content: bytes | str  # its bytes, or the path to them
    name: str  # that findings give it
    book: str = ""


class Decoded(NamedTuple):
    """The pixels of an undamaged image, and their digest."""

    pixels: bytes
    pixels_sha256: str
    is_its_own: bool = True  # the pixels are the file's
    mode: str | None = None  # of an image of CODH's that is not 8-bit grey, as all others are


class Refused(NamedTuple):
    """The rule that the file breaks, and how."""

    rule: str
    detail: str


class FoundOriginal(NamedTuple):
    """One undamaged image, 64x64 or 28x28; the digest is that of its pixels at 64x64."""

    sample_id: str
    codepoint: str
    pixels: bytes
    pixels_sha256: str
    book: str = ""
    is_its_own: bool = True


Decode = Callable[[bytes | str], Decoded]


def digest_of(pixels: bytes) -> str:
    """The SHA-256 of an image's pixels at 64x64, which identifies it."""
    return hashlib.sha256(pixels).hexdigest()


def decode_kkanji(content: bytes | str) -> Decoded:
    """An image of Kuzushiji-Kanji; ValueError as of `formats.decode_png`."""
    if isinstance(content, str):
        with open(content, "rb") as file:
            content = file.read()
    pixels, mode = formats.decode_png(content)
    return Decoded(pixels, digest_of(pixels), mode=mode)


def decode_image(content: bytes | str) -> Decoded:
    """An image of any raster format, by its path; ValueError as of `formats.read_glyph`.

    Or a crop of one, as the bytes of a PNG.
    """
    if isinstance(content, bytes):
        pixels, is_its_own = formats.glyph_of_crop(content)
    else:
        pixels, is_its_own = formats.read_glyph(Path(content))
    return Decoded(pixels, digest_of(pixels), is_its_own)


def _decode_all(decode: Decode, contents: list[bytes | str]) -> list[Decoded | Refused]:
    outcomes: list[Decoded | Refused] = []
    for content in contents:
        try:
            outcomes.append(decode(content))
        except formats.WrongSizeError as err:
            outcomes.append(Refused("wrong_size", str(err)))
        except ValueError as err:
            outcomes.append(Refused("unreadable", str(err)))
        except OSError as err:
            if not _is_dead_link(content, err):
                raise
            outcomes.append(Refused("unreadable", "is a link to nothing"))
    return outcomes


def _is_dead_link(content: bytes | str, err: OSError) -> bool:
    """Whether a file could not be opened because it is a link, to nothing or in a circle."""
    is_gone = err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return is_gone and isinstance(content, str) and os.path.islink(content)


def _iterate_chunks(stream: Iterable[Unread | Finding]) -> Iterator[list[Unread | Finding]]:
    chunk: list[Unread | Finding] = []
    num_bytes = 0
    for each in stream:
        chunk.append(each)
        if isinstance(each, Unread) and isinstance(each.content, bytes):
            num_bytes += len(each.content)
        if len(chunk) == CHUNK_FILES or num_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, num_bytes = [], 0
    if chunk:
        yield chunk


def _tell(unread: Unread, outcome: Decoded | Refused) -> Iterator[FoundOriginal | Finding]:
    sample_id, codepoint, _, name, book = unread
    if isinstance(outcome, Refused):
        shown = sample_id if outcome.rule == "wrong_size" else name
        yield Finding(outcome.rule, shown, outcome.detail, codepoint)
        return
    pixels, digest, is_its_own, mode = outcome
    if mode is not None:
        yield Finding("converted", sample_id, f"mode {mode}")
    yield FoundOriginal(sample_id, codepoint, pixels, digest, book, is_its_own)


def read_all(
    stream: Iterable[Unread | Finding], decode: Decode, workers: Workers
) -> Iterator[FoundOriginal | Finding]:
    """The files of a stream opened and decoded by the workers; its findings are passed on."""
    sent, chunks = tee(_iterate_chunks(stream))
    contents = ([each.content for each in chunk if isinstance(each, Unread)] for chunk in sent)
    results = workers.map(partial(_decode_all, decode), contents, most=4 * workers.count)
    for outcomes, chunk in zip(results, chunks, strict=True):
        left = iter(outcomes)
        for each in chunk:
            if isinstance(each, Finding):
                yield each
            else:
                yield from _tell(each, next(left))
