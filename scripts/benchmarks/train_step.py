"""A training step on the CPU: ours, Flax's own layers, and PyTorch's in eight forms.

    python scripts/benchmarks/train_step.py --batch-size 128 --only ours,torch [--stem-stride 1]
    python scripts/benchmarks/train_step.py --only ours,flax

EfficientNet-B0 at 64 px, Adam(amsgrad), the same batch size; images per CPU second, in turns, all
on the same cores. Ours is the trainer's own step in float32, with its gather, its weight averages
and its counts by class; the peers learn and no more. PyTorch runs timm's network eagerly and
compiled, in float32 and under bfloat16 autocast, NCHW and channels_last; what it takes to compile
is not counted. Its rows need the `golden` extra and, compiled, a C++ compiler; --torch-python names
the interpreter of an environment that has them, where this one has not.
"""

import argparse
import itertools
import os
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import turns

NUM_CLASSES, IMAGE_PX = 3881, 64


class TorchForm(NamedTuple):
    """One of the ways in which PyTorch runs the same network."""

    is_compiled: bool
    is_bfloat16: bool
    is_channels_last: bool

    def __str__(self) -> str:
        mode = "compiled" if self.is_compiled else "eager"
        dtype = "bfloat16" if self.is_bfloat16 else "float32"
        return f"{mode}-{dtype}-{'channels_last' if self.is_channels_last else 'nchw'}"


TORCH = {
    str(form): form for form in itertools.starmap(TorchForm, itertools.product((0, 1), repeat=3))
}
NAMES = ("ours", "flax", *TORCH)


class Shape(NamedTuple):
    """What all programs of a comparison share."""

    batch_size: int
    stem_stride: int
    num_cores: int


def forward_macs(name: str, image_px: int, stem_stride: int, num_classes: int) -> tuple[int, int]:
    """Multiply-adds of one image through all layers, and through the depthwise ones alone."""
    from kkanji_jax.model.efficientnet import SE_RATIO, STEM_KERNEL_PX
    from kkanji_jax.model.variants import (
        HEAD_CHANNELS,
        STEM_CHANNELS,
        blocks_of,
        get_variant,
        round_filters,
    )

    variant = get_variant(name)
    channels, side = round_filters(STEM_CHANNELS, variant.width), -(-image_px // stem_stride)
    total, depthwise = side * side * STEM_KERNEL_PX**2 * channels, 0
    for block in blocks_of(variant):
        expanded = channels * block.expand_ratio
        total += side * side * channels * expanded * (block.expand_ratio != 1)
        side = -(-side // block.stride)
        depthwise += side * side * block.kernel_px**2 * expanded
        total += 2 * expanded * max(1, int(channels * SE_RATIO))
        total += side * side * expanded * block.out_channels
        channels = block.out_channels
    width = round_filters(HEAD_CHANNELS, variant.width)
    total += side * side * channels * width + width * num_classes
    return total + depthwise, depthwise


def our_step(shape: Shape) -> tuple[Callable[[], int], str]:
    """A call of the trainer's step, and a word on XLA's count of its operations.

    After compiling, the process starts anew, unless the cache is off (KKANJI_CACHE).

    XLA counts the body of a loop once. The depthwise kernels' gradients are such loops here, and
    are added in full.
    """
    from kkanji_jax.compilation_cache import counting_kept_programs, enable_compilation_cache
    from kkanji_jax.training import host_memory

    host_memory.keep_freed_memory()  # as the trainer does, before JAX is imported
    import jax
    from our_step import prepare

    enable_compilation_cache()

    batch_size = shape.batch_size
    train_steps, state, data, batch = prepare(
        {"stem_stride": shape.stem_stride},
        num_classes=NUM_CLASSES,
        num_images=16 * batch_size,
        batch_size=batch_size,
    )
    with counting_kept_programs() as kept:
        compiled = train_steps.lower(state, data, batch).compile()
    if kept:  # as the trainer does: it learns in a process that has not compiled
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    host_memory.give_back()
    analysis: Any = compiled.cost_analysis()

    def work() -> int:
        nonlocal state
        state, sums = compiled(state, data, batch)
        jax.block_until_ready((state, sums))
        return batch_size

    macs, depthwise_macs = forward_macs("b0", IMAGE_PX, shape.stem_stride, NUM_CLASSES)
    flops = analysis["flops"] / batch_size + 2 * depthwise_macs
    return work, (
        f"{flops / 1e9:.3f} GFLOP/image by XLA, {6 * macs / 1e9:.3f} by the paper's table: "
        f"{flops / (6 * macs):.2f} x"
    )


def flax_step(shape: Shape) -> Callable[[], int]:
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax import nnx
    from flax_peer import FlaxEfficientNet
    from our_step import make_steady_optimizer

    from kkanji_jax.config import default_config
    from kkanji_jax.model.variants import get_variant

    batch_size = shape.batch_size
    network = FlaxEfficientNet(
        get_variant("b0"), NUM_CLASSES, stem_stride=shape.stem_stride, rngs=nnx.Rngs(0)
    )
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


def torch_step(shape: Shape, form: TorchForm) -> Callable[[], int]:
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    torch.set_num_threads(shape.num_cores)
    layout = torch.channels_last if form.is_channels_last else torch.contiguous_format
    network = timm.create_model(
        "tf_efficientnet_b0", in_chans=1, num_classes=NUM_CLASSES, drop_rate=0.2, drop_path_rate=0.2
    )
    network.conv_stem.stride = (shape.stem_stride,) * 2
    network = network.to(memory_format=layout).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, amsgrad=True)
    images = torch.rand(shape.batch_size, 1, IMAGE_PX, IMAGE_PX).to(memory_format=layout)
    labels = torch.randint(NUM_CLASSES, (shape.batch_size,))

    def mean_loss() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(form.is_bfloat16)):
            return torch.nn.functional.cross_entropy(network(images), labels, label_smoothing=0.1)

    run = torch.compile(mean_loss) if form.is_compiled else mean_loss

    def work() -> int:
        optimizer.zero_grad(set_to_none=True)
        run().backward()
        optimizer.step()
        return shape.batch_size

    return work


