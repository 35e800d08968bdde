"""A training step on the CPU: ours, Flax's own layers, and PyTorch's two memory layouts.

    python scripts/benchmarks/train_step.py [--only ours,flax] [--rounds 5]

EfficientNet-B0 at 64 px, float32, Adam(amsgrad), the same batch size; images per CPU second, in
turns, all on the same core. Ours is the trainer's own step, with its gather, its weight averages
and its counts by class; the peers learn and no more. The PyTorch rows need the `golden` extra.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import turns

NUM_CLASSES, IMAGE_PX = 3881, 64
PEERS = {
    "flax": "Flax's nnx.Conv network",
    "nchw": "PyTorch eager, NCHW",
    "channels_last": "PyTorch eager, channels_last",
}


def forward_macs(name: str, image_px: int, stem_stride: int, num_classes: int) -> tuple[int, int]:
    """Multiply-adds of one image through all layers, and through the depthwise ones alone."""
    from kkanji_jax.model.efficientnet import SE_RATIO, STEM_KERNEL_PX
    from kkanji_jax.model.variants import (
        HEAD_CHANNELS,
        STAGES,
        STEM_CHANNELS,
        get_variant,
        round_filters,
        round_repeats,
    )

    variant = get_variant(name)
    channels, side = round_filters(STEM_CHANNELS, variant.width), -(-image_px // stem_stride)
    total, depthwise = side * side * STEM_KERNEL_PX**2 * channels, 0
    for stage in STAGES:
        out_channels = round_filters(stage.out_channels, variant.width)
        for repeat in range(round_repeats(stage.num_blocks, variant.depth)):
            expanded = channels * stage.expand_ratio
            total += side * side * channels * expanded * (stage.expand_ratio != 1)
            side = -(-side // (1 if repeat else stage.stride))
            depthwise += side * side * stage.kernel_px**2 * expanded
            total += 2 * expanded * max(1, int(channels * SE_RATIO))
            total += side * side * expanded * out_channels
            channels = out_channels
    width = round_filters(HEAD_CHANNELS, variant.width)
    total += side * side * channels * width + width * num_classes
    return total + depthwise, depthwise


def our_step(batch_size: int) -> tuple[Callable[[], int], str]:
    """A call of the trainer's step, and a word on XLA's count of its operations.

    XLA counts the body of a loop once. The depthwise kernels' gradients are such loops here, and
    are added in full.
    """
    import jax
    from our_step import prepare

    train_steps, state, data, batch = prepare(
        {}, num_classes=NUM_CLASSES, num_images=16 * batch_size, batch_size=batch_size
    )
    compiled = train_steps.lower(state, data, batch).compile()
    analysis: Any = compiled.cost_analysis()

    def work() -> int:
        nonlocal state
        state, sums = compiled(state, data, batch)
        jax.block_until_ready((state, sums))
        return batch_size

    macs, depthwise_macs = forward_macs("b0", IMAGE_PX, 2, NUM_CLASSES)
    flops = analysis["flops"] / batch_size + 2 * depthwise_macs
    return work, (
        f"{flops / 1e9:.3f} GFLOP/image by XLA, {6 * macs / 1e9:.3f} by the paper's table: "
        f"{flops / (6 * macs):.2f} x"
    )


def flax_step(batch_size: int) -> Callable[[], int]:
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx
    from flax_peer import FlaxEfficientNet
    from our_step import make_steady_optimizer

    from kkanji_jax.config import default_config
    from kkanji_jax.model.variants import get_variant

    network = FlaxEfficientNet(get_variant("b0"), NUM_CLASSES, rngs=nnx.Rngs(0))
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    params, stats = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
    optimizer = make_steady_optimizer(default_config().optim)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((batch_size, IMAGE_PX, IMAGE_PX, 1), np.float32))
    labels = jnp.asarray(rng.integers(0, NUM_CLASSES, batch_size))

    def step(params: Any, stats: Any, opt_state: Any) -> Any:
        def loss_fn(params: Any) -> Any:
            network = nnx.merge(graphdef, params, stats)
            targets = optax.smooth_labels(jax.nn.one_hot(labels, NUM_CLASSES), 0.1)
            loss = optax.softmax_cross_entropy(network(images), targets).mean()
            return loss, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

        grads, new_stats = jax.grad(loss_fn, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), new_stats, opt_state

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))
    state = (params, stats, optimizer.init(params))
    state = jax.tree.map(jnp.copy, state)  # moments of zeros are one buffer, not to donate twice

    def work() -> int:
        nonlocal state
        state = jax.block_until_ready(compiled(*state))
        return batch_size

    return work


def torch_step(batch_size: int, is_channels_last: bool, num_cores: int) -> Callable[[], int]:
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    torch.set_num_threads(num_cores)
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    network = timm.create_model(
        "tf_efficientnet_b0", in_chans=1, num_classes=NUM_CLASSES, drop_rate=0.2, drop_path_rate=0.2
    )
    network = network.to(memory_format=layout).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, amsgrad=True)
    images = torch.rand(batch_size, 1, IMAGE_PX, IMAGE_PX).to(memory_format=layout)
    labels = torch.randint(NUM_CLASSES, (batch_size,))

    def work() -> int:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(network(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        return batch_size

    return work


def run_worker(name: str, batch_size: int, num_steps: int, num_cores: int) -> None:
    note = ""
    if name == "ours":
        step, note = our_step(batch_size)
    elif name == "flax":
        step = flax_step(batch_size)
    else:
        step = torch_step(batch_size, name == "channels_last", num_cores)
    step()
    turns.serve(lambda: sum(step() for _ in range(num_steps)), note)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="ours," + ",".join(PEERS), help="names with commas")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2, help="a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        run_worker(args.worker, args.batch_size, args.steps, args.cores)
        return 0
    names = args.only.split(",")
    if unknown := set(names) - {"ours", *PEERS}:
        parser.error(f"--only takes ours, {', '.join(PEERS)}; got {', '.join(sorted(unknown))}")
    common = [str(Path(__file__)), "--batch-size", str(args.batch_size), "--steps", str(args.steps)]
    commands = {name: [*common, "--cores", str(args.cores), "--worker", name] for name in names}
    found = turns.take_turns(commands, args.rounds, num_cores=args.cores)
    for name, spent in found.items():
        rates = [turn.units / turn.cpu_s for turn in spent]
        print(f"{PEERS.get(name, name):32} {statistics.median(rates):6.1f} images/CPU-s")
    for name in names:
        if name != "ours" and "ours" in found:
            print(turns.comparison(PEERS[name], turns.ratios(found["ours"], found[name])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
