"""Compiled programs are kept where the user says, or not at all, and never by an import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Compiles one program that takes long enough to be kept; tells what happened.
COMPILE = """
import json, logging, os, sys
import jax, jax.numpy as jnp
before = jax.config.jax_compilation_cache_dir
import kkanji_jax.compilation_cache as lib
import kkanji_jax.inference.jax_backend
after_import = jax.config.jax_compilation_cache_dir
if "--compile-first" in sys.argv:
    jax.jit(lambda x: x + 1)(1.0)
lib.LEAST_COMPILE_S = 0.0
folder = lib.enable_compilation_cache()
hits = []
class Hear(logging.Handler):
    def emit(self, record):
        hits.append(record.getMessage())
logger = logging.getLogger("jax._src.compiler")
logger.addHandler(Hear()); logger.setLevel(logging.DEBUG); logger.propagate = False
with lib.counting_kept_programs() as kept:
    jax.jit(lambda x: jnp.linalg.inv(x) @ x)(jnp.eye(5)).block_until_ready()
num_kept = len(kept)
jax.jit(lambda x: jnp.linalg.inv(x) + x)(jnp.eye(5)).block_until_ready()
print(json.dumps({
    "num_kept": num_kept, "is_counting": len(kept) > num_kept,
    "folder": folder and str(folder), "before": before, "after_import": after_import,
    "num_hits": sum("Persistent compilation cache hit" in told for told in hits),
    "least_s": jax.config.jax_persistent_cache_min_compile_time_secs,
}))
"""


def compile_in(environment: dict[str, str], *flags: str) -> tuple[dict, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KKANJI_", "JAX_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, *flags],
        env=kept | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("flags", [(), ("--compile-first",)])
def test_a_second_process_finds_what_the_first_compiled(tmp_path: Path, flags: tuple[str, ...]):
    environment = {"KKANJI_CACHE": str(tmp_path / "mine")}
    first, _ = compile_in(environment, *flags)
    assert first["folder"] == str(tmp_path / "mine" / "compiled")
    assert first["before"] is None and first["after_import"] is None
    assert first["num_hits"] == 0 and any((tmp_path / "mine" / "compiled").iterdir())
    second, told = compile_in(environment, *flags)
    assert second["num_hits"] > 0 and told == ""
    assert first["num_kept"] > 0 == second["num_kept"]
    assert not first["is_counting"]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_CACHE_HOME": "{}/xdg"}, "{}/xdg/kkanji_jax/compiled"),
        ({"HOME": "{}/home"}, "{}/home/.cache/kkanji_jax/compiled"),
        ({"KKANJI_CACHE": "off", "XDG_CACHE_HOME": "{}/xdg"}, None),
    ],
)
def test_it_is_where_the_user_says(tmp_path: Path, environment: dict[str, str], folder: str | None):
    told, _ = compile_in({k: v.format(tmp_path) for k, v in environment.items()})
    assert told["folder"] == (folder and folder.format(tmp_path))
    written = {path.parent for path in tmp_path.rglob("*-cache")}
    assert written == ({Path(folder.format(tmp_path))} if folder else set())


@pytest.mark.parametrize("named", ["{}/mine", "off"])
def test_a_folder_and_a_limit_that_jax_was_given_stay(tmp_path: Path, named: str):
    environment = {"KKANJI_CACHE": named, "JAX_COMPILATION_CACHE_DIR": "{}/jax"}
    environment = {name: value.format(tmp_path) for name, value in environment.items()}
    told, _ = compile_in(environment | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.001"})
    assert (told["folder"], told["least_s"]) == (str(tmp_path / "jax"), 0.001)
    assert {path.parent for path in tmp_path.rglob("*-cache")} == {tmp_path / "jax"}


def test_a_folder_that_cannot_be_is_said_once_and_nothing_is_kept(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    told, error = compile_in({"KKANJI_CACHE": str(tmp_path / "file")})
    assert told["folder"] is None
    assert error.count("\n") == 1 and str(tmp_path / "file") in error and "KKANJI_CACHE" in error
