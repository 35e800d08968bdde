"""The installed wheel works outside the checkout, with its data."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it but the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_packages_and_demo_and_nothing_else(site: Path) -> None:
    tops = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"kkanji_jax", "data_tools"}
    assert (site / "kkanji_jax" / "demo" / "kkanji.tar").is_file()


def test_the_installed_package_builds_verifies_and_makes_a_network(
    site: Path, tmp_path: Path
) -> None:
    demo = site / "kkanji_jax" / "demo"
    where = run(site, tmp_path, "-c", "import kkanji_jax; print(kkanji_jax.__file__)")
    assert str(site) in where.stdout
    built = run(
        site, tmp_path, "-m", "data_tools.build", "--source", demo,
        "--splits-from", demo / "splits.csv", "--out", "demo",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert run(site, tmp_path, "-m", "data_tools.verify", "demo").returncode == 0
    program = (
        "import kkanji_jax, jax.numpy as jnp\n"
        "model = kkanji_jax.create_model('b0', num_classes=10)\n"
        "print(kkanji_jax.input_size('b0'), model(jnp.ones((1, 32, 32, 1)), train=False).shape)"
    )
    made = run(site, tmp_path, "-c", program)
    assert made.stdout.split() == ["224", "(1,", "10)"], made.stderr
