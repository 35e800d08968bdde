"""Images decoded to glyphs, one or many: in this process, or in order by worker processes."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from kkanji_jax.inputs.heif_and_pdf import open_heif
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.inputs.note import Note
from kkanji_jax.workers import Workers

if TYPE_CHECKING:
    from kkanji_jax.glyphs.glyph_image import Steps

CHUNK_SIZE = 32  # images that a worker decodes at a time
# CPU seconds of decoding in this process before workers start, which costs each of them 0.3: a few
# images are not worth it.
WORKERS_AFTER_S = 1.0

Decoded = TypeVar("Decoded")
# Told how each image became a glyph.
OnSteps = Callable[[ImageInput, "Steps"], None]


class DecodedImage(NamedTuple):
    """An image as the network will see it, or why it cannot be read; made by `decode_image`."""

    found: ImageInput
    glyph: Any = None  # UInt8 [64 64]
    ink: str = ""
    note: Note | None = None  # None where it cannot be read
    error: str = ""


def decode_image(
    item: ImageInput, is_ink_bright: bool | None = None, on_steps: OnSteps | None = None
) -> DecodedImage:
    """The glyph of an image; whatever is wrong with the image stands in `error`.

    Whether its ink is brighter than its paper is found, unless `is_ink_bright` tells. `on_steps` is
    told how the glyph was made.
    """
    from kkanji_jax.glyphs.glyph_image import glyph_steps
    from kkanji_jax.glyphs.image_files import load_picture
    from kkanji_jax.inputs.page_check import PAGE, looks_like_page

    if item.error:
        return DecodedImage(item, error=item.error)
    try:
        picture = load_picture(item.source())
        if item.box is None and looks_like_page(picture):
            return DecodedImage(item._replace(image=None), error=PAGE)
        steps = glyph_steps(picture, is_ink_bright)
        if on_steps is not None:
            on_steps(item, steps)
    except (ValueError, OSError) as err:
        return DecodedImage(item, error=" ".join(str(err).split()))
    ink = "bright" if steps.is_ink_bright else "dark"
    note = Note(steps.trouble, steps.remarks)
    return DecodedImage(item._replace(image=None), steps.glyph, ink, note)


class Decoder(Generic[Decoded]):
    """Takes images from `found` and gives what `decode` makes of them, in order.

    With more than one worker, what comes after the first WORKERS_AFTER_S is decoded in so many
    processes, to which `decode` is passed: at most two chunks for each are taken ahead. A page of
    a PDF file or of IIIF is decoded in this process. To be used by one thread at a time.
    """

    def __init__(
        self,
        found: Iterable[ImageInput],
        decode: Callable[[ImageInput], Decoded],
        num_workers: int = 1,
    ) -> None:
        self._remaining = iter(found)
        self._decode = decode
        self._num_workers = num_workers
        # A pool begins with a process of its own, even before there is work for it.
        self._workers: Workers | None = None
        self._decoded = self._in_order()

    def take(self, count: int) -> list[Decoded]:
        """The next images; fewer, or none, at the end. OSError if a worker is killed."""
        return list(itertools.islice(self._decoded, count))

    def close(self) -> None:
        """Ends the workers, when they have done what they are at; nothing can be taken any more."""
        if self._workers is not None:
            self._workers.__exit__()

    def _in_order(self) -> Iterator[Decoded]:
        spent_s = 0.0
        while self._num_workers == 1 or spent_s < WORKERS_AFTER_S:
            begun_s = time.thread_time()
            item = next(self._remaining, None)
            if item is None:
                return
            decoded = self._decode(item)
            spent_s += time.thread_time() - begun_s
            yield decoded
        self._workers = Workers(self._num_workers)
        yield from self._by(self._workers)

    def _by(self, workers: Workers) -> Iterator[Decoded]:
        taken: deque[list[ImageInput]] = deque()

        def chunks() -> Iterator[list[ImageInput]]:
            while chunk := list(itertools.islice(self._remaining, CHUNK_SIZE)):
                taken.append(chunk)
                yield [item for item in chunk if _can_be_passed(item)]

        work = partial(_decode_all, self._decode)
        for made in workers.map(work, chunks(), most=2 * workers.count):
            passed = iter(made)
            for item in taken.popleft():
                yield next(passed) if _can_be_passed(item) else self._decode(item)


def _can_be_passed(item: ImageInput) -> bool:
    """Whether another process can open the image: it is a file or an array.

    Pages of PDF files are read from an open document, those of IIIF by one fetcher that waits
    between requests.
    """
    import numpy as np

    image = item.image
    is_photograph = isinstance(image, partial) and image.func is open_heif
    return not item.error and (image is None or is_photograph or isinstance(image, np.ndarray))


def _decode_all(
    decode: Callable[[ImageInput], Decoded], chunk: Iterable[ImageInput]
) -> list[Decoded]:
    return [decode(item) for item in chunk]
