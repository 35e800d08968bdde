"""How an endless stream of examples is cut into dispatches, and what of each a process takes."""

import math

import numpy as np
from jaxtyping import Int64


class Dispatches:
    """Positions of the stream by dispatch: s batches of m microbatches, one after another.

    Of n processes each takes the columns of every microbatch that its devices hold. ValueError
    where a batch cannot be dealt out evenly.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        steps_per_dispatch: int,
        num_dispatches: int,
        microbatches: int = 1,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        if batch_size % (microbatches * num_processes):
            raise ValueError(
                f"batch_size must divide by {microbatches} microbatches x {num_processes} "
                f"processes, got {batch_size}"
            )
        self.shape = (steps_per_dispatch, microbatches, batch_size // microbatches)
        self._num = num_dispatches
        share = batch_size // (microbatches * num_processes)  # of each microbatch
        self._columns = slice(process_index * share, (process_index + 1) * share)

    def __len__(self) -> int:
        return self._num

    def positions(self, index: int) -> Int64[np.ndarray, "s m b"]:
        """This process's positions in dispatch `index`, in rising order when flattened."""
        size = math.prod(self.shape)
        stream = np.arange(size, dtype=np.int64) + int(index) * size
        return stream.reshape(self.shape)[..., self._columns]
