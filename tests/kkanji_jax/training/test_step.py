"""One update, stated in NumPy by its formulas, and the trainer's own step held to it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.stats import beta

from kkanji_jax.augment.engine import augment, sample_keys
from kkanji_jax.augment.policy import NONE
from kkanji_jax.model.efficientnet import BatchNorm
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.training.optim import make_optimizer
from kkanji_jax.training.state import TrainState
from kkanji_jax.training.step import (
    IndexBatch,
    PixelBatch,
    Resident,
    StepConfig,
    make_examples,
    make_train_steps,
)

PX, NUM_FEATURES, NUM_CLASSES, BATCH = 4, 6, 9, 24
NUM_IMAGES, NUM_STEPS, SEED = 40, 4, 11
KEPT = 0.75  # of the features, and of the images, by the network's two draws
B1, B2, EPS = 0.8, 0.95, 1e-3
CONFIG = StepConfig(
    policy=NONE, seed=SEED, image_px=PX, label_smoothing=0.2, ema_decay=0.999, mixup_alpha=0.0
)


class SmallNetwork(nnx.Module):
    """Pixels to features, normalised, some features and some images dropped, to logits."""

    def __init__(self):
        self.kernel = nnx.Param(jnp.zeros((PX * PX, NUM_FEATURES)))
        self.norm = BatchNorm(NUM_FEATURES)
        self.head = nnx.Param(jnp.zeros((NUM_FEATURES, NUM_CLASSES)))
        self.bias = nnx.Param(jnp.zeros(NUM_CLASSES))

    def __call__(self, x: Any, *, train: bool, rngs: nnx.Rngs, momentum: Any) -> jax.Array:
        x = x.reshape(len(x), -1) @ self.kernel[...]
        x = self.norm(x[:, None, None], train=train, momentum=momentum)[:, 0, 0]
        keeps = jax.random.bernoulli(rngs.dropout(), KEPT, x.shape)
        stays = jax.random.bernoulli(rngs.drop_path(), KEPT, (len(x), 1))
        return (x * keeps * stays / KEPT) @ self.head[...] + self.bias[...]


GRAPHDEF = nnx.graphdef(SmallNetwork())


def learning_rate(count: Any) -> Any:
    return 0.02 * (1 + count)


@dataclass(frozen=True)
class Case:
    """A step's settings, and the state it is told to begin in."""

    config: StepConfig
    microbatches: int = 1
    per_dispatch: int = 1
    weight_decay: float = 0.0
    clip: float | None = None
    first_step: int = 0

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return make_optimizer(
            learning_rate,
            b1=B1,
            b2=B2,
            eps=EPS,
            weight_decay=self.weight_decay,
            grad_clip_norm=self.clip,
        )


CASES = {
    "smoothing and decay": Case(CONFIG, weight_decay=0.3),
    "mixup, two steps a dispatch": Case(replace(CONFIG, mixup_alpha=0.4), per_dispatch=2),
    "three microbatches": Case(replace(CONFIG, label_smoothing=0.0), 3, weight_decay=0.1),
    "three microbatches with mixup, clipped": Case(
        replace(CONFIG, mixup_alpha=0.7), microbatches=3, per_dispatch=2, clip=0.05
    ),
    # Here averages and momentum have risen to what the config and the network say.
    "late, clipped, decayed": Case(
        replace(CONFIG, ema_decay=0.9), clip=0.1, weight_decay=0.2, first_step=5000
    ),
}


# --- the statement, in NumPy -------------------------------------------------------------------


def images_and_labels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (NUM_IMAGES, PX, PX)).astype(np.uint8)
    labels = rng.integers(0, NUM_CLASSES, NUM_IMAGES).astype(np.int32)
    return images, labels, rng.integers(0, 2**32, (NUM_IMAGES, 2), np.uint32)


def key_of_microbatch(step: int, number: int, case: Case) -> jax.Array:
    """A step has a key of its own; of several microbatches each has one, folded from 2 on."""
    key = jax.random.fold_in(jax.random.key(SEED), step)
    return key if case.microbatches == 1 else jax.random.fold_in(key, 2 + number)


