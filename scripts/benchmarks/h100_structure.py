"""Compiles the real training step for H100s on a machine without one, and holds it to its gates.

    python -m pip install --target DIR --no-deps jax-cuda12-plugin==X jax-cuda12-pjrt==X
    PYTHONPATH=DIR:. python scripts/benchmarks/h100_structure.py [--json OUT]

X is JAX's own version; no driver is needed. Prints what a step moves through memory, counted in the
compiled program, and exits with 1 if a gate is missed. What the program would take on a GPU, and
which of cuDNN's kernels it would choose, are not known here.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hlo_traffic

TARGET = Path(__file__).with_name("h100.textproto")
NUM_CLASSES, NUM_TRAIN = 3881, 400_000  # Kuzushiji-Kanji and -49 together
MB = 1e6

MAX_IMAGE_MB = 25.0
MAX_BFLOAT16_SHARE = 0.55
MAX_TEMPORARY_MB = 2.6
MAX_AUGMENT_MB = 0.1
MIN_DONATED_SHARE = 0.97
STATISTICS_BYTES = 50_000  # a sum over devices of more is of gradients


@dataclasses.dataclass(frozen=True)
class Figures:
    """One compiled step. Megabytes are by image, kernels by step; both by device."""

    images: int  # by step and device
    image_mb: float
    augment_mb: float
    temporary_mb: float
    donated_share: float  # of the state
    num_kernels: float
    mb_by_kind: dict[str, float]
    kernels_by_kind: dict[str, float]
    misread_gradients: tuple[str, ...]
    collectives: dict[str, float]
    gradient_sums: dict[str, float]  # by dtype


def prepare() -> None:
    """Sets the environment variables that must be set before JAX is imported.

    Raises ValueError if the packages that compile for CUDA are missing.
    """
    import importlib.util
    from importlib.metadata import version

    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        jax_version = version("jax")
        raise ValueError(
            f"compiling for a GPU needs jax-cuda12-plugin=={jax_version} and "
            f"jax-cuda12-pjrt=={jax_version}: install them with pip install --target DIR "
            "--no-deps, and put DIR on PYTHONPATH"
        )
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    # Autotuning would time candidates on the GPU that is not there.
    os.environ["XLA_FLAGS"] = "--xla_gpu_autotune_level=0"


def compile_step(
    model_fields: Mapping[str, Any],
    *,
    num_devices: int = 1,
    images: int = 1024,
    num_classes: int = NUM_CLASSES,
) -> tuple[Any, int]:
    """The step of configs/b0.py for H100s, and the bytes of its state.

    A call learns `steps_per_dispatch` times, from `images` a device each time.
    """
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies
    from our_step import make_steady_optimizer

    from kkanji_jax.augment.policy import get_policy
    from kkanji_jax.config import paper_config
    from kkanji_jax.model.network import abstract_variables, make_graphdef
    from kkanji_jax.parallel import mesh as mesh_lib
    from kkanji_jax.training.state import TrainState
    from kkanji_jax.training.step import IndexBatch, Resident, StepConfig, make_train_steps

    topology = topologies.get_topology_desc(
        platform="cuda", target_config=TARGET.read_text(), topology=f"1x1x{num_devices}"
    )
    mesh = mesh_lib.make_mesh(topology.devices)
    config = paper_config("b0", "full")
    config.model.update(model_fields)
    model = config.model.to_dict()
    optimizer = make_steady_optimizer(config.optim)
    train_steps = make_train_steps(
        make_graphdef(model, num_classes),
        optimizer,
        mesh,
        StepConfig(
            policy=get_policy(config.augment.policy),
            seed=config.seed,
            image_px=model["image_px"],
            label_smoothing=config.loss.label_smoothing,
            ema_decay=config.ema_decay,
        ),
    )

    def array(shape: tuple[int, ...], dtype: Any, axis: int | None = None) -> Any:
        is_split = axis is not None
        sharding = mesh_lib.sharded(mesh, axis) if is_split else mesh_lib.replicated(mesh)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    params, batch_stats = abstract_variables(model, num_classes)
    opt_state = jax.eval_shape(optimizer.init, params)
    state = TrainState(array((), jnp.int32), params, batch_stats, opt_state, params, batch_stats)
    state = jax.tree.map(lambda leaf: array(leaf.shape, leaf.dtype), state)
    data = Resident(
        array((NUM_TRAIN, 64, 64), jnp.uint8),
        array((NUM_TRAIN,), jnp.int32),
        array((NUM_TRAIN, 2), jnp.uint32),
    )
    rows = array((config.steps_per_dispatch, 1, images * num_devices), jnp.int32, axis=2)
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return train_steps.lower(state, data, IndexBatch(rows, rows)).compile(), state_bytes


def measure(compiled: Any, state_bytes: int, images: int, num_steps: int) -> Figures:
    """Counts a compiled step's kernels and their bytes, and what it holds in memory."""
    kernels = hlo_traffic.kernels(compiled.as_text())
    mb_by_kind: defaultdict[str, float] = defaultdict(float)
    kernels_by_kind: defaultdict[str, float] = defaultdict(float)
    collectives: defaultdict[str, float] = defaultdict(float)
    gradient_sums: defaultdict[str, float] = defaultdict(float)
    augment_mb = 0.0
    for op, times, num_bytes, sources in kernels:
        kind, by_step = hlo_traffic.kind_of(op), times / num_steps
        image_mb = by_step * num_bytes / images / MB
        mb_by_kind[kind] += image_mb
        kernels_by_kind[kind] += by_step
        if any("augment" in source for source in sources):
            augment_mb += image_mb
        if name := hlo_traffic.collective_of(op):
            collectives[name] += by_step
            dtype = op.shape.strip("(").partition("[")[0]  # integers are metrics
            if dtype in ("f32", "bf16") and num_bytes > STATISTICS_BYTES:
                gradient_sums[dtype] += by_step
    memory = compiled.memory_analysis()
    return Figures(
        images=images,
        image_mb=sum(mb_by_kind.values()),
        augment_mb=augment_mb,
        temporary_mb=memory.temp_size_in_bytes / images / MB,
        donated_share=memory.alias_size_in_bytes / state_bytes,
        num_kernels=sum(kernels_by_kind.values()),
        mb_by_kind=dict(mb_by_kind),
        kernels_by_kind=dict(kernels_by_kind),
        misread_gradients=tuple(
            f"{kernel.op.name} {kernel.op.shape}"
            for kernel in kernels
            if hlo_traffic.is_misread_gradient(kernel.op, images)
        ),
        collectives=dict(collectives),
        gradient_sums=dict(gradient_sums),
    )


