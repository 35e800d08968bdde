"""A listing cut into partitions, each of which becomes one file of rows."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kkanji_jax.cluster.listing import Unit


class Partition(NamedTuple):
    """Consecutive units, which become one file of rows; `number` counts partitions from 0."""

    number: int
    units: tuple[Unit, ...]

    @property
    def digest(self) -> str:
        """SHA-256 in hex of what is read: the same units have the same one."""
        return hashlib.sha256(json.dumps(self.units).encode()).hexdigest()

    @property
    def file(self) -> str:
        """The name of the file of its rows; names are in the order of partitions."""
        return f"part-{self.number:08d}.parquet"


def partitions_of(units: Iterable[Unit], num_images: int) -> Iterator[Partition]:
    """The units in partitions of `num_images`, or of one unit that may hold more."""
    number, own, held = 0, [], 0
    for unit in units:
        if own and held + unit.num_images > num_images:
            yield Partition(number, tuple(own))
            number, own, held = number + 1, [], 0
        own.append(unit)
        held += unit.num_images
    if own:
        yield Partition(number, tuple(own))
