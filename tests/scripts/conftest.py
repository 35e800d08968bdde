"""Scripts are loaded from their files: they are no package."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="session")
def load_script() -> Iterator[Callable[[str], ModuleType]]:
    """Loads scripts/NAME.py with its folder on the path, as `python scripts/NAME.py` has it."""

    def load(name: str) -> ModuleType:
        path = SCRIPTS / f"{name}.py"
        if not path.is_file():
            pytest.skip("the source tree is not beside")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    sys.path.insert(0, str(SCRIPTS))
    yield load
    sys.path.remove(str(SCRIPTS))
