"""One GPU, unattended, in eight minutes: the training step, timm's, and every depthwise layer.

    python scripts/benchmarks/gpu.py [--minutes 8] [--json OUT]
    python scripts/benchmarks/gpu.py --smoke     # tiny sizes on any machine: does it run?

Prints a table as it goes: images a second of B0 at 64 px in bfloat16 at several batch sizes, stem
strides, with and without augmentation, from the resident images and from one constant batch; their
share of what the memory would allow; ratios to timm's tf_efficientnet_b0, in turns; and each
depthwise layer in its three forms. What no longer fits into the time is named and left out. timm's
rows need the `golden` extra with a PyTorch for CUDA.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import turns

if TYPE_CHECKING:
    from gpu_programs import Run, Sizes

RESERVE_S = 60.0  # about what one program takes to compile


class Bench:
    """Collects programs to time, as long as there is time to build them."""

    def __init__(self, minutes: float) -> None:
        self._end_s = time.monotonic() + 60 * minutes
        self.runs: dict[str, Run] = {}
        self.seconds_by_image: dict[str, list[float]] = {}

    def has_time(self, name: str) -> bool:
        has_time = time.monotonic() + RESERVE_S < self._end_s
        if not has_time:
            print(f"{name}: left out, the time is used up", flush=True)
        return has_time

    def add(self, name: str, build: "Callable[[], Run]") -> None:
        """Builds a program and runs it once, so that it is compiled."""
        if not self.has_time(name):
            return
        start_s = time.monotonic()
        self.runs[name] = build()
        self.runs[name]()
        self.seconds_by_image[name] = []
        print(f"{name}: ready after {time.monotonic() - start_s:.0f} s", flush=True)

    def take_turns(self, rounds: int) -> None:
        for _ in range(rounds):
            for name, run in self.runs.items():
                start_s = time.perf_counter()
                images = run()
                self.seconds_by_image[name].append((time.perf_counter() - start_s) / images)

    def ratios(self, ours: str, theirs: str) -> list[float]:
        """Round by round, how many times as many images a second `ours` learns from."""
        pair = (self.seconds_by_image[ours], self.seconds_by_image[theirs])
        return [b / a for a, b in zip(*pair, strict=True)]


def add_programs(bench: Bench, sizes: "Sizes") -> None:
    """The steps, by value: what comes late is left out first."""
    from gpu_programs import constant_step, our_step, timm_step

    first, *others = sizes.batches
    bench.add(f"ours, {first}", lambda: our_step(sizes, first, policy="glyph_safe"))
    for name, options in (
        ("timm, bfloat16, compiled", {"is_bfloat16": True, "is_compiled": True}),
        ("timm, float32", {"is_bfloat16": False, "is_compiled": False}),
        ("timm, bfloat16 channels_last", {"is_bfloat16": True, "is_compiled": False}),
    ):
        try:
            bench.add(name, lambda options=options: timm_step(sizes, **options))
        except ImportError as err:
            print(f"{name}: left out, {err}", flush=True)
    bench.add(f"no augmentation, {first}", lambda: our_step(sizes, first, policy="none"))
    bench.add(f"constant batch, {first}", lambda: constant_step(sizes, first))
    for size in others:
        bench.add(f"ours, {size}", lambda size=size: our_step(sizes, size, policy="glyph_safe"))
    bench.add(
        f"ours, stem stride 1, {first}",
        lambda: our_step(sizes, first, stem_stride=1, policy="glyph_safe"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; the numbers mean nothing")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="writes the figures there too")
    args = parser.parse_args(argv)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory too
    import jax
    from gpu_programs import FULL, SMOKE, copy_bandwidth, depthwise_layers, time_layer

    from kkanji_jax.config import paper_config
    from kkanji_jax.model.depthwise import FORMS
    from kkanji_jax.training import roofline

    device = jax.devices()[0]
    if device.platform == "cpu" and not args.smoke:
        print("gpu: JAX sees no GPU here; --smoke runs tiny sizes anywhere", file=sys.stderr)
        return 1
    sizes, bench = SMOKE if args.smoke else FULL, Bench(args.minutes)
    bandwidth = copy_bandwidth(2**20 if args.smoke else 2**31)
    print(f"{device.device_kind}: a copy moves {bandwidth / 1e12:.2f} TB/s", flush=True)
    add_programs(bench, sizes)
    bench.take_turns(sizes.rounds)

    rates = {n: 1 / statistics.median(times) for n, times in bench.seconds_by_image.items()}
    step_bytes = roofline.step_bytes(paper_config("b0", "full").model.to_dict())
    print(f"\n{'B0 at 64 px, bfloat16':34}{'images/s':>12}{'of memory limit':>18}")
    for name, rate in rates.items():
        is_counted = name.startswith("ours, ") and "stem" not in name
        share = "-"
        if step_bytes and is_counted and not args.smoke:
            share = f"{100 * rate * step_bytes / bandwidth:.0f} %"
        print(f"{name:34}{rate:12.0f}{share:>18}")
    ours = f"ours, {sizes.batches[0]}"
    found = {name: bench.ratios(ours, name) for name in rates if not name.startswith("ours")}
    for name, ratios in found.items():
        print(turns.comparison(name, ratios))

    layers: dict[str, dict[str, float]] = {}
    print(f"\n{'depthwise, us of value and gradients':40}" + "".join(f"{f:>10}" for f in FORMS))
    for layer in depthwise_layers(sizes):
        name = "{0} px, {1} channels, {2}x{2}, stride {3}".format(*layer)
        if not bench.has_time(name):
            continue
        layers[name] = {form: time_layer(sizes, layer, form) for form in FORMS}
        print(f"{name:40}" + "".join(f"{layers[name][form]:10.0f}" for form in FORMS), flush=True)
    if args.json:
        figures = {
            "device": device.device_kind,
            "copy_bytes_per_s": bandwidth,
            "images_per_s": rates,
            "ratios": found,
            "depthwise_us": layers,
        }
        args.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
