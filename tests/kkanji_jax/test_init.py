"""The package answers for its public names without importing what they come from until asked."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import kkanji_jax

PUBLIC = {
    "create_model": "kkanji_jax.model.efficientnet",
    "input_size": "kkanji_jax.model.variants",
    "load": "kkanji_jax.inference.recogniser",
}


def test_the_public_names_are_the_functions_of_their_modules():
    assert set(kkanji_jax.__all__) == {"__version__", *PUBLIC}
    for name, module in PUBLIC.items():
        assert getattr(kkanji_jax, name) is getattr(import_module(module), name)
        assert inspect.isfunction(getattr(kkanji_jax, name))


def test_dir_shows_the_public_names_and_imports_none_of_them():
    code = "import kkanji_jax, sys; print(*dir(kkanji_jax)); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, has_jax = done.stdout.splitlines()
    assert {*PUBLIC, "__version__"} <= set(names.split())
    assert has_jax == "False"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        _ = kkanji_jax.create_modle  # pyright: ignore[reportAttributeAccessIssue]