def kept(key: jax.Array, size: int) -> np.ndarray:
    """What the network keeps of each feature, by the draws of its two streams."""
    rngs = nnx.Rngs(dropout=key, drop_path=jax.random.fold_in(key, 1))
    keeps = jax.random.bernoulli(rngs.dropout(), KEPT, (size, NUM_FEATURES))
    stays = jax.random.bernoulli(rngs.drop_path(), KEPT, (size, 1))
    return np.asarray(keeps) * np.asarray(stays) / KEPT


def shares_of(addresses: np.ndarray, copies: np.ndarray, alpha: float) -> np.ndarray:
    """The larger part of a draw of Beta(alpha, alpha), by a word of the image's own key."""
    words = []
    for (first, second), copy in zip(addresses, copies, strict=True):
        key = jax.random.key(SEED, impl="threefry2x32")
        for number in (first, second, copy, 2):  # 2: the stream of mixup
            key = jax.random.fold_in(key, number)
        words.append(int(jax.random.bits(key, (), jnp.uint32)))
    places = np.array(words) // 2**22  # in a table of 1,024 quantiles
    return beta.ppf(0.5 + (places + 0.5) / 2048, alpha, alpha)


def targets_of(labels: np.ndarray, share: np.ndarray, smoothing: float) -> np.ndarray:
    """A distribution over classes: of the image, of its neighbour by what is left, smoothed."""
    one_hot = np.eye(NUM_CLASSES)
    others = labels.reshape(-1, 2)[:, ::-1].ravel()
    targets = share[:, None] * one_hot[labels] + (1 - share[:, None]) * one_hot[others]
    return (1 - smoothing) * targets + smoothing / NUM_CLASSES


def microbatch(
    params: Any, batch_stats: Any, x: np.ndarray, targets: np.ndarray, kept: np.ndarray, keep: float
) -> tuple[Any, Any, np.ndarray]:
    """The gradient of the mean cross-entropy, the running statistics after it, and the logits."""
    n, norm, running = len(x), params["norm"], batch_stats["norm"]
    features = x @ params["kernel"]
    mean, var = features.mean(0), features.var(0)
    deviation = np.sqrt(var + 1e-3)
    normal = (features - mean) / deviation
    hidden = (normal * norm["scale"] + norm["bias"]) * kept
    logits = hidden @ params["head"] + params["bias"]
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    by_logits = (exponents / exponents.sum(1, keepdims=True) - targets) / n
    by_norm = by_logits @ params["head"].T * kept
    by_normal = by_norm * norm["scale"]
    by_features = (
        by_normal - by_normal.mean(0) - normal * (by_normal * normal).mean(0)
    ) / deviation
    gradient = {
        "kernel": x.T @ by_features,
        "norm": {"scale": (by_norm * normal).sum(0), "bias": by_norm.sum(0)},
        "head": hidden.T @ by_logits,
        "bias": by_logits.sum(0),
    }
    stats = {
        "norm": {
            "mean": keep * running["mean"] + (1 - keep) * mean,
            "var": keep * running["var"] + (1 - keep) * var,
        }
    }
    return gradient, stats, logits


def norm_of(tree: Any) -> float:
    return float(np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree))))


