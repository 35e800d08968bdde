"""metrics.jsonl, the truth about a run, and the line that tells a person how it goes."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from kkanji_jax.evaluation.metrics import Sums, add_sums, weighted_and_macro
from kkanji_jax.files import written_whole
from kkanji_jax.training.metrics_file import FILE_NAME, read_metrics


def format_duration(seconds: float) -> str:
    """`1 h 05 min`, `12 min 30 s`, `8 s`."""
    total = round(seconds)
    if total >= 3600:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 60} min {total % 60:02d} s" if total >= 60 else f"{total} s"


def _on_host(sums: Sequence[Any]) -> Sums:
    """Sums as NumPy: the loss in float64, the counts in int64, so that long sums stay exact."""
    loss, *counts = sums
    return Sums(np.asarray(loss, np.float64), *(np.asarray(count, np.int64) for count in counts))


def _to_plain(sums: Sums | None) -> list[Any] | None:
    return None if sums is None else [np.asarray(value).tolist() for value in sums]


def _from_plain(values: list[Any] | None) -> Sums | None:
    return None if values is None else _on_host(values)


class MetricLog:
    """Collects sums on the device and writes them where `step` says.

    Lines after the resumed step are dropped on opening, so a repeated stretch is not in the file
    twice; `carried` is what `carry` gave when the checkpoint was made. Where `images_per_s_limit`
    is known, lines tell the share of it that is reached. Only the writer, one process of several,
    writes and speaks; all of them must call alike.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        is_writer: bool = True,
        has_tensorboard: bool = False,
        resumed_step: int,
        total_steps: int,
        batch_size: int,
        steps_per_epoch: float,
        learning_rates: Float[np.ndarray, " steps"],
        images_per_s_limit: float | None = None,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        path = workdir / FILE_NAME
        self._path = path
        self._is_writer = is_writer
        self._events = _open_events(workdir) if has_tensorboard and is_writer else None
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._learning_rates = learning_rates
        self._images_per_s_limit = images_per_s_limit
        lines = read_metrics(path) if path.exists() else []
        kept = [line for line in lines if line["step"] <= resumed_step]
        # Time spent before an interruption counts; time since the kept step was lost.
        self._elapsed_before_s = kept[-1]["elapsed_s"] if kept else 0.0
        if is_writer:
            text = "".join(json.dumps(line) + "\n" for line in kept)
            with written_whole(path) as repaired:
                repaired.write_text(text, encoding="utf-8")
        self._start_s = self._last_s = time.monotonic()
        self._last_step = self._start_step = resumed_step
        self._paused_s = self._waited_s = 0.0
        self._pending: list[Sums] = []
        self._since_log = _from_plain(carried["since_log"]) if carried else None
        self._since_eval = _from_plain(carried["since_eval"]) if carried else None
        self.images_per_s = 0.0

    def add(self, sums: Sums) -> None:
        """Keeps the sums of a dispatch where they are: on the device."""
        self._pending.append(sums)

    def pause(self) -> "_Pause":
        """A context whose time does not count as training: evaluation, saving."""
        return _Pause(self)

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """A context whose time is reported as the share that training waits for its batches."""
        start_s = time.monotonic()
        yield
        self._waited_s += time.monotonic() - start_s

    def _drain(self) -> None:
        fetched = jax.device_get(self._pending)
        self._pending = []
        for sums in fetched:  # one after the other, so that a resumed sum has the same bits
            sums = _on_host(sums)
            self._since_log = sums if self._since_log is None else add_sums(self._since_log, sums)
            self._since_eval = (
                sums if self._since_eval is None else add_sums(self._since_eval, sums)
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
        if not self._is_writer:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as err:  # a failing write does not tell its file
            raise OSError(
                f"cannot write {self._path}: {err.strerror}; mend this (the disk may be full), "
                "then the same command goes on from the last checkpoint"
            ) from err

    def _common(self, kind: str, step: int) -> dict[str, Any]:
        elapsed_s = self._elapsed_before_s + time.monotonic() - self._start_s
        return {
            "kind": kind,
            "step": step,
            "total_steps": self._total_steps,
            "epoch": round(step / self._steps_per_epoch, 4),
            "examples": step * self._batch_size,
            "lr": float(self._learning_rates[step - 1]),
            "images_per_s": round(self.images_per_s, 1),
            "elapsed_s": round(elapsed_s, 1),
        }

    def write(self, step: int) -> None:
        """Writes and shows the metrics since the last line: the only host sync of the loop.

        Raises FloatingPointError if the loss is not finite.
        """
        self._drain()
        total = self._since_log
        if total is None:
            return
        self._since_log = None
        now = time.monotonic()
        images = (step - self._last_step) * self._batch_size
        training_s = max(now - self._last_s - self._paused_s, 1e-9)
        self.images_per_s = images / training_s
        waited = self._waited_s / training_s
        self._last_s, self._last_step, self._paused_s, self._waited_s = now, step, 0.0, 0.0
        loss = float(total.loss / total.count)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {step}")
        accuracy = float(total.hits.sum() / total.count)
        line = self._common("train", step) | {"loss": loss, "accuracy": accuracy}
        line |= {"data_wait": round(waited, 4)} | _device_memory()
        if self._images_per_s_limit:
            line["roofline"] = round(self.images_per_s / self._images_per_s_limit, 4)
        self._append(line)
        if not self._is_writer:
            return
        left_s = (self._total_steps - step) * self._batch_size / self.images_per_s
        print(
            f"step {step}/{self._total_steps}  epoch {line['epoch']:.2f}  loss {loss:.4f}  "
            f"accuracy {accuracy:.4f}  {self.images_per_s:.0f} images/s  "
            f"{format_duration(left_s)} left",
            file=sys.stderr,
            flush=True,
        )

    def write_scores(self, step: int, scores: Mapping[str, Any]) -> None:
        """Writes an evaluation beside the training metrics since the one before it."""
        self._drain()
        since = self._since_eval
        line = self._common("eval", step)
        if since is not None:
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
        if not self._is_writer:
            return
        print(
            f"step {step}/{self._total_steps}  val ({scores['weights']} weights, "
            f"n={scores['val_num_examples']}): loss {scores['val_loss']:.4f}  "
            f"accuracy {scores['val_accuracy']:.4f}  macro {scores['val_macro_accuracy']:.4f}  "
            f"top-5 {scores['val_top5']:.4f}",
            file=sys.stderr,
            flush=True,
        )


def _device_memory() -> dict[str, int]:
    """`device_peak_bytes` of the fullest device here; nothing on a CPU, which does not count."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [each["peak_bytes_in_use"] for each in stats if "peak_bytes_in_use" in each]
    return {"device_peak_bytes": max(peaks)} if peaks else {}


def _open_events(workdir: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as err:
        raise ValueError(
            "config.tensorboard needs tensorboardX: pip install 'kkanji_jax[tensorboard]'"
        ) from err
    return SummaryWriter(str(workdir / "tensorboard"))


class _Pause:
    def __init__(self, log: MetricLog) -> None:
        self._log = log

    def __enter__(self) -> None:
        self._log._drain()
        self._began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._log._paused_s += time.monotonic() - self._began_s
