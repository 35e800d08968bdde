"""The length of a run in steps, and at which steps it evaluates and saves."""

from collections.abc import Mapping
from typing import Any, NamedTuple


def check_batch_fits(batch_size: int, train: Mapping[str, Any], per_class: int | None) -> None:
    """Raises ValueError if a batch has more examples than an epoch.

    `train` is the manifest's entry of that split; `per_class` is None if the plan has no quota.
    """
    examples = per_class * len(train["class_counts"]) if per_class else train["num_examples"]
    if batch_size > examples:
        raise ValueError(
            f"batch_size {batch_size:,} is more than the {examples:,} examples of an epoch; give "
            f"--config.batch_size of {examples // 4 or 1:,} or less, or build a larger dataset"
        )


MAX_STEPS = 2**26  # the learning rates of all steps are computed in advance, 4 bytes each


class Pace(NamedTuple):
    """A run's epochs in steps. An epoch is one pass over the plan, and may end within a step."""

    steps_per_epoch: float
    per_dispatch: int
    total_steps: int
    log_every: int
    eval_every: int
    ckpt_every: int

    @classmethod
    def of(
        cls,
        epoch_examples: int,
        *,
        batch_size: int,
        epochs: float,
        per_dispatch: int,
        log_every: int,
        eval_every: int | None,
        ckpt_every: int | None,
    ) -> "Pace":
        """Evaluations default to one per epoch; checkpoints are due at each, and at `ckpt_every`.

        The run is a whole number of dispatches, and at least one. ValueError for a run of more than
        MAX_STEPS.
        """
        steps_per_epoch = epoch_examples / batch_size
        num_dispatches = max(round(epochs * steps_per_epoch / per_dispatch), 1)
        if num_dispatches * per_dispatch > MAX_STEPS:
            raise ValueError(
                f"{epochs:g} epochs are {num_dispatches * per_dispatch:,} steps of {batch_size} "
                f"images, over {MAX_STEPS:,}: give fewer epochs, or a larger batch_size"
            )
        eval_every = eval_every or max(round(steps_per_epoch), 1)
        return cls(
            steps_per_epoch=steps_per_epoch,
            per_dispatch=per_dispatch,
            total_steps=num_dispatches * per_dispatch,
            log_every=log_every,
            eval_every=eval_every,
            ckpt_every=ckpt_every or eval_every,
        )

    def is_due(self, step: int, every: int) -> bool:
        """Whether the dispatch ending at `step` passed a multiple of `every`, or was the last."""
        passed = step // every != (step - self.per_dispatch) // every
        return passed or step == self.total_steps
