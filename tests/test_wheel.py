"""The installed wheel works outside the checkout, with its data."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

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
        site,
        tmp_path,
        "-m",
        "data_tools.build",
        "--source",
        demo,
        "--splits-from",
        demo / "splits.csv",
        "--out",
        "demo",
    )
    assert built.returncode == 0, built.stderr
    assert run(site, tmp_path, "-m", "data_tools.verify", "demo").returncode == 0
    program = (
        "import kkanji_jax, jax.numpy as jnp\n"
        "model = kkanji_jax.create_model('b0', num_classes=10)\n"
        "print(kkanji_jax.input_size('b0'), model(jnp.ones((1, 32, 32, 1)), train=False).shape)"
    )
    made = run(site, tmp_path, "-c", program)
    assert made.stdout.split() == ["224", "(1,", "10)"], made.stderr


def test_training_away_from_a_checkout_finds_its_config(site: Path, tmp_path: Path) -> None:
    told = run(site, tmp_path, "-m", "kkanji_jax.train", "--config", "configs/b0.py:smoke")
    assert told.returncode == 1 and "no dataset at data/kuzushiji" in told.stderr, told.stderr
    wrong = run(site, tmp_path, "-m", "kkanji_jax.train", "--config", "configs/b0.pi")
    assert wrong.returncode == 2 and "with the package come" in wrong.stderr, wrong.stderr


def test_the_model_in_the_wheel_reads_an_image(site: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(site.parent.glob("*.whl"))) as wheel:
        held = {"pretrained/b0/model_card.md", "web/assets/kernels.wasm"}
        held |= {"serving/templates/docs.html.j2"}
        held |= {f"reporting/templates/{name}" for name in ("report.html.j2", "report.css")}
        assert {f"kkanji_jax/{name}" for name in held} <= set(wheel.namelist())
        assert "data_tools/view/templates/audit.html.j2" in wheel.namelist()
    paper = Image.new("L", (200, 160), 225)
    paper.paste(40, (30, 74, 170, 88))
    paper.save(tmp_path / "one.png")
    arguments = ["kkanji_jax.predict", tmp_path / "one.png", "--backend", "onnx"]
    told = run(site, tmp_path, "-m", *arguments)
    assert told.returncode == 0 and "U+4E00" in told.stdout, told.stderr


READ = """
import json, sys
sys.path[:0] = sys.argv[1:3]
sys.argv = ["predict", *sys.argv[3:]]
from kkanji_jax.predict import main
status = main()
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps(sorted(loaded & {"jax", "flax", "orbax", "jaxtyping", "matplotlib", "grain"})))
sys.exit(status)
"""
ALONE = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime")


def test_onnxruntime_numpy_and_pillow_alone_read_an_image(site: Path, tmp_path: Path) -> None:
    from kkanji_jax.config import default_config
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.export.bundle import export_bundle
    from kkanji_jax.model.network import init_variables
    from kkanji_jax.saved.bundle import Bundle, flatten

    config = default_config().to_dict()
    config["model"] |= {"variant": "nano"}
    params, stats = init_variables(config["model"], 3, 0)
    index = ClassIndex.from_codepoints(["U+6625", "U+590F", "U+56FD"])
    bundle = Bundle(
        about={"weights": "ema", "step": 1, "manifest_sha256": ""},
        config=config,
        class_index=index,
        variables=flatten(params, "params") | flatten(stats, "batch_stats"),
        train_counts=dict.fromkeys(index.codepoints, 1),
        calibration=None,
        model_card="",
    )
    export_bundle(tmp_path / "bundle", bundle)
    image = Image.new("L", (64, 64), 255)
    ImageDraw.Draw(image).line([(10, 8), (50, 30), (14, 54), (52, 56)], fill=0, width=5)
    image.save(tmp_path / "a.png")
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ALONE:  # as if nothing else were installed
        found = Path(np.__file__).parents[1] / name
        if found.exists():
            (alone / name).symlink_to(found)

    def read(backend: str) -> subprocess.CompletedProcess[str]:
        arguments = [site, alone, tmp_path / "a.png", "--model", tmp_path / "bundle", "--top-k", 3]
        # -I and -S: no folder but the two, and no site-packages.
        return run(site, tmp_path, "-I", "-S", "-c", READ, *arguments, "--backend", backend)

    told = read("onnx")
    assert told.returncode == 0, told.stderr
    *rows, loaded = told.stdout.splitlines()
    assert loaded == "[]" and len(rows) == 3
    assert "國 U+570B old" in told.stdout  # the table of forms is in the wheel
    refused = read("jax")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "No module named 'jax'" in refused.stderr and "--backend onnx" in refused.stderr