def measured(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What a log counts: by the image's own label, without smoothing."""
    ranked = np.argsort(-logits, axis=1, kind="stable")
    is_hit = ranked[:, 0] == labels
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return {
        "loss": -log_probs[np.arange(len(labels)), labels].sum(),
        "count": len(labels),
        "top5": sum(label in row for label, row in zip(labels, ranked[:, :5], strict=True)),
        "true": np.bincount(labels, minlength=NUM_CLASSES),
        "predicted": np.bincount(ranked[:, 0], minlength=NUM_CLASSES),
        "hits": np.bincount(labels[is_hit], minlength=NUM_CLASSES),
    }


def numpy_update(
    case: Case, state: dict[str, Any], rows: np.ndarray, copies: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state after one update by [m b] examples, and what it measured."""
    config, step, count = case.config, state["step"], state["count"]
    images, labels, addresses = images_and_labels()
    params, stats = state["params"], state["batch_stats"]
    ramp = (1 + step) / (10 + step)
    gradients, metrics = [], []
    for number, (chosen, chosen_copies) in enumerate(zip(rows, copies, strict=True)):
        x = images[chosen].reshape(len(chosen), -1) / 255
        share = np.ones(len(chosen))
        if config.mixup_alpha:
            share = shares_of(addresses[chosen], chosen_copies, config.mixup_alpha)
        other = x.reshape(-1, 2, x.shape[1])[:, ::-1].reshape(x.shape)
        x = share[:, None] * x + (1 - share[:, None]) * other
        gradient, stats, logits = microbatch(
            params,
            stats,
            x,
            targets_of(labels[chosen], share, config.label_smoothing),
            kept(key_of_microbatch(step, number, case), len(chosen)),
            min(0.99, ramp),
        )
        gradients.append(gradient)
        metrics.append(measured(logits, labels[chosen]))
    gradient = jax.tree.map(lambda *parts: sum(parts) / len(parts), *gradients)
    norms = {"count": 1, "gradient": norm_of(gradient)}
    if case.clip is not None:
        shrink = min(1.0, case.clip / norms["gradient"])
        gradient = jax.tree.map(lambda leaf: leaf * shrink, gradient)

    # As torch.optim.Adam(amsgrad=True) does it: the maximum first, the bias after it.
    mu = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, state["mu"], gradient)
    nu = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g**2, state["nu"], gradient)
    nu_max = jax.tree.map(np.maximum, state["nu_max"], nu)
    t = count + 1
    rate = learning_rate(count)

    def step_of(m: np.ndarray, v: np.ndarray, weight: np.ndarray) -> np.ndarray:
        adam = m / (1 - B1**t) / (np.sqrt(v) / np.sqrt(1 - B2**t) + EPS)
        decay = case.weight_decay * weight if weight.ndim == 2 else 0.0
        return -rate * (adam + decay)

    update = jax.tree.map(step_of, mu, nu_max, params)
    params = jax.tree.map(np.add, params, update)
    norms |= {"update": norm_of(update), "weight": norm_of(params)}
    decay = min(config.ema_decay, ramp)

    def averaged(average: Any, value: Any) -> Any:
        return jax.tree.map(lambda a, v: decay * a + (1 - decay) * v, average, value)

    after = {
        "step": step + 1,
        "count": count + 1,
        "params": params,
        "batch_stats": stats,
        "mu": mu,
        "nu": nu,
        "nu_max": nu_max,
        "ema_params": averaged(state["ema_params"], params),
        "ema_batch_stats": averaged(state["ema_batch_stats"], stats),
    }
    sums = {name: sum(part[name] for part in metrics) for name in metrics[0]}
    return after, {"sums": sums, "norms": norms}


def first_state(case: Case) -> TrainState:
    """Weights, statistics and averages that are all different."""
    rng = np.random.default_rng(1)

    def drawn(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), tree)

    def statistics() -> Any:
        return {
            "norm": {
                "mean": rng.normal(0, 1, NUM_FEATURES).astype(np.float32),
                "var": rng.uniform(0.5, 2, NUM_FEATURES).astype(np.float32),
            }
        }

    params = nnx.to_pure_dict(nnx.state(SmallNetwork(), nnx.Param))
    weights = drawn(params)
    return TrainState(
        step=np.asarray(case.first_step, np.int32),
        params=weights,
        batch_stats=statistics(),
        opt_state=jax.device_get(case.optimizer.init(weights)),
        ema_params=drawn(params),
        ema_batch_stats=statistics(),
    )


def amsgrad_of(state: TrainState) -> Any:
    """The moments, wherever in the chain they stand."""
    (found,) = (
        part for part in jax.tree.leaves(state.opt_state, is_leaf=is_moments) if is_moments(part)
    )
    return found


def is_moments(part: object) -> bool:
    return hasattr(part, "nu_max")


def as_numpy(state: TrainState) -> dict[str, Any]:
    moments = amsgrad_of(state)
    trees = {name: getattr(state, name) for name in ("params", "batch_stats")}
    trees |= {name: getattr(state, name) for name in ("ema_params", "ema_batch_stats")}
    trees |= {name: getattr(moments, name) for name in ("mu", "nu", "nu_max")}
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), trees)
    return wide | {"step": int(state.step), "count": int(moments.count)}


# --- the trainer's own -------------------------------------------------------------------------


def batches_of(case: Case) -> IndexBatch:
    """NUM_STEPS batches in dispatches: [dispatch s m b]."""
    rng = np.random.default_rng(5)
    size = BATCH // case.microbatches
    shape = (NUM_STEPS // case.per_dispatch, case.per_dispatch, case.microbatches, size)
    rows, copies = (rng.integers(0, most, shape).astype(np.int32) for most in (NUM_IMAGES, 3))
    return IndexBatch(rows, copies)


@pytest.mark.parametrize("name", CASES)
def test_four_updates_are_those_of_the_formulas(name: str) -> None:
    case = CASES[name]
    mesh = mesh_lib.make_mesh(jax.devices()[:1])
    train_steps = make_train_steps(GRAPHDEF, case.optimizer, mesh, case.config)
    data = mesh_lib.replicate(Resident(*images_and_labels()), mesh)
    state = mesh_lib.replicate(first_state(case), mesh)
    ours, batches = as_numpy(first_state(case)), batches_of(case)
    for dispatch in range(NUM_STEPS // case.per_dispatch):
        batch = IndexBatch(batches.rows[dispatch], batches.copies[dispatch])
        state, metrics = train_steps(state, data, mesh_lib.to_global(batch, mesh, axis=2))
        told = []
        for rows, copies in zip(*batch, strict=True):
            ours, measures = numpy_update(case, ours, rows, copies)
            told.append(measures)
        for part in ("sums", "norms"):
            found = jax.device_get(getattr(metrics, part))._asdict()
            assert found.keys() == told[0][part].keys()
            for key, value in found.items():
                expected = sum(np.asarray(measures[part][key]) for measures in told)
                np.testing.assert_allclose(value, expected, rtol=1e-4, err_msg=key)
    found = as_numpy(jax.device_get(state))
    assert found.keys() == ours.keys() and found["step"] == case.first_step + NUM_STEPS
    paths = jax.tree.leaves_with_path(found)
    for (path, value), expected in zip(paths, jax.tree.leaves(ours), strict=True):
        # Four float32 updates of weights of size 1, by gradients of size 0.01.
        message = jax.tree_util.keystr(path)
        np.testing.assert_allclose(value, expected, rtol=2e-4, atol=2e-5, err_msg=message)


def test_what_is_clipped_is_what_the_cases_say() -> None:
    """Else a case that means to clip would not know whether anything does."""
    for name, case in CASES.items():
        batches, state = batches_of(case), as_numpy(first_state(case))
        rows, copies = (np.asarray(column)[0, 0] for column in batches)
        _, told = numpy_update(case, state, rows, copies)
        assert case.clip is None or told["norms"]["gradient"] > 1.5 * case.clip, name


# --- what the network is shown -----------------------------------------------------------------

TURNED = NONE._replace(name="turned", rotation_max_deg=40.0)


@pytest.fixture(scope="module")
def shown() -> Callable[..., np.ndarray]:
    """The inputs that copies of four glyphs become, as grey levels of 255."""
    images = np.zeros((4, 16, 16), np.uint8)
    images[:, 4:12, 4:12] = np.random.default_rng(0).integers(0, 256, (4, 8, 8))
    labels, addresses = np.arange(4, dtype=np.int32), np.arange(8, dtype=np.uint32).reshape(4, 2)

    @functools.partial(jax.jit, static_argnums=0)
    def both(seed: int, copies: jax.Array) -> tuple[jax.Array, jax.Array]:
        config = replace(CONFIG, policy=TURNED, seed=seed, image_px=16)
        examples = make_examples(config, None, PixelBatch(images, labels, addresses, copies))
        keys = sample_keys(seed, jnp.asarray(addresses), copies)
        return examples.inputs, augment(jnp.asarray(images), keys, copies, TURNED)

    def make(seed: int = 3, copies: tuple[int, ...] = (0, 1, 2, 1)) -> np.ndarray:
        inputs, varied = both(seed, np.asarray(copies, np.int32))
        np.testing.assert_allclose(255 * np.asarray(inputs)[..., 0], varied, atol=1e-4)
        return np.asarray(varied)

    return make


def test_each_copy_of_an_image_is_varied_in_its_own_way(shown: Callable[..., np.ndarray]) -> None:
    first, second = shown(), shown(copies=(0, 2, 2, 0))
    np.testing.assert_array_equal(first[[0, 2]], second[[0, 2]])
    for number in (1, 3):
        assert (first[number] != second[number]).any()


def test_the_seed_decides_how_an_image_is_varied(shown: Callable[..., np.ndarray]) -> None:
    assert (shown()[1:] != shown(seed=4)[1:]).any(axis=(1, 2)).all()
