"""Importing a file does nothing, and --help comes without the weight of JAX: seen from outside."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = (
    "kkanji_jax.train",
    "kkanji_jax.evaluate",
    "kkanji_jax.plots",
    "kkanji_jax.predict",
    "data_tools.download",
    "kkanji_jax.report",
    "kkanji_jax.serve",
    "kkanji_jax.export",
    "data_tools.build",
    "data_tools.verify",
    "data_tools.inspect",
)
HEAVY = ("jax", "flax", "grain", "cv2", "matplotlib", "optax", "orbax", "albumentations")

# Imports the modules named in its arguments one by one; prints what each did beside being imported.
WITNESS = """
import importlib, json, os, sys
forbidden, home, modules = json.loads(sys.argv[1])
opened = []
def hear(event, args):
    path = str(args[0]) if event == "open" and args else ""
    if path.startswith(home) and os.path.isfile(path) and ".py" not in os.path.basename(path):
        opened.append(os.path.relpath(path, home))
sys.addaudithook(hear)
told = []
for module in modules:
    importlib.import_module(module)
    told += [f"importing {module} imports {name}" for name in forbidden if name in sys.modules]
    told += [f"importing {module} opens {path}" for path in opened]
    forbidden = [name for name in forbidden if name not in sys.modules]
    opened.clear()
if "absl.flags" in sys.modules:
    by_module = sys.modules["absl.flags"].FLAGS.flags_by_module_dict()
    told += [f"importing {name} defines flags" for name in by_module if name in modules]
print(json.dumps(told))
"""

# Runs a command as `python -m` does; then says with what status it ended and what it had imported.
ASK_FOR_HELP = """
import json, runpy, sys
command, heavy = sys.argv[1], json.loads(sys.argv[2])
sys.argv = [command, "--help"]
status = None
try:
    runpy.run_module(command, run_name="__main__", alter_sys=True)
except SystemExit as end:
    status = end.code or 0
told = {"status": status, "heavy": [name for name in heavy if name in sys.modules]}
print(json.dumps(told), file=sys.stderr)
"""


def home() -> Path:
    """The folder that holds the packages: the checkout, or where the wheel was installed."""
    spec = importlib.util.find_spec("kkanji_jax")
    assert spec and spec.origin
    return Path(spec.origin).parents[1]


def modules_of(package: str) -> list[str]:
    names = []
    for path in sorted((home() / package.replace(".", "/")).rglob("*.py")):
        parts = path.relative_to(home()).with_suffix("").parts
        names.append(".".join(parts).removesuffix(".__init__"))
    return names


def run(code: str, *args: str) -> subprocess.CompletedProcess:
    # With no such platform, making an array or asking for devices at import is an error.
    env = os.environ | {"JAX_PLATFORMS": "none_such", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=home(), env=env, capture_output=True, text=True, timeout=120)


def told_when_importing(modules: list[str], forbidden: tuple[str, ...]) -> list[str]:
    result = run(WITNESS, json.dumps([forbidden, str(home()), modules]))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_package_itself_imports_nothing():
    assert told_when_importing(["kkanji_jax"], (*HEAVY, "numpy")) == []


def test_data_and_data_tools_are_imported_without_jax():
    modules = modules_of("kkanji_jax.data") + modules_of("data_tools")
    assert told_when_importing(modules, HEAVY) == []


def test_no_import_makes_an_array_reads_a_file_or_defines_a_flag():
    assert told_when_importing(modules_of("kkanji_jax"), ()) == []


def test_the_witness_hears_an_import_a_file_and_a_flag(tmp_path: Path):
    (tmp_path / "busy.txt").write_text("x")
    (tmp_path / "busy.py").write_text(
        "import optax\nfrom absl import flags\nfrom pathlib import Path\n"
        "flags.DEFINE_string('busy', '', '')\nPath(__file__).with_suffix('.txt').read_text()\n"
    )
    folder = str(tmp_path)
    code = f"import sys; sys.path.insert(0, {folder!r})\n" + WITNESS
    result = run(code, json.dumps([["optax"], folder, ["busy"]]))
    told = json.loads(result.stdout)
    assert "importing busy imports optax" in told
    assert "importing busy opens busy.txt" in told
    assert "importing busy defines flags" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_answered_without_heavy_imports(command: str):
    result = run(ASK_FOR_HELP, command, json.dumps(HEAVY))
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stderr.splitlines()[-1])
    assert told == {"status": 0, "heavy": []}
    assert "--" in result.stdout, "the help names no flag"
