"""The share of what a GPU's memory would allow, where both are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.config import default_config
from kkanji_jax.training import roofline
from kkanji_jax.training.metric_log import LogConfig, MetricLog
from kkanji_jax.training.metrics import Norms, StepMetrics, Sums


def model_of(**fields) -> dict:
    config = default_config()
    config.model.update(fields)
    return config.model.to_dict()


def test_the_limit_is_bandwidth_over_bytes_and_grows_with_the_devices() -> None:
    model = model_of(dtype="bfloat16")
    moved = roofline.STEP_BYTES["b0", 64, 2, "bfloat16"]
    one = roofline.images_per_s_limit(model, "NVIDIA H100 80GB HBM3", 1)
    assert one == pytest.approx(3.35e12 / moved)
    eight = roofline.images_per_s_limit(model, "NVIDIA H100 80GB HBM3", 8)
    assert one and eight == pytest.approx(8 * one)


@pytest.mark.parametrize(
    ("fields", "device_kind"),
    [
        ({}, "cpu"),
        ({"variant": "b3"}, "NVIDIA H200"),
        ({"image_px": 32}, "NVIDIA H200"),
        ({"last_stride": 1, "dtype": "bfloat16"}, "NVIDIA H200"),
    ],
)
def test_where_nobody_counted_there_is_no_limit(fields: dict, device_kind: str) -> None:
    assert roofline.images_per_s_limit(model_of(**fields), device_kind, 1) is None


@pytest.mark.parametrize("limit", [None, 1000.0])
def test_a_line_tells_the_share_of_a_known_limit_only(tmp_path: Path, limit: float | None) -> None:
    config = LogConfig(
        total_steps=1,
        batch_size=8,
        steps_per_epoch=1.0,
        learning_rates=np.ones(1),
        images_per_s_limit=limit,
    )
    log = MetricLog(tmp_path, config, resumed_step=0)
    counts, three = np.ones(3, np.int32), np.array(3, np.int32)
    sums = Sums(np.array(1, np.float32), three, three, counts, counts, counts)
    log.add(StepMetrics(sums, Norms(*(np.array(1, np.float32) for _ in Norms._fields))))
    log.write(1)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    if limit is None:
        assert "roofline" not in line
    else:
        assert line["roofline"] == pytest.approx(line["images_per_s"] / limit, rel=1e-3)
