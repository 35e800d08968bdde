"""The programs that gpu.py times: ours, its peers, and single layers."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from our_step import make_steady_optimizer, prepare

from kkanji_jax.config import default_config
from kkanji_jax.model.depthwise import depthwise_conv
from kkanji_jax.model.losses import example_losses
from kkanji_jax.model.network import make_graphdef
from kkanji_jax.model.variants import STEM_CHANNELS, blocks_of, get_variant, round_filters
from kkanji_jax.training.state import create_state, moving_average

Run = Callable[[], int]  # trains on some images, waits for the device, says how many they were


class Sizes(NamedTuple):
    variant: str
    image_px: int
    num_classes: int
    num_images: int  # resident
    batches: tuple[int, ...]  # the first one is the peers' too
    num_steps: int
    rounds: int
    layer_images: int
    layer_channels: int  # at most
    compiler: str  # torch.compile's backend


FULL = Sizes("b0", 64, 3881, 100_000, (1024, 4096), 10, 5, 1024, 10_000, "inductor")
SMOKE = Sizes("nano", 16, 10, 32, (4, 8), 2, 5, 2, 8, "aot_eager")


def our_step(sizes: Sizes, batch_size: int, *, stem_stride: int = 2, policy: str) -> Run:
    """The trainer's step, on images on the device."""
    program = prepare(
        {
            "variant": sizes.variant,
            "image_px": sizes.image_px,
            "stem_stride": stem_stride,
            "dtype": "bfloat16",
        },
        num_classes=sizes.num_classes,
        num_images=sizes.num_images,
        batch_size=batch_size,
        num_steps=sizes.num_steps,
        policy=policy,
    )
    train_steps, state, data, batch = program

    def run() -> int:
        nonlocal state
        state, metrics = train_steps(state, data, batch)
        jax.block_until_ready((state, metrics))
        return sizes.num_steps * batch_size

    return run


def constant_step(sizes: Sizes, batch_size: int) -> Run:
    """The same network, optimizer and averages on one batch of floats that never changes."""
    config = default_config()
    config.model.update({"variant": sizes.variant, "image_px": sizes.image_px, "dtype": "bfloat16"})
    model, optimizer = config.model.to_dict(), make_steady_optimizer(config.optim)
    graphdef = make_graphdef(model, sizes.num_classes)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((batch_size, sizes.image_px, sizes.image_px, 1), np.float32))
    labels = jnp.asarray(rng.integers(0, sizes.num_classes, batch_size, np.int32))
    state: Any = jax.device_put(create_state(model, sizes.num_classes, optimizer, 0))

    def one_step(state: Any, images: Any, labels: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(0), state.step)

        def loss_fn(params: Any) -> tuple[Any, Any]:
            network = nnx.merge(graphdef, params, state.batch_stats)
            rngs = nnx.Rngs(dropout=key, drop_path=jax.random.fold_in(key, 1))
            logits = network(images, train=True, rngs=rngs)
            stats = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
            return jnp.mean(example_losses(logits, labels, 0.1)), stats

        grads, stats = jax.grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averages = [
            moving_average(average, value, 0.999, state.step)
            for average, value in ((state.ema_params, params), (state.ema_batch_stats, stats))
        ]
        return type(state)(state.step + 1, params, stats, opt_state, *averages)

    @functools.partial(jax.jit, donate_argnums=0)
    def train(state: Any, images: Any, labels: Any) -> Any:
        def body(state: Any, _: None) -> tuple[Any, None]:
            return one_step(state, images, labels), None

        return jax.lax.scan(body, state, None, sizes.num_steps)[0]

    def run() -> int:
        nonlocal state
        state = jax.block_until_ready(train(state, images, labels))
        return sizes.num_steps * batch_size

    return run


def timm_step(sizes: Sizes, *, is_bfloat16: bool, is_compiled: bool) -> Run:
    """tf_efficientnet_b0 on one constant batch: float32 as it comes, bfloat16 channels_last."""
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch_size, side = sizes.batches[0], 2 * sizes.image_px if sizes is SMOKE else sizes.image_px
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if is_bfloat16 else torch.contiguous_format
    network = timm.create_model(
        "tf_efficientnet_b0",
        in_chans=1,
        num_classes=sizes.num_classes,
        drop_rate=0.2,
        drop_path_rate=0.2,
    )
    network = network.to(device, memory_format=layout).train()
    forward = torch.compile(network, backend=sizes.compiler) if is_compiled else network
    is_fused = device == "cuda"
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, amsgrad=True, fused=is_fused)
    images = torch.rand(batch_size, 1, side, side, device=device).to(memory_format=layout)
    labels = torch.randint(sizes.num_classes, (batch_size,), device=device)

    def run() -> int:
        for _ in range(sizes.num_steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=is_bfloat16):
                logits = forward(images)
            loss = torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return sizes.num_steps * batch_size

    return run


def copy_bandwidth(num_bytes: int) -> float:
    """Bytes a second that a large copy reads and writes: the highest speed of the memory."""
    source = jnp.zeros(num_bytes // 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(source))
    times = []
    for _ in range(10):
        start_s = time.perf_counter()
        jax.block_until_ready(copy(source))
        times.append(time.perf_counter() - start_s)
    return 2 * num_bytes / min(times)


def depthwise_layers(sizes: Sizes) -> list[tuple[int, int, int, int]]:
    """(side, channels, kernel, stride) of the distinct depthwise layers, in the network's order."""
    variant = get_variant(sizes.variant)
    channels, side = round_filters(STEM_CHANNELS, variant.width), sizes.image_px // 2
    layers = []
    for block in blocks_of(variant):
        expanded = min(channels * block.expand_ratio, sizes.layer_channels)
        layers.append((side, expanded, block.kernel_px, block.stride))
        side, channels = -(-side // block.stride), block.out_channels
    return list(dict.fromkeys(layers))


def time_layer(sizes: Sizes, layer: tuple[int, int, int, int], form: str) -> float:
    """Microseconds of a depthwise layer's value and both gradients, in bfloat16."""
    side, channels, kernel_px, stride = layer
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (sizes.layer_images, side, side, channels), jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (kernel_px, kernel_px, 1, channels))
    out = -(-side // stride)
    dy = jax.random.normal(keys[2], (sizes.layer_images, out, out, channels), jnp.bfloat16)

    @jax.jit
    def run(x: Any, kernel: Any, dy: Any) -> Any:
        y, pull_back = jax.vjp(lambda x, k: depthwise_conv(x, k, stride, form), x, kernel)
        return y, pull_back(dy)

    jax.block_until_ready(run(x, kernel, dy))
    times = []
    for _ in range(sizes.rounds):
        start_s = time.perf_counter()
        results = [run(x, kernel, dy) for _ in range(sizes.num_steps)]
        jax.block_until_ready(results)
        times.append((time.perf_counter() - start_s) / sizes.num_steps)
    return 1e6 * statistics.median(times)
