"""How an endless stream of examples is cut into dispatches, and which part a process takes."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class BatchShape:
    """How the stream is cut: num_dispatches x steps_per_dispatch batches of m microbatches.

    ValueError if a batch cannot be divided evenly among the microbatches of all processes.
    """

    batch_size: int  # images of a step, over all processes
    steps_per_dispatch: int
    num_dispatches: int
    microbatches: int = 1
    process_index: int = 0
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % (self.microbatches * self.num_processes):
            raise ValueError(
                f"batch_size must divide by {self.microbatches} microbatches x "
                f"{self.num_processes} processes, got {self.batch_size}"
            )


class Dispatches:
    """Positions of the stream by dispatch: s batches of m microbatches, one after another.

    Each of n processes takes, of every microbatch, the columns that its devices hold.
    """

    def __init__(self, cut: BatchShape) -> None:
        self.shape = (cut.steps_per_dispatch, cut.microbatches, cut.batch_size // cut.microbatches)
        self._num = cut.num_dispatches
        share = cut.batch_size // (cut.microbatches * cut.num_processes)  # of each microbatch
        self._columns = slice(cut.process_index * share, (cut.process_index + 1) * share)

    def __len__(self) -> int:
        return self._num

    def positions(self, index: int) -> Int64[np.ndarray, "s m b"]:
        """This process's positions in dispatch `index`, in rising order when flattened."""
        size = math.prod(self.shape)
        stream = np.arange(size, dtype=np.int64) + int(index) * size
        return stream.reshape(self.shape)[..., self._columns]
