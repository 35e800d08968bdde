"""What no file here may do, read from its text: planted first, then looked for in every file."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

HOMELESS = ("utils", "util", "helpers", "helper", "common", "misc")
BANNED_NNX = ("jit", "grad", "value_and_grad", "Optimizer", "Dict")
# Called while a file is imported, these make an array, read a file, define a flag or wake a device.
BUSY_ROOTS = (
    "np",
    "numpy",
    "jnp",
    "jax.numpy",
    "jax.random",
    "flags",
    "config_flags",
    "absl.flags",
)
BUSY_CALLS = ("open", "print", "jax.devices", "jax.config.update", "jax.device_put")
BUSY_METHODS = ("read_text", "read_bytes", "write_text", "mkdir")
IDLE_CALLS = ("np.dtype", "np.finfo", "np.iinfo", "jnp.dtype", "jnp.finfo")
COMMANDS = (
    "kkanji_jax/train.py",
    "kkanji_jax/evaluate.py",
    "kkanji_jax/predict.py",
    "kkanji_jax/report.py",
    "kkanji_jax/serve.py",
    "kkanji_jax/plots/__main__.py",
    "kkanji_jax/export/__main__.py",
    "data_tools/download.py",
    "data_tools/build.py",
    "data_tools/verify.py",
    "data_tools/inspect.py",
)
LAZY = "kkanji_jax/__init__.py"  # imports what its public names stand for when they are asked

ROOT = Path(__file__).resolve().parents[1]


def nnx_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every X of `flax.nnx.X` that a file reaches for, under whatever alias, with its line."""
    aliases = {"flax.nnx", "nnx"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = node.names
            aliases |= {n.asname for n in names if n.asname and prefix + n.name == "flax.nnx"}
            if prefix == "flax.nnx.":
                yield from ((name.name, node.lineno) for name in names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in aliases:
            yield node.attr, node.lineno


def calls_at_import(tree: ast.Module) -> Iterator[ast.Call]:
    """Every call that runs when the file is imported: not in a body, but in its defaults."""

    def visit(node: ast.AST) -> Iterator[ast.Call]:
        if isinstance(node, ast.Call):
            yield node
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Lambda):
            return
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        children = [*node.decorator_list, node.args] if is_function else ast.iter_child_nodes(node)
        for child in children:
            yield from visit(child)

    return visit(tree)


def comments(source: str) -> Iterator[tuple[str, int]]:
    """Every comment of a file with its line; a text that looks like one is none."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string, token.start[0]


def packed_lines(source: str) -> Iterator[int]:
    """The lines where a comment keeps `ruff format` away."""
    for comment, line in comments(source):
        if re.search(r"#\s*fmt:\s*(skip|off)", comment):
            yield line


def any_settings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every function that takes any keywords of any type, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.kwarg:
            annotation = node.args.kwarg.annotation
            if annotation is None or ast.unparse(annotation) in ("Any", "typing.Any"):
                yield node.name, node.lineno


def namesakes(sources: Mapping[str, str]) -> list[str]:
    """The top-level classes that share a name, each with the files that define it."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(path)
    return [f"{name}: {', '.join(paths)}" for name, paths in homes.items() if len(paths) > 1]


def objections_to(path: str, source: str) -> list[str]:
    """Every rule that the file at `path`, relative to the root, breaks."""
    found = []
    tree, where = ast.parse(source), Path(path)
    is_source = where.parts[0] in ("kkanji_jax", "data_tools")
    if where.stem in HOMELESS:
        found.append(f"{path}: a file named so has no purpose; give it the name of its subject")
    for line in packed_lines(source):
        found.append(f"{path}:{line}: the layout is ruff format's; wrap the line properly")
    if where.parts[0] != "tests":
        for name, line in any_settings(tree):
            found.append(f"{path}:{line}: {name}() takes any settings; name them, with types")
    if where.name == "__init__.py" and where.parts[:-1] != ("kkanji_jax",):
        if any(not isinstance(node, ast.Expr) for node in tree.body):
            found.append(f"{path}: a package's __init__.py holds its docstring and nothing else")
    for name, line in nnx_names(tree):
        if name in BANNED_NNX:
            found.append(f"{path}:{line}: flax.nnx.{name} is banned; plain JAX trains")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            found.append(f"{path}:{node.lineno}: __future__ annotations defeat runtime checks")
        elif isinstance(node, ast.ExceptHandler) and is_source:
            if node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"):
                found.append(f"{path}:{node.lineno}: name the errors that are expected")
        elif isinstance(node, ast.Call) and is_source:
            called = ast.unparse(node.func)
            is_to_stdout = all(keyword.arg != "file" for keyword in node.keywords)
            if called == "print" and is_to_stdout and path not in COMMANDS:
                found.append(f"{path}:{node.lineno}: only commands write to standard output")
            if called.split(".")[-1] in ("import_module", "__import__") and path != LAZY:
                found.append(f"{path}:{node.lineno}: {called} hides an import from import-linter")
    for call in calls_at_import(tree) if is_source or where.parts[0] == "configs" else ():
        called = ast.unparse(call.func)
        root, _, method = called.rpartition(".")
        is_busy = root in BUSY_ROOTS or called in BUSY_CALLS or method in BUSY_METHODS
        if is_busy and called not in IDLE_CALLS:
            found.append(f"{path}:{call.lineno}: {called}() runs when the file is imported")
    return found


def python_files() -> list[Path]:
    folders = ("kkanji_jax", "data_tools", "configs", "scripts", "tests")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.skipif(not (ROOT / "kkanji_jax").is_dir(), reason="the source tree is not beside")
def test_no_file_breaks_a_rule_of_the_house():
    objections = []
    for path in python_files():
        objections += objections_to(path.relative_to(ROOT).as_posix(), path.read_text())
    assert not objections, "\n".join(objections)


@pytest.mark.skipif(not (ROOT / "kkanji_jax").is_dir(), reason="the source tree is not beside")
def test_every_command_is_there():
    assert [path for path in COMMANDS if not (ROOT / path).is_file()] == []


@pytest.mark.skipif(not (ROOT / "kkanji_jax").is_dir(), reason="the source tree is not beside")
def test_no_two_classes_share_a_name():
    paths = [path.relative_to(ROOT).as_posix() for path in python_files()]
    sources = [path for path in paths if path.startswith(("kkanji_jax/", "data_tools/"))]
    assert namesakes({path: (ROOT / path).read_text() for path in sources}) == []


def test_classes_that_share_a_name_are_named():
    one, other = "class Row:\n    pass", "class Box:\n    class Row:\n        pass"
    assert namesakes({"a.py": one, "b.py": other}) == []
    assert namesakes({"a.py": one, "b.py": other, "c.py": one}) == ["Row: a.py, c.py"]


PLANTED = [
    ("kkanji_jax/utils.py", "", "no purpose"),
    ("tests/helpers.py", "", "no purpose"),
    ("scripts/demo/x.py", "TABLE = [1, 2]  # fmt: skip", "ruff format's"),
    ("tests/test_x.py", "# fmt: off\nTABLE = [1, 2]", "ruff format's"),
    ("data_tools/build.py", "def f(**settings: Any):\n    pass", "f() takes any settings"),
    (
        "kkanji_jax/model/losses.py",
        "class A:\n    def f(self, **shape):\n        pass",
        "f() takes",
    ),
    ("kkanji_jax/data/__init__.py", '"""Data."""\nfrom os import path', "holds its docstring"),
    ("data_tools/build.py", "importlib.import_module('jax')", "import_module hides"),
    ("kkanji_jax/training/step.py", "from flax import nnx\nstep = nnx.jit(f)", "flax.nnx.jit"),
    ("kkanji_jax/training/step.py", "from flax import nnx as n\nn.grad", "flax.nnx.grad"),
    ("kkanji_jax/training/step.py", "import flax.nnx as n\nn.Optimizer", "flax.nnx.Optimizer"),
    ("kkanji_jax/training/step.py", "import flax\nflax.nnx.Dict", "flax.nnx.Dict"),
    ("scripts/x.py", "from flax.nnx import value_and_grad", "flax.nnx.value_and_grad"),
    ("kkanji_jax/parallel/mesh.py", "from __future__ import annotations", "__future__"),
    (
        "kkanji_jax/parallel/mesh.py",
        "try:\n    f()\nexcept Exception:\n    pass",
        "name the errors",
    ),
    ("data_tools/plan/audit.py", "try:\n    f()\nexcept:\n    pass", "name the errors"),
    ("kkanji_jax/evaluation/scores.py", "def f():\n    print(1)", "only commands write"),
    ("kkanji_jax/model/losses.py", "ONE = jnp.ones(3)", "jnp.ones() runs"),
    (
        "kkanji_jax/model/losses.py",
        "def f(key=jax.random.key(0)):\n    pass",
        "jax.random.key() runs",
    ),
    ("kkanji_jax/model/losses.py", "class A:\n    table = np.arange(3)", "np.arange() runs"),
    ("kkanji_jax/data/records.py", "TEXT = Path('x').read_text()", "read_text() runs"),
    ("kkanji_jax/train.py", "F = flags.DEFINE_string('w', '', '')", "DEFINE_string() runs"),
    ("configs/b0.py", "print('b0')", "print() runs"),
]


@pytest.mark.parametrize(("path", "source", "expected"), PLANTED)
def test_a_planted_offence_is_objected_to(path: str, source: str, expected: str):
    (objection,) = objections_to(path, source)
    assert expected in objection and objection.startswith(path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kkanji_jax/training/step.py", "from flax import nnx\nparts = nnx.split"),
        (
            "kkanji_jax/model/losses.py",
            "def f():\n    return jnp.ones(3)\n\ng = lambda: np.ones(3)",
        ),
        ("kkanji_jax/data/records.py", "HEADER = np.dtype('<u4')"),
        ("kkanji_jax/train.py", "if __name__ == '__main__':\n    print('hello')"),
        ("data_tools/build.py", "def run():\n    print('done')"),
        ("tests/test_x.py", "A = np.ones(3)"),
        ("tests/test_x.py", "def f(**more: Any):\n    pass\n\nA = '# fmt: skip'"),
        ("data_tools/build.py", "def f(**params: object):\n    pass"),
        ("kkanji_jax/data/__init__.py", '"""Data."""'),
    ],
)
def test_what_is_lawful_is_let_pass(path: str, source: str):
    assert objections_to(path, source) == []
