"""The balanced plan: which original, and which copy of it, is at each position of an epoch."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32, UInt64


def mix_address(
    seed: int, addresses: UInt32[np.ndarray, "n 2"], copies: Any = 0
) -> UInt64[np.ndarray, " n"]:
    """A well-mixed 64-bit number for each (seed, address, copy); equal inputs, equal numbers."""
    words = np.ascontiguousarray(addresses, dtype=np.uint32).astype(np.uint64)
    mixed = words[:, 0] | (words[:, 1] << np.uint64(32))
    for salt in (np.full(1, seed % 2**64, np.uint64), np.asarray(copies).astype(np.uint64)):
        mixed = mixed ^ (np.atleast_1d(salt) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        # The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def class_quotas(
    sizes: Int64[np.ndarray, " k"],
    per_class: int | None,
    sampling_exponent: float,
    weights: Any = 1.0,
) -> Int64[np.ndarray, " k"]:
    """Examples per epoch of each class, given its number of originals.

    `per_class` = N gives exactly N each. Otherwise quotas are proportional to weight * size **
    sampling_exponent, at least 1, and sum to the number of originals: with equal weights, exponent
    1 gives each original once, and exponent 0 makes all classes equal. The sum is larger if weights
    differ so much that a quota would be under 1.
    """
    if per_class is not None:
        if per_class < 1:
            raise ValueError(f"per_class must be at least 1, not {per_class}")
        return np.full(len(sizes), per_class, np.int64)
    if not 0.0 <= sampling_exponent <= 1.0:
        raise ValueError(
            f"sampling_exponent must be 0 (classes alike) to 1 (as found), not {sampling_exponent}"
        )
    if sampling_exponent == 1.0 and np.all(np.asarray(weights) == 1.0):
        return sizes.copy()
    # With equal weights the smallest quota is at least the smallest size, so at least 1.
    weights = weights * sizes.astype(np.float64) ** sampling_exponent
    shares = weights * (sizes.sum() / weights.sum())
    quotas = np.maximum(np.floor(shares).astype(np.int64), 1)
    missing = int(sizes.sum() - quotas.sum())
    if missing > 0:  # to the largest remainders; equal ones in class order
        quotas[np.argsort(quotas - shares, kind="stable")[:missing]] += 1
    return quotas


class Plan:
    """Position in an epoch -> (row of the original, copy number), without storing the epoch.

    The originals of each class are in an order drawn by a hash of (seed, address), and are used
    cyclically: slot t is original t % size, copy t // size. Each epoch takes the next slots, as
    many as the quota. So within an epoch the numbers of times that two originals of a class are
    used differ by at most one; a class larger than its quota shows other originals in the next
    epoch; and no (row, copy) comes twice. Copy 0 is the clean original.

    With a `photograph_weight`, the photographed originals of a class are sampled as a class of
    their own, that many times as often as another class of that size. Otherwise, in a class with
    many published images, they would hardly be seen.
    """

    def __init__(
        self,
        labels: Int32[np.ndarray, " n"],
        addresses: UInt32[np.ndarray, "n 2"],
        *,
        per_class: int | None = None,
        sampling_exponent: float = 1.0,
        seed: int = 0,
        is_photographed: Bool[np.ndarray, " n"] | None = None,
        photograph_weight: float | None = None,
    ) -> None:
        """`labels` are class ids in any order, `addresses` from `records.address_of`."""
        if len(labels) == 0:
            raise ValueError("a plan must have at least one original")
        groups, weights = labels.astype(np.int64) * 2, 1.0
        if photograph_weight is not None:
            if is_photographed is None:
                raise ValueError(
                    "a photograph_weight needs is_photographed: which originals it is for"
                )
            groups = groups + is_photographed
        of_groups, sizes = np.unique(groups, return_counts=True)
        if photograph_weight is not None:
            weights = np.where(of_groups % 2 == 1, photograph_weight, 1.0)
        self._class_of_group = of_groups // 2
        self._sizes = sizes.astype(np.int64)
        self._quotas = class_quotas(self._sizes, per_class, sampling_exponent, weights)
        # Rows of one group are consecutive, in hash order; ties are in order of the address.
        keys = (addresses[:, 0], addresses[:, 1], mix_address(seed, addresses), groups)
        self._rows = np.lexsort(keys).astype(np.int32)
        self._row_starts = np.cumsum(self._sizes) - self._sizes
        self._ends = np.cumsum(self._quotas)

    def __len__(self) -> int:
        """Examples per epoch."""
        return int(self._ends[-1])

    def quotas(self) -> dict[int, int]:
        """Examples per epoch of each class id."""
        totals: dict[int, int] = {}
        for label, quota in zip(self._class_of_group.tolist(), self._quotas.tolist(), strict=True):
            totals[label] = totals.get(label, 0) + quota
        return totals

    def lookup(
        self,
        positions: Int64[np.ndarray, " m"],
        epochs: Int64[np.ndarray, " m"],
        fresh_copies: bool = True,
    ) -> tuple[Int32[np.ndarray, " m"], Int32[np.ndarray, " m"]]:
        """Rows and copy numbers at `positions`, in [0, len), of `epochs`, from 0.

        Positions run class by class; shuffling is the caller's. Without `fresh_copies` every
        epoch is epoch 0, which is what a written-out balanced set holds.
        """
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self):
            raise ValueError(
                f"positions must be in [0, {len(self)}), not {positions.min()} to {positions.max()}"
            )
        if len(epochs) and epochs.min() < 0:
            raise ValueError(f"epochs count from 0, got {epochs.min()}")
        place = np.searchsorted(self._ends, positions, side="right")
        slots = positions - (self._ends[place] - self._quotas[place])
        if fresh_copies:
            slots = slots + epochs * self._quotas[place]
        rounds, offsets = np.divmod(slots, self._sizes[place])
        return self._rows[self._row_starts[place] + offsets], rounds.astype(np.int32)
