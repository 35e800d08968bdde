"""The diagram of the network: what is committed says what the tables say."""

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from PIL import Image

from kkanji_jax.model.variants import STAGES, VARIANTS, Variant

ROOT = Path(__file__).resolve().parents[2]
SCRIPT, COMMITTED = ROOT / "scripts" / "draw_architecture.py", ROOT / "docs"
PUBLISHED_MILLIONS = {
    "b0": 5.3, "b1": 7.8, "b2": 9.1, "b3": 12.2, "b4": 19.3, "b5": 30.4, "b6": 43.0, "b7": 66.3,
}  # fmt: skip

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the source tree is not beside")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_architecture", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    script.save(folder)
    return folder


def texts(svg: Path) -> list[str]:
    """Every text of the drawing, in its order; independent of how a release lays glyphs out."""
    found = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()).strip() for element in found]


def test_the_committed_svg_says_what_the_tables_say_now(drawn: Path):
    assert texts(COMMITTED / "architecture.svg") == texts(drawn / "architecture.svg")


def test_every_stage_and_variant_is_in_the_drawing(drawn: Path):
    found = Counter(texts(drawn / "architecture.svg"))
    wanted = Counter(f"MBConv{stage.expand_ratio}" for stage in STAGES)
    wanted += Counter(f"{stage.kernel_px}×{stage.kernel_px}" for stage in STAGES)
    wanted += Counter(str(stage.out_channels) for stage in STAGES)
    wanted += Counter(f"×{stage.num_blocks}" for stage in STAGES)
    wanted += Counter(name.upper() for name in PUBLISHED_MILLIONS)
    wanted += Counter(str(VARIANTS[name].image_px) for name in PUBLISHED_MILLIONS)
    wanted += Counter(f"{millions} M" for millions in PUBLISHED_MILLIONS.values())
    assert wanted <= found, wanted - found


def test_the_maps_shrink_from_64_to_2_pixels_and_then_to_one(script: ModuleType):
    sizes = [layer.map_px for layer in script.layers(VARIANTS["b0"])]
    assert sizes == [32, 32, 16, 8, 4, 4, 2, 2, 2, 1, 1, 1]


def test_a_wider_deeper_variant_gives_other_channels_and_blocks(script: ModuleType):
    columns = script.layers(Variant(width=2.0, depth=3.1, image_px=600, dropout=0.5))
    assert [layer.channels for layer in columns[:4]] == [64, 32, 48, 80]
    assert [layer.num_blocks for layer in columns[:4]] == [None, 4, 7, 7]


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_the_counted_parameters_round_to_the_published_ones(script: ModuleType, name: str):
    counted = script.count_parameters(VARIANTS[name], num_classes=1000, in_channels=3)
    assert round(counted / 1e6, 1) == PUBLISHED_MILLIONS[name]


def test_drawing_twice_writes_the_same_bytes(script: ModuleType, drawn: Path, tmp_path: Path):
    script.save(tmp_path)
    for name in ("architecture.svg", "architecture.png"):
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes(), name


def test_the_committed_files_are_small_and_name_no_date():
    svg, png = COMMITTED / "architecture.svg", COMMITTED / "architecture.png"
    assert svg.stat().st_size < 150_000 and png.stat().st_size < 250_000
    assert "<dc:date>" not in svg.read_text(encoding="utf-8")
    with Image.open(png) as image:
        assert image.width == 1600
