"""How long a checkpoint keeps the trainer waiting, against how long it takes in all.

    python scripts/benchmarks/checkpoint_save.py [--variant b0] [--rounds 5]

The state of a real run, saved as the trainer saves it; a save returns when training may go on, and
ends when its digests are on the disk.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import turns

NUM_CLASSES = 3881


def save_times(variant: str, rounds: int) -> tuple[list[tuple[float, float]], int]:
    """Seconds (waiting, in all) of each save, and the bytes of the state."""
    import grain
    import jax
    from our_step import make_steady_optimizer

    from kkanji_jax.config import default_config
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.parallel import mesh as mesh_lib
    from kkanji_jax.training.checkpoint_store import CheckpointStore
    from kkanji_jax.training.state import create_state

    config = default_config()
    config.model.variant = variant
    optimizer = make_steady_optimizer(config.optim)
    state = create_state(config.model.to_dict(), NUM_CLASSES, optimizer, 0)
    state = mesh_lib.replicate(state, mesh_lib.make_mesh(jax.devices()[:1]))
    codepoints = [f"U+{0x4E00 + number:04X}" for number in range(NUM_CLASSES)]
    meta = {
        "config": config.to_dict(),
        "class_index": ClassIndex(tuple(codepoints)).to_json(),
        "manifest_sha256": "0" * 64,
        "train_counts": dict.fromkeys(codepoints, 1),
        "package_version": "0",
        "log": None,
    }
    batches = iter(grain.MapDataset.range(3).to_iter_dataset())
    times = []
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder), max_to_keep=2)
        for number in range(rounds + 1):  # the first one makes the folders and warms up
            start_s = time.perf_counter()
            store.save(number, state, batches, meta, None)
            waited_s = time.perf_counter() - start_s
            store.wait()
            times.append((waited_s, time.perf_counter() - start_s))
        store.close()
    num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return times[1:], num_bytes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="b0")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    times, num_bytes = save_times(args.variant, args.rounds)
    waits = ", ".join(f"{waited:.2f} of {whole:.2f} s" for waited, whole in times)
    print(f"{args.variant}, {num_bytes / 1e6:.0f} MB: training waits {waits}")
    found = [waited / whole for waited, whole in times]
    print(turns.comparison("the whole save", found, "of its time"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
