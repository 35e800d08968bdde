"""Images decoded in order: in this process, and where there are many, in worker processes."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from kkanji_jax.inference.inputs import ImageInput
from kkanji_jax.workers import Workers

CHUNK_SIZE = 32  # images that a worker decodes at a time
# CPU seconds of decoding in this process before workers start, which costs each of them about half
# of that: a few images are not worth it.
WORKERS_AFTER_S = 1.0

Decoded = TypeVar("Decoded")


class Decoder(Generic[Decoded]):
    """Takes images from `found` and gives what `decode` makes of them, in order.

    With more than one worker, what comes after the first WORKERS_AFTER_S is decoded in so many
    processes, to which `decode` is passed: at most two chunks for each are taken ahead. An image
    that cannot be passed to another process, such as the page of a PDF file, is decoded in this
    one. To be used by one thread at a time.
    """

    def __init__(
        self,
        found: Iterable[ImageInput],
        decode: Callable[[ImageInput], Decoded],
        num_workers: int = 1,
    ) -> None:
        self._remaining = iter(found)
        self._decode = decode
        self._workers = Workers(num_workers)
        self._decoded = self._in_order()

    def take(self, count: int) -> list[Decoded]:
        """The next images; fewer, or none, at the end. OSError if a worker is killed."""
        return list(itertools.islice(self._decoded, count))

    def close(self) -> None:
        """Ends the workers, when they have done what they are at; nothing can be taken any more."""
        self._workers.__exit__()

    def _in_order(self) -> Iterator[Decoded]:
        spent_s = 0.0
        while self._workers.count == 1 or spent_s < WORKERS_AFTER_S:
            begun_s = time.thread_time()
            item = next(self._remaining, None)
            if item is None:
                return
            decoded = self._decode(item)
            spent_s += time.thread_time() - begun_s
            yield decoded
        yield from self._by_workers()

    def _by_workers(self) -> Iterator[Decoded]:
        taken: deque[list[ImageInput]] = deque()

        def chunks() -> Iterator[list[ImageInput]]:
            while chunk := list(itertools.islice(self._remaining, CHUNK_SIZE)):
                taken.append(chunk)
                yield [item for item in chunk if _can_be_passed(item)]

        work = partial(_decode_all, self._decode)
        for made in self._workers.map(work, chunks(), most=2 * self._workers.count):
            passed = iter(made)
            for item in taken.popleft():
                yield next(passed) if _can_be_passed(item) else self._decode(item)


def _can_be_passed(item: ImageInput) -> bool:
    """Whether another process can open the image: a file, an array, or a function of a file."""
    import numpy as np

    image = item.image
    return not item.error and (image is None or isinstance(image, np.ndarray | partial))


def _decode_all(
    decode: Callable[[ImageInput], Decoded], chunk: Iterable[ImageInput]
) -> list[Decoded]:
    return [decode(item) for item in chunk]
