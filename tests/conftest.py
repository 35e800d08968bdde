"""Eight virtual CPU devices, parsed flags, deterministic Hypothesis: what every test stands on."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Little optimisation: a tiny network compiles in half the time, and runs for a moment only.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import signal
import threading
from pathlib import Path

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


@pytest.fixture(scope="session")
def real_source() -> Path:
    """The folder of CODH's own files, named by KKANJI_SOURCE; tests that need it skip without."""
    folder = os.environ.get("KKANJI_SOURCE")
    if not folder:
        pytest.skip("KKANJI_SOURCE is unset: no folder of CODH's files to test on")
    return Path(folder)
