"""A file imports only what stands above it. The tables are data; the AST is the witness."""

import ast
import graphlib
import importlib.util
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

import kkanji_jax

# The import order: a module may import from rows above its own. A new file is placed here first.
KKANJI_JAX = (
    "variants whole_files digests data.shapes "
    "data.class_index data.scripts data.kanji_forms "
    "data.records data.manifest data.policy data.balance data.image_files data.ink_parts "
    "data.glyph_image data.dispatches data.memory data.resident data.leaks data.streamed "
    "data.outside "
    "config command_line "
    "blocks strokes bilinear augment_tables augment dense taps depthwise "
    "initial efficientnet "
    "losses mixup metrics optim "
    "hosts mesh state steps feed "
    "checkpoint checkpoint_store pace roofline metric_log profiler workdir "
    "calibrate intervals reliability open_set "
    "scoring breakdown suspects scorecard score_files score_table "
    "bundle_arrays bundle "
    "trained warm_start "
    "backends.* "
    "recogniser "
    "export.onnx export.lookalikes export.web "
    "export.bundle export.model_card "
    "reading.files reading.boxes reading.characters reading.neighbours reading.rows "
    "reading.table reading.steps_sheet "
    "reading.annotate "
    "plots.* "  # one figure a file; they may share, but not in a circle
    "report_page"
).split()
DATA_TOOLS = (
    "progress workers layouts sources fetch archives readers reading class_folders pixel_store "
    "combine "
    "audit split protocols audit_page host_augment "
    "device_augment build_state shards build_plan assemble contact_sheet dataset_view"
).split()
DOORS = tuple(
    "kkanji_jax.train kkanji_jax.evaluate kkanji_jax.predict kkanji_jax.plots.__main__ "
    "kkanji_jax.report kkanji_jax.export.__main__ "
    "data_tools.download data_tools.build data_tools.verify data_tools.inspect".split()
)
ORDER = (
    *(f"kkanji_jax.{name}" for name in KKANJI_JAX),
    *(f"data_tools.{name}" for name in DATA_TOOLS),
)
PACKAGES = tuple(
    "kkanji_jax kkanji_jax.data kkanji_jax.export kkanji_jax.backends kkanji_jax.reading "
    "kkanji_jax.plots data_tools configs".split()
)
FIRST_PARTY = ("kkanji_jax", "data_tools", "configs", "scripts", "tests")
LAZY_HOMES = kkanji_jax._HOMES  # what the package answers for, and the room it comes from
ACCELERATED = ("jax", "jaxlib", "flax", "optax", "orbax")
LAZY_NEEDS = ("importlib", "typing")

ROOT = Path(__file__).resolve().parents[1]


class Import(NamedTuple):
    """One imported thing: `target` is dotted down to the name that was taken."""

    target: str
    line: int
    inside_function: bool
    is_for_types: bool  # under `if TYPE_CHECKING:`, so it never runs


