"""One device and eight learn the same, with everything random switched on."""

import functools
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from kkanji_jax.augment.policy import get_policy
from kkanji_jax.config import default_config
from kkanji_jax.data.records import address_of
from kkanji_jax.data.resident import load_split
from kkanji_jax.evaluation.forward import Evaluator
from kkanji_jax.model.network import make_graphdef
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.checkpoint import load_variables
from kkanji_jax.training.checkpoint_store import CheckpointStore
from kkanji_jax.training.optim import make_optimizer
from kkanji_jax.training.state import TrainState, create_state
from kkanji_jax.training.step import IndexBatch, Resident, StepConfig, make_train_steps

NUM_CLASSES = 6


class Setting(NamedTuple):
    """A small network on a mesh, and the step that was compiled for it, once for all tests."""

    model: dict[str, Any]
    mesh: Mesh
    optimizer: optax.GradientTransformation
    train_steps: Callable[..., Any]

    @property
    def fresh(self) -> TrainState:
        return create_state(self.model, NUM_CLASSES, self.optimizer, 7)


@functools.cache
def setting(num_devices: int, **model_fields: Any) -> Setting:
    config = default_config()
    config.model.update({"variant": "nano", "image_px": 16, "drop_path": 0.3, "dropout": 0.3})
    config.model.update(model_fields)
    mesh = mesh_lib.make_mesh(jax.devices()[:num_devices])
    # Adam divides by the root of the second moment, so where a gradient is all rounding noise a
    # small eps turns noise into whole steps. 1e-3 leaves such weights where they are.
    optimizer = make_optimizer(
        optax.constant_schedule(1e-3),
        b1=0.9,
        b2=0.999,
        eps=1e-3,
        weight_decay=1e-4,
        grad_clip_norm=1.0,
    )
    model = config.model.to_dict()
    step_config = StepConfig(
        policy=get_policy("glyph_safe"),
        seed=7,
        image_px=16,
        label_smoothing=0.1,
        ema_decay=0.9,
        mixup_alpha=0.4,
    )
    train_steps = make_train_steps(make_graphdef(model, NUM_CLASSES), optimizer, mesh, step_config)
    return Setting(model, mesh, optimizer, train_steps)


def dispatches(num: int = 3) -> Any:
    """A Grain iterator over the numbers of dispatches: the position that a checkpoint keeps."""
    return iter(grain.MapDataset.range(num).to_iter_dataset())