def run_worker(name: str, shape: Shape, num_steps: int) -> None:
    note = ""
    if name == "ours":
        step, note = our_step(shape)
    elif name == "flax":
        step = flax_step(shape)
    else:
        step = torch_step(shape, TORCH[name])
    for _ in range(2):  # compiles; PyTorch's second step may still choose kernels
        step()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    turns.serve(
        lambda: sum(step() for _ in range(num_steps)), f"at most {peak_mb:.0f} MB. {note}".strip()
    )


def expand(only: str) -> list[str]:
    """The names of programs that --only asks for; ValueError for one that there is not."""
    names: list[str] = []
    for word in only.split(","):
        names += list(TORCH) if word == "torch" else [word]
    if unknown := set(names) - set(NAMES):
        known = ", ".join((*NAMES, "torch"))
        raise ValueError(f"--only takes {known}; got {', '.join(sorted(unknown))}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="ours,flax,torch", help="programs, with commas; torch: its eight"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--stem-stride", type=int, choices=(1, 2), default=2)
    parser.add_argument("--steps", type=int, default=2, help="a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    shape = Shape(args.batch_size, args.stem_stride, args.cores)
    if args.worker:
        run_worker(args.worker, shape, args.steps)
        return 0
    try:
        names = expand(args.only)
    except ValueError as err:
        parser.error(str(err))
    flags = [f"--batch-size={args.batch_size}", f"--stem-stride={args.stem_stride}"]
    flags += [f"--steps={args.steps}", f"--cores={args.cores}"]
    commands = {name: [str(Path(__file__)), *flags, "--worker", name] for name in names}
    found = turns.take_turns(
        commands,
        args.rounds,
        num_cores=args.cores,
        pythons={name: args.torch_python for name in TORCH},
    )
    rates = {
        name: statistics.median(turn.units / turn.cpu_s for turn in spent)
        for name, spent in found.items()
    }
    for name, rate in rates.items():
        print(f"{name:32} {rate:6.1f} images/CPU-s")
    if "ours" not in found:
        return 0
    for name in names:
        if name != "ours":
            print(turns.comparison(name, turns.ratios(found["ours"], found[name])))
    if fastest := max(filter(TORCH.__contains__, rates), key=rates.__getitem__, default=None):
        ratios = turns.ratios(found["ours"], found[fastest])
        print(turns.comparison(f"PyTorch's fastest, {fastest}", ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
