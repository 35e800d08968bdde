"""metrics.jsonl, the log of a run, and the progress line for people."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from kkanji_jax.evaluation.counts import weighted_and_macro
from kkanji_jax.files import written_whole
from kkanji_jax.training.metrics import Norms, StepMetrics, Sums, add_metrics
from kkanji_jax.training.metrics_file import FILE_NAME, read_metrics


def format_duration(seconds: float) -> str:
    """`1 h 05 min`, `12 min 30 s`, `8 s`."""
    total = round(seconds)
    if total >= 3600:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 60} min {total % 60:02d} s" if total >= 60 else f"{total} s"


def _lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, none if there is no file; ValueError for a damaged line."""
    lines = read_metrics(path) if path.exists() else []
    for line in lines:
        if not isinstance(line.get("step"), int) or not isinstance(line.get("elapsed_s"), float):
            told = json.dumps(line, ensure_ascii=False)[:100]
            raise ValueError(
                f"{path} has a line without step and elapsed_s: {told}; restore the file, or "
                "remove that line"
            )
    return lines


def _on_host(metrics: StepMetrics) -> StepMetrics:
    """The same as NumPy: floats in float64, counts in int64, so that long sums stay exact."""

    def wide(value: Any) -> np.ndarray:
        value = np.asarray(value)
        return value.astype(np.float64 if value.dtype.kind == "f" else np.int64)

    return jax.tree.map(wide, metrics)


def _to_plain(metrics: StepMetrics | None) -> dict[str, dict[str, Any]] | None:
    if metrics is None:
        return None
    return {
        part: {name: np.asarray(value).tolist() for name, value in values._asdict().items()}
        for part, values in metrics._asdict().items()
    }


def _from_plain(carried: Any) -> StepMetrics | None:
    """The inverse of `_to_plain`; checkpoints before 0.2 hold only the list of the sums."""
    if carried is None:
        return None
    if isinstance(carried, list):
        no_norms = {"count": 0, "gradient": 0.0, "update": 0.0, "weight": 0.0}
        carried = {"sums": dict(zip(Sums._fields, carried, strict=True)), "norms": no_norms}
    sums, norms = (
        {name: np.asarray(value) for name, value in carried[part].items()}
        for part in ("sums", "norms")
    )
    return _on_host(StepMetrics(Sums(**sums), Norms(**norms)))


@dataclass(frozen=True)
class LogConfig:
    """What the log needs to know of a run."""

    total_steps: int
    steps_per_epoch: float
    batch_size: int
    learning_rates: Float[np.ndarray, " steps"]
    images_per_s_limit: float | None = None  # of the devices' memory; None where unknown
    has_tensorboard: bool = False
    is_writer: bool = True  # of several processes, the one that writes and prints


