"""Scripts are loaded from their files: they are no package."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="session")
def load_script() -> Iterator[Callable[[str], ModuleType]]:
    """Loads scripts/NAME.py, NAME such as `demo/make_demo`, with its folder on the path.

    So `python scripts/NAME.py` has it. A script is loaded once, also by those that import it.
    """
    before = list(sys.path)

    def load(name: str) -> ModuleType:
        path = SCRIPTS / f"{name}.py"
        if not path.is_file():
            pytest.skip("the source tree is not beside")
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        module = importlib.import_module(path.stem)
        assert module.__file__ == str(path)
        return module

    yield load
    sys.path[:] = before
