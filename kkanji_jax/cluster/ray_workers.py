"""Workers on a Ray cluster, each with one recogniser: the only module here that uses Ray."""

import itertools
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kkanji_jax.cluster.partition_reader import Attempt, Job, mark_of, marked_image, read_partition
from kkanji_jax.cluster.rows_file import Written

LOOK_EVERY_S = 10.0  # at least this often, the size of the cluster is checked
DEATHS_OF_AN_IMAGE = 2  # after this many dead workers, an image is a row with an error
UNEXPLAINED_DEATHS = 4  # at one partition and at no single image: after more, the job ends
FAILED_STARTS = 4  # in a row: after more, the job ends
NO_MEMORY = "not enough memory"
SHARE_OF_GPU = 0.9  # of its memory, for all workers on it


class Resources(NamedTuple):
    """The part of a cluster to use; None: a new cluster on this machine, as many workers as fit.

    `per_gpu` workers share one GPU; 0: no GPU. Each worker has `cpus` CPUs.
    """

    address: str | None = None
    num_workers: int | None = None
    cpus: int = 1
    per_gpu: int = 0


class Reader:
    """The actor: loads the recogniser for its first partition, and keeps it."""

    def __init__(self, job: Job, per_gpu: int) -> None:
        self._job = job
        self._recogniser: Any = None
        if per_gpu:
            share = str(round(SHARE_OF_GPU / per_gpu, 3))
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", share)

    def begin(self) -> None:
        """Returns when the actor has started."""

    def read(self, attempt: Attempt) -> Written:
        """Reads a partition and writes its rows."""
        if self._recogniser is None:
            try:
                os.chdir(self._job.folder)
            except OSError as err:
                raise ValueError(
                    f"a node has no folder {self._job.folder}, where relative paths begin: give "
                    "the command in a folder that all nodes share"
                ) from err
            self._recogniser = self._job.load()
        return read_partition(self._recogniser, self._job, attempt)


class _Deaths:
    """How often workers died at one partition, and at which images."""

    def __init__(self) -> None:
        self.num_unexplained = 0
        self.at: Counter[int] = Counter()
        self.excluded: dict[int, str] = {}

    def add(self, place: int | None, reason: str) -> None:
        """Counts one more, at this image if it is known."""
        self.num_unexplained += 1
        # What an image's error does not prevent is not the image's decoding.
        if place is None or place in self.excluded:
            return
        self.at[place] += 1
        if self.at[place] >= DEATHS_OF_AN_IMAGE:
            self.excluded[place] = f"ended {self.at[place]} workers: {reason}"
            self.num_unexplained = 0


def read_all(attempts: Iterable[Attempt], job: Job, resources: Resources) -> Iterator[Written]:
    """Files of rows as they are finished; each attempt is made until it is.

    A worker that dies is replaced, and its partition is read again, carefully. An image that kills
    workers becomes a row with an error. ValueError if workers keep dying at a partition and no
    single image is the cause; a ValueError or OSError of a worker is raised unchanged.
    """
    import ray  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]

    pool = _Pool(job, resources)
    deaths: dict[int, _Deaths] = {}
    remaining = iter(attempts)
    waiting: deque[Attempt] = deque(itertools.islice(remaining, 1))
    under_way: dict[Any, tuple[Any, Attempt]] = {}
    try:
        while waiting or under_way:
            pool.resize(len(under_way))
            while pool.idle and waiting:
                worker, attempt = pool.idle.pop(), waiting.popleft()
                under_way[worker.read.remote(attempt)] = worker, attempt
                waiting.extend(itertools.islice(remaining, 0 if waiting else 1))
            expected = [*under_way, *pool.starting]
            ready, _ = ray.wait(expected, num_returns=1, timeout=LOOK_EVERY_S)
            if not ready:
                pool.look()
            for reference in ready:
                if reference in pool.starting:
                    pool.welcome(reference)
                    continue
                worker, attempt = under_way.pop(reference)
                try:
                    written = ray.get(reference)
                except RayTaskError as err:
                    if not isinstance(err.cause, MemoryError):
                        raise err.cause from None
                    reason = NO_MEMORY
                except RayError as err:
                    reason = _reason_of(err)
                else:
                    pool.idle.append(worker)
                    deaths.pop(attempt.partition.number, None)
                    yield written
                    continue
                ray.kill(worker)  # if it is still there
                waiting.appendleft(_after_death(job, attempt, deaths, reason))
    finally:
        pool.close()