class MetricLog:
    """Collects the metrics of dispatches on the device, and writes them when the loop asks.

    Lines after the resumed step are removed on opening, so that no step is in the file twice.
    `carried` is what `carry` returned when the checkpoint was made. If the limit of the devices is
    known, lines have the share of it that is reached. All processes must make the same calls.
    """

    def __init__(
        self,
        workdir: Path,
        config: LogConfig,
        *,
        resumed_step: int,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        path = workdir / FILE_NAME
        self._path = path
        self._config = config
        has_events = config.has_tensorboard and config.is_writer
        self._events = _open_events(workdir, resumed_step) if has_events else None
        kept = [line for line in _lines_of(path) if line["step"] <= resumed_step]
        # Time before an interruption counts, but not what was lost after the last checkpoint.
        self._elapsed_before_s = kept[-1]["elapsed_s"] if kept else 0.0
        if config.is_writer:
            text = "".join(json.dumps(line) + "\n" for line in kept)
            with written_whole(path) as repaired:
                repaired.write_text(text, encoding="utf-8")
        self._start_s = self._last_s = time.monotonic()
        self._last_step = resumed_step
        self._paused_s = self._waited_s = 0.0
        self._pending: list[StepMetrics] = []
        self._since_log = _from_plain(carried["since_log"]) if carried else None
        self._since_eval = _from_plain(carried["since_eval"]) if carried else None
        self.images_per_s = 0.0

    def add(self, metrics: StepMetrics) -> None:
        """Keeps the metrics of a dispatch on the device."""
        self._pending.append(metrics)

    def compiled(self, step: int) -> float:
        """Restarts the clock of `images_per_s` after the first dispatch, which compiles.

        Returns the seconds that it took.
        """
        now = time.monotonic()
        took_s = now - self._last_s
        if self._config.is_writer:
            took = format_duration(took_s)
            print(
                f"step {step}/{self._config.total_steps}  first steps after {took}",
                file=sys.stderr,
                flush=True,
            )
        self._last_s, self._last_step, self._paused_s, self._waited_s = now, step, 0.0, 0.0
        return took_s

    def pause(self) -> "_Pause":
        """A context whose time does not count as training, such as evaluation and saving."""
        return _Pause(self)

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """A context whose time is reported as the share of training spent waiting for batches."""
        start_s = time.monotonic()
        yield
        self._waited_s += time.monotonic() - start_s

    def _drain(self) -> None:
        fetched = jax.device_get(self._pending)
        self._pending = []
        for each in map(_on_host, fetched):  # in turn, so that a resumed sum has the same bits
            self._since_log, self._since_eval = (
                each if since is None else add_metrics(since, each)
                for since in (self._since_log, self._since_eval)
            )

    def carry(self) -> dict[str, Any]:
        """Sums not yet written, as plain data for a checkpoint's `meta`."""
        self._drain()
        return {"since_log": _to_plain(self._since_log), "since_eval": _to_plain(self._since_eval)}

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._events is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    self._events.add_scalar(f"{line['kind']}/{name}", value, line["step"])
            self._events.flush()
        if not self._config.is_writer:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as err:  # a failing write does not tell its file
            raise OSError(
                f"cannot write {self._path}: {err.strerror}; fix this (the disk may be full), "
                "then the same command resumes from the last checkpoint"
            ) from err

    def close(self) -> None:
        """Writes what TensorBoard's thread still holds; metrics.jsonl is already written."""
        if self._events is not None:
            self._events.close()

    def _common(self, kind: str, step: int) -> dict[str, Any]:
        elapsed_s = self._elapsed_before_s + time.monotonic() - self._start_s
        return {
            "kind": kind,
            "step": step,
            "total_steps": self._config.total_steps,
            "epoch": round(step / self._config.steps_per_epoch, 4),
            "examples": step * self._config.batch_size,
            "lr": float(self._config.learning_rates[step - 1]),
            "images_per_s": round(self.images_per_s, 1),
            "elapsed_s": round(elapsed_s, 1),
        }

    def write(self, step: int) -> None:
        """Writes and shows the metrics since the last line: the only host sync of the loop.

        Raises FloatingPointError if the loss or a norm is not finite.
        """
        self._drain()
        if self._since_log is None:
            return
        (total, norms), self._since_log = self._since_log, None
        now = time.monotonic()
        images = (step - self._last_step) * self._config.batch_size
        training_s = max(now - self._last_s - self._paused_s, 1e-9)
        if images:  # none yet if there was only the first dispatch, which compiled
            self.images_per_s = images / training_s
        waited = self._waited_s / training_s
        self._last_s, self._last_step, self._paused_s, self._waited_s = now, step, 0.0, 0.0
        loss = float(total.loss / total.count)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {step}")
        accuracy = float(total.hits.sum() / total.count)
        line = self._common("train", step) | {"loss": loss, "accuracy": accuracy}
        if norms.count:
            for name in ("gradient", "update", "weight"):
                norm = float(getattr(norms, name) / norms.count)
                if not math.isfinite(norm):  # which JSON could not hold either
                    raise FloatingPointError(f"the {name} norm is {norm} at step {step}")
                line[f"{name}_norm"] = norm
        line |= {"data_wait": round(waited, 4)} | _device_memory()
        if self._config.images_per_s_limit:
            line["roofline"] = round(self.images_per_s / self._config.images_per_s_limit, 4)
        self._append(line)
        if not self._config.is_writer:
            return
        text = (
            f"step {step}/{self._config.total_steps}  epoch {line['epoch']:.2f}  loss {loss:.4f}  "
            f"accuracy {accuracy:.4f}"
        )
        if self.images_per_s:
            images_left = (self._config.total_steps - step) * self._config.batch_size
            left = format_duration(images_left / self.images_per_s)
            text += f"  {self.images_per_s:.0f} images/s  {left} left"
        print(text, file=sys.stderr, flush=True)

    def write_scores(self, step: int, scores: Mapping[str, Any]) -> None:
        """Writes an evaluation, and the training metrics since the previous one.

        Raises FloatingPointError if the loss is not finite: such a score would be neither better
        nor worse than another, and the best checkpoint a matter of order.
        """
        if not math.isfinite(scores["val_loss"]):
            raise FloatingPointError(f"the loss of val is {scores['val_loss']} at step {step}")
        self._drain()
        line = self._common("eval", step)
        if self._since_eval is not None:
            since = self._since_eval.sums
            by_class = weighted_and_macro(
                *(np.asarray(count) for count in (since.true, since.predicted, since.hits))
            )
            line |= {
                "train_loss": float(since.loss / since.count),
                "train_accuracy": by_class["accuracy"],
                "train_precision": by_class["weighted_precision"],
                "train_recall": by_class["weighted_recall"],
            }
        self._since_eval = None
        self._append(line | dict(scores))
        if not self._config.is_writer:
            return
        print(
            f"step {step}/{self._config.total_steps}  val ({scores['weights']} weights, "
            f"n={scores['val_num_examples']}): loss {scores['val_loss']:.4f}  "
            f"accuracy {scores['val_accuracy']:.4f}  macro {scores['val_macro_accuracy']:.4f}  "
            f"top-5 {scores['val_top5']:.4f}",
            file=sys.stderr,
            flush=True,
        )


def _device_memory() -> dict[str, int]:
    """`device_peak_bytes`, the largest of the local devices; empty on a CPU, which has no count."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [each["peak_bytes_in_use"] for each in stats if "peak_bytes_in_use" in each]
    return {"device_peak_bytes": max(peaks)} if peaks else {}


def _open_events(workdir: Path, resumed_step: int) -> Any:
    """A writer of event files; TensorBoard hides what earlier files hold after `resumed_step`."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as err:
        raise ValueError(
            "config.tensorboard needs tensorboardX: pip install 'kkanji_jax[tensorboard]'"
        ) from err
    return SummaryWriter(str(workdir / "tensorboard"), purge_step=resumed_step + 1)


class _Pause:
    def __init__(self, log: MetricLog) -> None:
        self._log = log

    def __enter__(self) -> None:
        self._log._drain()
        self._began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._log._paused_s += time.monotonic() - self._began_s
