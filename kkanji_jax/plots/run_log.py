"""The evaluations of a run in metrics.jsonl, in step order and each step once."""

from pathlib import Path
from typing import Any, NamedTuple

from kkanji_jax.training.metrics_file import FILE_NAME, read_metrics

LOSS, ACCURACY, PRECISION, RECALL = "loss", "accuracy", "precision", "recall"


class RunLog(NamedTuple):
    """The evaluations of a run, oldest first, and the name of its folder."""

    name: str
    evaluations: list[dict[str, Any]]

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Epochs and values of a key, over the evaluations that have it."""
        having = [line for line in self.evaluations if line.get(key) is not None]
        return [line["epoch"] for line in having], [line[key] for line in having]

    def chosen(self, which: str, metric: str = "val_accuracy") -> dict[str, Any]:
        """The `last` evaluation, or the `best` by `metric`; of equals, the latest."""
        if which == "last":
            return self.evaluations[-1]
        sign = -1 if metric == "val_loss" else 1
        return max(self.evaluations, key=lambda line: (sign * line[metric], line["step"]))


def load_run_log(workdir: Path) -> RunLog:
    """Reads WORKDIR/metrics.jsonl; see `read_metrics` for incomplete and damaged lines.

    Of a step that was written twice (a resumed run), the later line counts. ValueError for a
    missing file, a damaged line, or no evaluation.
    """
    path = workdir / FILE_NAME
    if not path.is_file():
        raise ValueError(f"no run in {workdir}: it has no {FILE_NAME}; train one there first")
    by_step: dict[int, dict[str, Any]] = {}
    for line in read_metrics(path):
        if line.get("kind", "eval") == "eval" and "val_loss" in line:
            if not isinstance(line.get("step"), int):
                raise ValueError(f"{path}: expected the step of every evaluation, got {line}"[:200])
            by_step[line["step"]] = line
    if not by_step:
        raise ValueError(f"{path} has no evaluation yet: let the run reach its first")
    return RunLog(workdir.resolve().name, [by_step[step] for step in sorted(by_step)])


def describe(log: RunLog, evaluation: dict[str, Any] | None = None) -> str:
    """The line under a title: run, split, n and weights."""
    line = evaluation or log.evaluations[-1]
    return describe_split(log.name, "val", line["val_num_examples"], line["weights"])


def describe_split(run: str, split: str, num_examples: int, weights: str) -> str:
    """`run b0 · test: n = 12,680, EMA weights`."""
    shown = "EMA" if weights == "ema" else weights
    return f"run {run}  ·  {split}: n = {num_examples:,}, {shown} weights"
