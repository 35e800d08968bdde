"""The workers of a build on a Ray cluster: the same functions and items, as Ray tasks."""

import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from kkanji_jax.ray_cluster import connected
from kkanji_jax.workers import Item, Result, Workers

RETRIES = 5  # of a task whose worker or node dies


class RayWorkers(Workers):
    """A context in which as many tasks run at a time as the cluster has CPUs, each on one CPU.

    The result of a task depends only on its arguments, so a task whose worker dies is run again
    elsewhere; `map` raises OSError if that happens more than RETRIES times. `address` and
    `num_cpus` are those of `ray_cluster.connected`. Every node must see the folders that are read
    and written, under the same paths.
    """

    def __init__(self, address: str | None = None, num_cpus: int | None = None) -> None:
        super().__init__(1)  # no processes of its own
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(connected(address, num_cpus))
        import ray  # pyright: ignore[reportMissingImports]

        self.count = max(1, int(ray.cluster_resources().get("CPU", 1)))

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def _starter(self, function: Callable[[Item], Any]) -> Callable[[Item], Any]:
        import ray  # pyright: ignore[reportMissingImports]

        task: Any = ray.remote(_called).options(num_cpus=1, max_retries=RETRIES)
        return partial(task.remote, ray.put(function))

    def _take(self, pending: deque[Any], *, in_order: bool) -> Any:
        import ray  # pyright: ignore[reportMissingImports]
        from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]

        first = pending[0] if in_order else ray.wait(list(pending), num_returns=1)[0][0]
        pending.remove(first)
        try:
            return ray.get(first)
        except RayTaskError as err:
            raise err.cause from None
        except RayError as err:
            raise OSError(
                f"workers were killed {RETRIES + 1} times at one task, perhaps for memory: the "
                "same command resumes"
            ) from err


def _called(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
