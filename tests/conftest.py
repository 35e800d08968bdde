"""Eight virtual CPU devices, parsed flags, deterministic Hypothesis: what every test stands on."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Little optimisation: a tiny network compiles in half the time, and runs for a moment only.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("KKANJI_CACHE", "off")  # tests leave the user's cache alone

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from absl import flags
from hypothesis import settings
from PIL import Image, ImageDraw

# Started in the background, a shell's children ignore Ctrl-C, and so would all that is tested here.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, and pytest parses none

ROOT = Path(__file__).parents[1]

# Compilation breaks deadlines; derandomised, so that a failure is everybody's failure.
settings.register_profile("project", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("project")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def draw_glyph(rng: np.random.Generator, class_id: int) -> np.ndarray:
    """A 64x64 white-on-black stroke figure: the class sets its corners, `rng` shakes the hand."""
    corners = np.random.default_rng(class_id).uniform(12, 52, (5, 2))
    canvas = Image.new("L", (64, 64), 0)
    points = corners + rng.normal(0, 1.2, corners.shape)
    ImageDraw.Draw(canvas).line([tuple(point) for point in points], fill=255, width=4)
    return np.asarray(canvas)


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kkanji2 folder of 6 easy classes, 24 images each, none two alike."""
    source = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(1)
    for class_id, character in enumerate("春夏秋冬山川"):
        folder = source / "kkanji2" / f"U+{ord(character):04X}"
        folder.mkdir(parents=True)
        for number in range(24):
            Image.fromarray(draw_glyph(rng, class_id)).save(folder / f"{number:016x}.png")
    return source


@pytest.fixture(scope="session")
def tiny_dataset(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DATASET of `tiny_source`, 60/20/20."""
    from data_tools import build

    out = tmp_path_factory.mktemp("dataset") / "tiny"
    arguments = ["--source", str(tiny_source), "--out", str(out), "--ratios", "60/20/20"]
    assert build.main([*arguments, "--workers", "1"]) == 0
    return out


class Source:
    """A folder of CODH's layout to put things into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def draw(seed: int, side_px: int = 64) -> np.ndarray:
        """A glyph of white strokes on black; another seed, other pixels."""
        image = Image.new("L", (side_px, side_px))
        points = np.random.default_rng(seed).integers(4, side_px - 4, (4, 4))
        for stroke in points.tolist():
            ImageDraw.Draw(image).line(tuple(stroke), fill=255, width=3)
        return np.asarray(image)

    @staticmethod
    def png(image: np.ndarray) -> bytes:
        """The image as a PNG file."""
        data = io.BytesIO()
        Image.fromarray(image).save(data, "PNG")
        return data.getvalue()

    def add_file(self, name: str, content: bytes) -> Path:
        """A file at this path inside the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def add_kanji(self, codepoint: str, count: int, first_seed: int | None = None) -> None:
        """`count` images of a class, `00.png` and so on; the code point decides the seeds."""
        seed = int(codepoint[2:], 16) * 1000 if first_seed is None else first_seed
        for number in range(count):
            png = self.png(self.draw(seed + number))
            self.add_file(f"kkanji2/{codepoint}/{number:02d}.png", png)

    def add_small(
        self,
        part: str,
        labels: Sequence[int],
        codepoints: Sequence[str] = ("U+3042", "U+304A", "U+309D"),
        first_seed: int = 500_000,
        images: np.ndarray | None = None,
    ) -> np.ndarray:
        """An npz pair of 28x28 images and its class map; returns the images."""
        name = part.partition("-")[0]
        if images is None:
            seeds = range(first_seed, first_seed + len(labels))
            images = np.stack([self.draw(seed, 28) for seed in seeds])
        np.savez(self.folder / f"{part}-imgs.npz", images)
        np.savez(self.folder / f"{part}-labels.npz", np.array(labels, np.uint8))
        lines = [f"{i},{c},{chr(int(c[2:], 16))}" for i, c in enumerate(codepoints)]
        text = "\n".join(["index,codepoint,char", *lines]) + "\n"
        self.add_file(f"{name}_classmap.csv", text.encode())
        return images


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty folder of CODH's layout."""
    return Source(tmp_path / "source")


@pytest.fixture(scope="session")
def real_source() -> Path:
    """The folder of CODH's own files, named by KKANJI_SOURCE; tests that need it skip without."""
    folder = os.environ.get("KKANJI_SOURCE")
    if not folder:
        pytest.skip("KKANJI_SOURCE is unset: no folder of CODH's files to test on")
    return Path(folder)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with the given options, again with others if it is there."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def call(options: str) -> Path:
        again = ["-o", f"remount,{options}"] if folder.is_mount() else ["-o", options]
        command = ["mount", "-t", "tmpfs", *again, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
        return folder

    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    yield call
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


# A network of one block a stage, with everything on that could differ after a restart.
TINY_RUN = (
    "--config.model.variant=nano",
    "--config.model.image_px=16",
    "--config.model.dtype=bfloat16",
    "--config.model.dropout=0.2",
    "--config.model.drop_path=0.3",
    "--config.augment.mixup_alpha=0.3",
    "--config.ema_decay=0.99",
    "--config.augment.policy=glyph_safe",
    "--config.batch_size=16",
    "--config.steps_per_dispatch=2",
    "--config.log_every_steps=4",
    "--config.eval_every_steps=12",
    "--config.ckpt_every_steps=6",
)


class Trainer(NamedTuple):
    """The trainer's command in processes of their own, on the tiny dataset and one device.

    They share a compilation cache, so that a restart compiles nothing anew.
    """

    dataset: Path
    environment: dict[str, str]
    settings: tuple[str, ...]

    def command(self, workdir: Path, *more: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "kkanji_jax.train",
            "--config",
            str(ROOT / "configs" / "b0.py"),
            "--workdir",
            str(workdir),
            f"--config.data.dataset={self.dataset}",
            *self.settings,
            *more,
        ]

    def start(self, workdir: Path, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(workdir, *more),
            env=self.environment,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, workdir: Path, *more: str, status: int = 0) -> str:
        """What the command says on stderr, having ended with `status`."""
        process = self.start(workdir, *more)
        _, errors = process.communicate()
        assert process.returncode == status, errors
        return errors

    @staticmethod
    def lines(workdir: Path) -> list[dict[str, Any]]:
        """The metrics without the times that they took; a torn last line is left out."""
        path = workdir / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
        timed = ("elapsed_s", "images_per_s", "data_wait")
        return [{key: line[key] for key in line if key not in timed} for line in lines]

    def assert_same_end(self, one: Path, other: Path) -> None:
        """Weights, statistics, averages and metrics are the same to the bit."""
        import jax

        from kkanji_jax.saved.checkpoint import load_variables

        first, second = (load_variables(workdir, "latest") for workdir in (one, other))
        assert first.step == second.step
        for name in ("params", "batch_stats", "ema_params", "ema_batch_stats"):
            pairs = zip(
                jax.tree.leaves(getattr(first, name)),
                jax.tree.leaves(getattr(second, name)),
                strict=True,
            )
            for left, right in pairs:
                np.testing.assert_array_equal(left, right)
        assert self.lines(one) == self.lines(other)


@pytest.fixture(scope="session")
def trainer(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    environment = os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("xla")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return Trainer(tiny_dataset, environment, (*TINY_RUN, "--config.epochs=8"))


@pytest.fixture(scope="session")
def undisturbed(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a tiny run that nothing happened to; not to be written into."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    trainer.run(workdir)
    return workdir