def imports_of(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """Every import of a file, at any depth, relative ones resolved against `module`."""
    found = []

    def visit(node: ast.AST, inside_function: bool, is_for_types: bool) -> None:
        targets = []
        if isinstance(node, ast.Import):
            targets = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            parts = parts[: len(parts) - node.level + is_package] if node.level else []
            parts += [node.module] if node.module else []
            targets = [".".join([*parts, name.name]) for name in node.names]
        for target in targets:
            found.append(Import(target, getattr(node, "lineno", 0), inside_function, is_for_types))
        inside_function |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        is_for_types |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            visit(child, inside_function, is_for_types)

    visit(ast.parse(source), False, False)
    return found


def home_of(target: str) -> str | None:
    """The first-party module that an import target lives in; None for a module not placed."""
    package, _, name = target.partition(".")
    if package == "kkanji_jax" and name in LAZY_HOMES:
        return LAZY_HOMES[name]
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        candidate = ".".join(parts[:length])
        if candidate in DOORS or candidate in PACKAGES or rank_of(candidate) is not None:
            # `kkanji_jax.data.typo` must not pass for a name inside the package.
            is_inside_package = candidate in PACKAGES and length < len(parts)
            return None if is_inside_package and parts[-1] != "__version__" else candidate
    return None


def rank_of(module: str) -> int | None:
    """The module's row in ORDER, or None when it has none."""
    rows = (rank for rank, row in enumerate(ORDER) if fnmatchcase(module, row))
    return None if module in DOORS else next(rows, None)


def objection_to(importer: str, taken: Import) -> str | None:
    """Why the import is against the order, or None."""
    package = taken.target.split(".")[0]
    if importer.startswith("kkanji_jax.data.") and package in ACCELERATED:
        return f"kkanji_jax/data/ never imports {package}"
    if package not in FIRST_PARTY:
        is_config = importer.startswith("configs.")
        return "configs import only kkanji_jax.config" if is_config else None
    if package in ("scripts", "tests"):
        return f"nothing imports {package}"
    if importer.startswith("scripts."):
        return None  # developers' tools stand outside the order; nothing stands on them
    if package == "data_tools" and not importer.startswith("data_tools."):
        return "nothing imports data_tools"
    if package == "configs":
        return "configs are read by path, never imported"
    target = home_of(taken.target)
    if target is None:
        return "no such module in the order"
    if target in DOORS:
        return "a door is never imported"
    if taken.target == "kkanji_jax" and importer not in DOORS:
        return "name the room, or the order cannot be seen"
    if target in PACKAGES:
        return None  # a package holds nothing but its docstring; kkanji_jax, its version
    if importer.startswith("configs.") and target != "kkanji_jax.config":
        return "configs import only kkanji_jax.config"
    if importer.startswith("data_tools.") and package == "kkanji_jax":
        if target == "kkanji_jax.augment.engine":
            return None if taken.inside_function else "only inside a function"
        if not target.startswith("kkanji_jax.data."):
            return "data_tools imports from kkanji_jax only data.*, and augment in a function"
        return None
    above, own = rank_of(target), rank_of(importer)
    if own is None or above is None:  # doors stand below everything
        return None
    is_shared_row = above == own and ORDER[own].endswith(".*")
    return None if above < own or is_shared_row else "it stands below, or is this very file"


def objections_to(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """All that a file does against the order, one line each, with the line number."""
    found = []
    is_room = module.startswith(("kkanji_jax.", "data_tools.")) and not is_package
    if is_room and module not in DOORS and rank_of(module) is None:
        found.append(f"{module}: not placed; add it to the order in tests/test_layers.py")
    for taken in imports_of(source, module, is_package=is_package):
        objection = objection_to(module, taken)
        if is_package:
            is_idle = taken.is_for_types or taken.target.split(".")[0] in LAZY_NEEDS
            objection = None if is_idle else "a package imports nothing"
        if objection:
            found.append(f"{module}:{taken.line}: imports {taken.target}: {objection}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and module != "kkanji_jax":
            called = ast.unparse(node.func).split(".")[-1]
            if called in ("import_module", "__import__"):
                found.append(f"{module}:{node.lineno}: {called} hides an import from this test")
    return found


def circle_in(edges: dict[str, set[str]]) -> list[str] | None:
    """One circle of imports, as the modules along it, or None."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as err:
        return err.args[1]
    return None


def files() -> dict[str, Path]:
    """Module name -> file, for everything the order speaks of; found wherever it is installed."""
    found = {}
    for package in ("kkanji_jax", "data_tools", "configs", "scripts"):
        spec = importlib.util.find_spec(package) if package in PACKAGES[:-1] else None
        folders = spec.submodule_search_locations if spec else None
        folder = Path(folders[0]) if folders else ROOT / package
        for path in sorted(folder.rglob("*.py")):
            name = ".".join([package, *path.relative_to(folder).with_suffix("").parts])
            found[name.removesuffix(".__init__")] = path
    return found

    # The real tree.def test_every_row_of_the_order_exists():
    rows = {row for row in (*ORDER, *DOORS) if not row.endswith("*")}
    missing = sorted(rows - files().keys())
    assert not missing, f"in the order of this file, but not on disk: {', '.join(missing)}"


def test_no_file_imports_against_the_order():
    objections = []
    for module, path in files().items():
        is_package = path.name == "__init__.py"
        objections += objections_to(module, path.read_text(), is_package=is_package)
    assert not objections, "\n".join(objections)


def test_no_imports_run_in_a_circle():
    edges = {}
    for module, path in files().items():
        imports = imports_of(path.read_text(), module, is_package=path.name == "__init__.py")
        targets = {home_of(taken.target) for taken in imports}
        edges[module] = {target for target in targets if target and target not in PACKAGES}
    del edges["kkanji_jax"]  # lazy: what it answers for is imported only when asked
    assert circle_in(edges) is None


def test_the_package_answers_for_its_lazy_names_and_no_others():
    assert set(kkanji_jax.__all__) == {"__version__", *LAZY_HOMES}
    for name, home in LAZY_HOMES.items():
        assert f"def {name}(" in files()[home].read_text()


# Planted violations: a guard that never objects guards nothing.

PLANTED = [
    ("kkanji_jax.model.variants", "import kkanji_jax.data.records", "below"),
    (
        "kkanji_jax.config",
        "def f():\n    from kkanji_jax.training.state import make_model",
        "below",
    ),
    ("kkanji_jax.evaluation.scores", "from .recogniser import load", "below"),
    ("kkanji_jax.data.records", "from ..config import validate", "below"),
    ("kkanji_jax.evaluation.scores", "from kkanji_jax import load", "below"),
    ("kkanji_jax.parallel.mesh", "from kkanji_jax.parallel.mesh import AXIS", "this very file"),
    ("kkanji_jax.inference.recogniser", "from kkanji_jax.plots.curves import draw", "below"),
    ("kkanji_jax.evaluate", "def f():\n    import kkanji_jax.train", "a door is never"),
    ("kkanji_jax.train", "from kkanji_jax.plots import __main__", "a door is never"),
    ("kkanji_jax.train", "import data_tools.read.catalogue", "nothing imports data_tools"),
    ("kkanji_jax.train", "import configs.b0", "never imported"),
    ("data_tools.build", "from scripts import make_demo", "nothing imports scripts"),
    ("data_tools.read.catalogue", "from data_tools.write.shards import write", "below"),
    ("data_tools.inspect", "from kkanji_jax.augment.engine import augment", "inside a function"),
    ("data_tools.inspect", "def f():\n    import kkanji_jax.config", "data.*"),
    ("data_tools.inspect", "from kkanji_jax import load", "data.*"),
    ("kkanji_jax.data.resident", "def f():\n    import jax.numpy as jnp", "never imports jax"),
    ("kkanji_jax.augment.policy", "from flax import nnx", "never imports flax"),
    ("kkanji_jax.data.balance", "import optax", "never imports optax"),
    ("configs.b0", "from kkanji_jax.model.variants import VARIANTS", "configs import only"),
    ("configs.b1", "from configs.b0 import get_config", "never imported"),
    ("kkanji_jax.train", "from kkanji_jax.data import recordz", "no such module"),
    ("kkanji_jax.train", "import importlib\nimportlib.import_module('data_tools')", "hides"),
    ("kkanji_jax.training.step", "import kkanji_jax", "name the room"),
    ("kkanji_jax.data.newcomer", "", "not placed"),
    ("data_tools.mend", "", "not placed"),
    ("kkanji_jax", "from .recogniser import load", "a package imports nothing"),
    ("kkanji_jax.data", "import jax", "a package imports nothing"),
]


@pytest.mark.parametrize(("module", "source", "wanted"), PLANTED)
def test_a_planted_import_is_objected_to(module: str, source: str, wanted: str):
    (objection,) = objections_to(module, source, is_package=module in PACKAGES)
    assert wanted in objection and objection.startswith(module)


LAWFUL = [
    (
        "kkanji_jax.training.state",
        "from kkanji_jax.training.optim import make\nimport kkanji_jax.parallel.mesh as mesh_lib",
    ),
    ("kkanji_jax.data.resident", "import numpy\nfrom . import manifest, records"),
    ("kkanji_jax.saved.checkpoint", "from kkanji_jax import __version__"),
    ("kkanji_jax.plots.curves", "from kkanji_jax.plots.fonts import find"),
    ("kkanji_jax.plots.__main__", "from . import curves"),
    ("kkanji_jax.predict", "def f():\n    from kkanji_jax import load"),
    ("data_tools.build", "from data_tools import combine\nfrom kkanji_jax.data import records"),
    ("data_tools.inspect", "def f():\n    from kkanji_jax.augment.engine import augment"),
    ("configs.b0", "from kkanji_jax.config import default_config"),
    ("scripts.make_golden", "import kkanji_jax.training.step\nimport data_tools.write.shards"),
]


@pytest.mark.parametrize(("module", "source"), LAWFUL)
def test_a_lawful_import_is_let_pass(module: str, source: str):
    assert objections_to(module, source) == []


def test_a_circle_is_found():
    assert set(circle_in({"a": {"b"}, "b": {"c", "d"}, "d": {"b"}}) or ()) == {"b", "d"}
    assert circle_in({"a": {"b"}, "b": {"c", "d"}}) is None