def three_steps(
    dataset: Path,
    num_devices: int,
    per_dispatch: int = 1,
    microbatches: int = 1,
    batch_size: int = 16,
    *,
    state: TrainState | None = None,
    numbers: Iterable[int] | None = None,
    **model_fields: Any,
) -> tuple[TrainState, list]:
    """Three steps of a few images; a quarter of the rows are clean copies, the rest augmented.

    Or those that `numbers` still gives, from `state` on.
    """
    network = setting(num_devices, **model_fields)
    split = load_split(dataset, "train")
    resident = Resident(split.images, split.labels, address_of(split.sample_ids))
    data = mesh_lib.replicate(resident, network.mesh)
    if state is None:
        state = mesh_lib.replicate(network.fresh, network.mesh)
    rng = np.random.default_rng(3)
    shape = (3, microbatches, batch_size // microbatches)
    rows = rng.integers(0, len(split.labels), shape).astype(np.int32)
    copies = rng.integers(0, 4, rows.shape).astype(np.int32)
    all_sums = []
    with jax.transfer_guard("disallow"):
        for number in dispatches(3 // per_dispatch) if numbers is None else numbers:
            chosen = slice(number * per_dispatch, (number + 1) * per_dispatch)
            batch = mesh_lib.to_global(IndexBatch(rows[chosen], copies[chosen]), network.mesh, 2)
            state, metrics = network.train_steps(state, data, batch)
            all_sums.append(jax.device_get(metrics.sums))
    return jax.device_get(state), all_sums


def assert_close(one: TrainState, other: TrainState) -> None:
    paths = jax.tree_util.tree_leaves_with_path(one)
    for (path, left), right in zip(paths, jax.tree.leaves(other), strict=True):
        name = jax.tree_util.keystr(path)
        # Eight devices add the same float32 numbers in another order. In a gradient they cancel,
        # so that its rounding is as its largest entry is, not as each one.
        atol = 1e-6 + (1e-4 * np.abs(left).max() if "opt_state" in name else 0)
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def on_one_device(tiny_dataset: Path) -> tuple[TrainState, list]:
    return three_steps(tiny_dataset, 1)


def test_eight_devices_take_the_steps_of_one(
    tiny_dataset: Path, on_one_device: tuple[TrainState, list]
) -> None:
    state, sums = three_steps(tiny_dataset, 8)
    assert_close(on_one_device[0], state)
    for ours, theirs in zip(on_one_device[1], sums, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        np.testing.assert_array_equal(ours.hits, theirs.hits)


@pytest.mark.parametrize(("before", "after"), [(8, 1), (1, 8)])
def test_a_run_goes_on_on_another_number_of_devices(
    before: int,
    after: int,
    tiny_dataset: Path,
    on_one_device: tuple[TrainState, list],
    tmp_path: Path,
) -> None:
    positions = dispatches()
    two = itertools.islice(positions, 2)
    state, sums = three_steps(tiny_dataset, before, numbers=two)
    meta = {
        "config": default_config().to_dict() | {"model": setting(before).model},
        "class_index": {"digest": "", "codepoint_to_id": dict.fromkeys("春夏秋冬山川")},
        "manifest_sha256": "",
    }
    store = CheckpointStore(tmp_path, max_to_keep=2)
    store.save(2, state, positions, meta, None)
    store.close()
    loaded = load_variables(tmp_path)  # for inference: on the host, whatever there was before
    for ours, theirs in zip(
        jax.tree.leaves(loaded.ema_params), jax.tree.leaves(state.ema_params), strict=True
    ):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_array_equal(ours, theirs)
    store, positions = CheckpointStore(tmp_path, max_to_keep=2), dispatches()
    restored = store.restore_latest(setting(after).fresh, positions, setting(after).mesh, meta)
    store.close()
    assert restored is not None
    assert len(restored[0].params["classifier"]["kernel"].sharding.device_set) == after
    state, last = three_steps(tiny_dataset, after, state=restored[0], numbers=positions)
    sums += last
    assert_close(on_one_device[0], state)
    for ours, theirs in zip(on_one_device[1], sums, strict=True):
        np.testing.assert_array_equal(ours.hits, theirs.hits)


@pytest.mark.slow
def test_three_steps_in_one_dispatch_are_three_steps(
    tiny_dataset: Path, on_one_device: tuple[TrainState, list]
) -> None:
    state, sums = three_steps(tiny_dataset, 1, per_dispatch=3)
    assert_close(on_one_device[0], state)
    assert int(sums[0].count) == 48 and int(state.step) == 3


@pytest.mark.slow
def test_microbatches_learn_what_the_whole_batch_does(tiny_dataset: Path) -> None:
    still = {"drop_path": 0.0, "dropout": 0.0, "norm_group": 8}
    whole, whole_sums = three_steps(tiny_dataset, 1, **still)
    parts, parts_sums = three_steps(tiny_dataset, 1, microbatches=2, **still)
    # The running statistics take two parts one after the other, not their mean.
    for name in ("params", "opt_state", "ema_params"):
        for one, other in zip(
            jax.tree.leaves(getattr(whole, name)),
            jax.tree.leaves(getattr(parts, name)),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for one, other in zip(whole_sums, parts_sums, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


@pytest.mark.slow
def test_statistics_of_groups_do_not_depend_on_the_devices(tiny_dataset: Path) -> None:
    # Eight to a group: of two, all but equal activations make rounding noise as loud as they are.
    one, _ = three_steps(tiny_dataset, 1, batch_size=64, norm_group=8)
    eight, _ = three_steps(tiny_dataset, 8, batch_size=64, norm_group=8)
    assert_close(one, eight)


def test_a_group_that_does_not_divide_the_batch_is_refused(tiny_dataset: Path) -> None:
    with pytest.raises(ValueError, match="norm_group must divide"):
        three_steps(tiny_dataset, 1, norm_group=5)


def test_the_average_follows_the_weights_and_the_statistics(
    on_one_device: tuple[TrainState, list],
) -> None:
    state, _ = on_one_device
    for average, value in (
        (state.ema_params, state.params),
        (state.ema_batch_stats, state.batch_stats),
    ):
        gaps = jax.tree.map(lambda a, v: float(np.abs(a - v).max()), average, value)
        assert 0 < max(jax.tree.leaves(gaps)) < 1


def test_a_padded_last_batch_changes_no_score_on_eight_devices(
    tiny_dataset: Path, on_one_device: tuple[TrainState, list]
) -> None:
    network = setting(8)
    split = load_split(tiny_dataset, "train")
    state = on_one_device[0]
    variables = (state.ema_params, state.ema_batch_stats)
    results = [
        Evaluator(network.model, NUM_CLASSES, mesh=network.mesh, batch_size=batch_size).predictions(
            *variables, split.images, split.labels
        )
        for batch_size in (16, 40)
    ]
    assert len(split.labels) % 16 and len(split.labels) % 40
    np.testing.assert_array_equal(results[0].top_ids, results[1].top_ids)
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-5, atol=1e-6)