def objections(one: Figures, wide: Figures, eight: Figures | None) -> list[str]:
    """The limits that are exceeded, for one GPU in bfloat16 and float32, and eight in bfloat16."""
    share = one.image_mb / wide.image_mb
    missed = {
        f"{one.image_mb:.1f} MB/image, expected at most {MAX_IMAGE_MB}": one.image_mb
        > MAX_IMAGE_MB,
        f"{share:.2f} of float32's bytes, expected at most {MAX_BFLOAT16_SHARE}": share
        > MAX_BFLOAT16_SHARE,
        f"{one.temporary_mb:.2f} MB/image of temporaries, expected at most {MAX_TEMPORARY_MB}": (
            one.temporary_mb > MAX_TEMPORARY_MB
        ),
        f"{1000 * one.augment_mb:.0f} KB/image for augmentation, expected at most "
        f"{1000 * MAX_AUGMENT_MB:.0f}": one.augment_mb > MAX_AUGMENT_MB,
        f"{one.donated_share:.3f} of the state is donated, expected {MIN_DONATED_SHARE}": (
            one.donated_share < MIN_DONATED_SHARE
        ),
        "depthwise kernel gradients with the batch for channels: "
        + "; ".join(one.misread_gradients): bool(one.misread_gradients),
    }
    if eight is not None:
        moved = {name: n for name, n in eight.collectives.items() if name != "all-reduce"}
        missed |= {
            f"eight GPUs exchange {moved}, expected all-reduce only": bool(moved),
            f"sums of gradients over eight GPUs: {eight.gradient_sums}, expected one in float32": (
                eight.gradient_sums != {"f32": 1.0}
            ),
        }
    return [text for text, is_missed in missed.items() if is_missed]


def table(named: Mapping[str, Figures]) -> str:
    """One column a program."""
    rows = {
        "MB/image": lambda f: f"{f.image_mb:.1f}",
        "augmentation, KB/image": lambda f: f"{1000 * f.augment_mb:.0f}",
        "temporaries, MB/image": lambda f: f"{f.temporary_mb:.2f}",
        "donated share of the state": lambda f: f"{f.donated_share:.3f}",
        "kernels a step": lambda f: f"{f.num_kernels:.0f}",
        "misread kernel gradients": lambda f: f"{len(f.misread_gradients)}",
        "collectives a step": lambda f: f"{sum(f.collectives.values()):.0f}",
        "sums of gradients": lambda f: f"{sum(f.gradient_sums.values()):.0f}",
    }
    kinds = sorted({kind for f in named.values() for kind in f.mb_by_kind})
    lines = [f"{'':32}" + "".join(f"{name:>18}" for name in named)]
    for label, show in rows.items():
        lines.append(f"{label:32}" + "".join(f"{show(f):>18}" for f in named.values()))
    for kind in kinds:
        cells = (
            f"{f.mb_by_kind.get(kind, 0):.2f} in {f.kernels_by_kind.get(kind, 0):.0f}"
            for f in named.values()
        )
        lines.append(f"  {kind[:30]:30}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="writes the figures there too")
    parser.add_argument("--images", type=int, default=1024, help="by step and GPU")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keeps the compiled programs' text"
    )
    args = parser.parse_args(argv)
    try:
        prepare()
    except ValueError as err:
        print(f"h100_structure: {err}", file=sys.stderr)
        return 1
    named = {}
    for name, dtype, num_devices in (
        ("1 GPU, bfloat16", "bfloat16", 1),
        ("1 GPU, float32", "float32", 1),
        ("8 GPUs, bfloat16", "bfloat16", 8),
    ):
        compiled, state_bytes = compile_step(
            {"dtype": dtype}, num_devices=num_devices, images=args.images
        )
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            (args.keep / f"{dtype}-{num_devices}.hlo").write_text(compiled.as_text())
        named[name] = measure(compiled, state_bytes, args.images, num_steps=10)
        print(f"compiled for {name}", file=sys.stderr, flush=True)
    print(table(named))
    if args.json:
        figures = {name: dataclasses.asdict(figure) for name, figure in named.items()}
        args.json.write_text(json.dumps(figures, indent=1))
    missed = objections(*named.values())
    for objection in missed:
        print(f"missed: {objection}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
