"""A trace of a few steps, for XProf, TensorBoard or Perfetto."""

import sys
from pathlib import Path
from typing import Any

import jax


class Profiler:
    """Traces `num_steps` steps into `folder`, from the second dispatch on; the first one compiles.

    With 0 steps it does nothing.
    """

    def __init__(self, folder: Path, num_steps: int) -> None:
        self._folder = folder
        self._num_steps = num_steps
        self._until: int | None = None
        self._step = 0

    def advance(self, step: int, state: Any) -> None:
        """Starts or ends the trace, after step `step` left `state`."""
        self._step = step
        if self._until is None and self._num_steps:
            jax.block_until_ready(state)
            self._folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(str(self._folder))
            self._until = step + self._num_steps
        elif self._until is not None and self._num_steps and step >= self._until:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Writes a trace in progress, even if the run ends before the trace is complete."""
        if self._until is not None and self._num_steps:
            jax.profiler.stop_trace()
            self._num_steps = 0
            print(f"traced steps up to {self._step}: {self._folder}", file=sys.stderr)
