"""Images decoded in order: in this process, and where there are many, in worker processes."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from kkanji_jax.inputs.heif_and_pdf import open_heif
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.workers import Workers

CHUNK_SIZE = 32  # images that a worker decodes at a time
# CPU seconds of decoding in this process before workers start, which costs each of them 0.3: a few
# images are not worth it.
WORKERS_AFTER_S = 1.0

Decoded = TypeVar("Decoded")


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