def _after_death(job: Job, attempt: Attempt, deaths: dict[int, _Deaths], reason: str) -> Attempt:
    partition = attempt.partition
    own = deaths.setdefault(partition.number, _Deaths())
    own.add(marked_image(mark_of(job.out, partition)) if attempt.is_careful else None, reason)
    if own.num_unexplained > UNEXPLAINED_DEATHS:
        first, last = partition.units[0].path, partition.units[-1].path
        raise ValueError(
            f"{own.num_unexplained} workers died at {first} to {last} ({reason}): give workers "
            "more memory (--cpus 2), then the same command again"
        )
    return Attempt(partition, dict(own.excluded), is_careful=True)


def _reason_of(err: BaseException) -> str:
    from ray.exceptions import NodeDiedError, OutOfMemoryError  # pyright: ignore[reportMissingImports]

    text = " ".join(str(err).split())
    # Ray's message for every killed process mentions the OOM killer; this text means memory.
    if isinstance(err, OutOfMemoryError) or "running low on memory" in text:
        return NO_MEMORY
    if isinstance(err, NodeDiedError) or "node died" in text or "node has died" in text:
        return "its node was lost"
    return "its process was killed"


class _Pool:
    """As many actors as the cluster has room for, or as were asked for; lost ones are replaced."""

    def __init__(self, job: Job, resources: Resources) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        self._resources = resources
        self.idle: list[Any] = []
        self.starting: dict[Any, Any] = {}  # reference to the result of begin -> the actor
        needs: dict[str, float] = {"num_cpus": resources.cpus}
        if resources.per_gpu:
            needs["num_gpus"] = 1 / resources.per_gpu
        self._actor: Any = ray.remote(Reader).options(
            **needs, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._job = ray.put(job)
        self._is_told = False
        self._num_failed = 0

    def _room(self) -> int:
        import ray  # pyright: ignore[reportMissingImports]

        has = ray.cluster_resources()
        room = int(has.get("CPU", 0) // self._resources.cpus)
        if self._resources.per_gpu:
            room = min(room, int(has.get("GPU", 0) * self._resources.per_gpu))
        return room

    def resize(self, num_busy: int) -> None:
        """Starts as many actors as there is room for, at least one; that may wait for a node."""
        room = self._room()
        most = max(1, min(room, self._resources.num_workers or room))
        for _ in range(most - num_busy - len(self.idle) - len(self.starting)):
            worker = self._actor.remote(self._job, self._resources.per_gpu)
            self.starting[worker.begin.remote()] = worker

    def welcome(self, reference: Any) -> None:
        """Takes an actor that has started or failed to start; ValueError after several failures."""
        import ray  # pyright: ignore[reportMissingImports]
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

        worker = self.starting.pop(reference)
        try:
            ray.get(reference)
        except RayError as err:
            self._num_failed += 1
            if self._num_failed > FAILED_STARTS:
                reason = " ".join(str(err).split())
                raise ValueError(
                    f"workers do not start: is kkanji_jax[ray] installed on every node? {reason}"
                ) from err
        else:
            self._num_failed = 0
            self.idle.append(worker)

    def look(self) -> None:
        """Says once on standard error if the cluster has no room for any worker."""
        if not self._is_told and not self._room():
            wanted = f"{self._resources.cpus} CPUs"
            if self._resources.per_gpu:
                wanted += f" and 1/{self._resources.per_gpu} of a GPU"
            print(f"waiting for the cluster: no node has {wanted}", file=sys.stderr)
            self._is_told = True

    def close(self) -> None:
        """Ends idle actors; busy ones end with the connection."""
        import ray  # pyright: ignore[reportMissingImports]

        for worker in (*self.idle, *self.starting.values()):
            ray.kill(worker)
        self.idle, self.starting = [], {}
