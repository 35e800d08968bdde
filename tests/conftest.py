"""Eight virtual CPU devices, parsed flags, deterministic Hypothesis: what every test stands on."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from pathlib import Path

import numpy as np
import pytest
from absl import flags
from hypothesis import settings

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, and pytest parses none

# Compilation breaks deadlines; derandomised, so that a failure is everybody's failure.
settings.register_profile("project", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("project")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_source() -> Path:
    """The folder of CODH's own files, named by KKANJI_SOURCE; tests that need it skip without."""
    folder = os.environ.get("KKANJI_SOURCE")
    if not folder:
        pytest.skip("KKANJI_SOURCE is unset: no folder of CODH's files to test on")
    return Path(folder)
