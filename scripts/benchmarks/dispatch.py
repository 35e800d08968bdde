"""Host time to start a training step: K steps in one call against one step a call.

    python scripts/benchmarks/dispatch.py [--variant b0] [--devices 8] [--steps 10] [--rounds 5]

The host's part is Python, the arguments' handling and the launch on every device. Timed is the call
until it returns, with the devices idle before it; what they compute then is not. Each round times
`steps` single calls and one call of all.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import turns

NUM_CLASSES, NUM_IMAGES, IMAGE_PX = 10, 64, 16


def make_run(variant: str, num_devices: int, per_dispatch: int) -> Callable[[], float]:
    """A call that learns `per_dispatch` steps; returns seconds until the host is free again."""
    import jax
    from our_step import prepare

    train_steps, state, data, batch = prepare(
        {"variant": variant, "image_px": IMAGE_PX},
        num_classes=NUM_CLASSES,
        num_images=NUM_IMAGES,
        batch_size=num_devices,
        num_steps=per_dispatch,
        num_devices=num_devices,
    )

    def run() -> float:
        nonlocal state
        jax.block_until_ready(state)
        start_s = time.perf_counter()
        state, sums = train_steps(state, data, batch)
        host_s = time.perf_counter() - start_s
        jax.block_until_ready((state, sums))
        return host_s

    run()
    return run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="b0")
    parser.add_argument("--devices", type=int, default=8, help="virtual CPU devices")
    parser.add_argument("--steps", type=int, default=10, help="in one call")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={args.devices} --xla_backend_optimization_level=0"
    )
    single = make_run(args.variant, args.devices, 1)
    together = make_run(args.variant, args.devices, args.steps)
    singles, togethers = [], []
    for _ in range(args.rounds):
        singles.append(sum(single() for _ in range(args.steps)))
        togethers.append(together())
    by_step = [1000 * np.median(times) / args.steps for times in (singles, togethers)]
    print(
        f"{args.variant} on {args.devices} virtual devices, host time a step: {by_step[0]:.2f} ms "
        f"alone, {by_step[1]:.2f} ms with {args.steps} in a call"
    )
    found = [many / one for one, many in zip(singles, togethers, strict=True)]
    print(turns.comparison("one step a call", found, "of its host time"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
