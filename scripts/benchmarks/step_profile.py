"""Where the time of our training step on a CPU goes, by kind of operation.

    python scripts/benchmarks/step_profile.py [--batch-size 128] [--stem-stride 1]

Traces a few steps of B0 at 64 px with JAX's profiler, on one core, and adds up what each
instruction of the compiled program took, by the clock: on a machine that does other work too, only
the shares mean something, and small ones little.
"""

import argparse
import collections
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

CONTAINERS = ("while", "conditional", "call")  # their parts are counted


def kind_of(name: str, opcode: str, source: str) -> str:
    """What an instruction does, from its name and the JAX operations it comes from."""
    way = "backward" if "transpose(" in source else "forward"
    last = source.rpartition("/")[2]
    if "depthwise_conv" in source:
        return f"depthwise convolution, {way}" + (", padding" if last == "pad" else "")
    if "dot_general" in source or opcode == "dot":
        return f"matrix products, {way}"
    if last.startswith("reduce") or name.startswith("ynn"):
        return f"sums (batch statistics, pooling), {way}"
    if "silu" in source:
        return f"normalisation with swish, {way}"
    return f"normalisation, excitation, residuals, {way}" if "jvp" in source else "update, averages"


def shares(spent_ns: Mapping[str, float], kinds: Mapping[str, str]) -> list[tuple[str, float]]:
    """The share of each kind in the time of all instructions, the largest first."""
    found: dict[str, float] = collections.defaultdict(float)
    for name, time_ns in spent_ns.items():
        found[kinds[name]] += time_ns
    total = sum(found.values())
    by_time = sorted(found.items(), key=lambda item: -item[1])
    return [(kind, time_ns / total) for kind, time_ns in by_time]


def instruction_times(trace: Path, names: Iterable[str]) -> dict[str, float]:
    """Nanoseconds of each of the instructions `names` in the trace in that folder."""
    from jax.profiler import ProfileData

    known, spent = set(names), collections.Counter[str]()
    for path in trace.rglob("*.xplane.pb"):
        for plane in ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name in known:
                        spent[event.name] += event.duration_ns
    if not spent:
        raise ValueError(f"the trace in {trace} has no instruction of the program")
    return dict(spent)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="b0")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--stem-stride", type=int, choices=(1, 2), default=2)
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args(argv)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    from kkanji_jax.training import host_memory

    host_memory.keep_freed_memory()  # as the trainer does, before JAX is imported
    import hlo_traffic
    import jax
    from our_step import compiled_as_by_the_trainer, prepare

    ready = prepare(
        {"variant": args.variant, "stem_stride": args.stem_stride},
        num_classes=3881,
        num_images=16 * args.batch_size,
        batch_size=args.batch_size,
    )
    compiled = compiled_as_by_the_trainer(ready)
    _, state, data, batch = ready
    program, _ = hlo_traffic.parse(compiled.as_text())
    kinds = {
        op.name: kind_of(op.name, op.opcode, op.source)
        for computation in program.values()
        for op in computation.values()
        if op.opcode not in (*CONTAINERS, *hlo_traffic.IDLE)
    }
    state, sums = compiled(state, data, batch)
    jax.block_until_ready((state, sums))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(args.steps):
                state, sums = compiled(state, data, batch)
                jax.block_until_ready((state, sums))
        spent = instruction_times(Path(folder), kinds)
    for kind, share in shares(spent, kinds):
        print(f"{kind:50} {100 * share:5.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
