"""Kuzushiji character recognition in JAX. Importing this package imports nothing else."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kkanji_jax.inference.recogniser import load
    from kkanji_jax.model.efficientnet import create_model
    from kkanji_jax.model.variants import input_size

__version__ = "0.1.0"
__all__ = ["__version__", "create_model", "input_size", "load"]

_HOMES = {
    "create_model": "kkanji_jax.model.efficientnet",
    "input_size": "kkanji_jax.model.variants",
    "load": "kkanji_jax.inference.recogniser",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kkanji_jax' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
