"""Compiles the page's loops: web/assets/kernels.c to kernels.wasm beside it.

    python scripts/assets/build_wasm.py

Needs the `wasm` extra, which pins the compiler: with another the bytes are others.
The file's last section holds the SHA-256 of the source, by which a test knows one from the other.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "kkanji_jax" / "web" / "assets"
SOURCE, BINARY = ASSETS / "kernels.c", ASSETS / "kernels.wasm"
FLAGS = (
    "-target",
    "wasm32-freestanding",
    "-msimd128",
    "-O3",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-nostdlib",
    "-s",
    "-Wl,--no-entry",
    "-Wl,--export=__heap_base",
    "-Wl,-z,stack-size=65536",
)


def digest_section(source: bytes) -> bytes:
    """A custom section of WebAssembly, which tells of the source and does nothing."""
    name, content = b"source-sha256", hashlib.sha256(source).hexdigest().encode()
    payload = bytes([len(name)]) + name + content
    return bytes([0, len(payload)]) + payload  # lengths under 128 are one byte


def compiled(source: Path) -> bytes:
    """The module that a C file becomes. ValueError if the compiler objects or is not there."""
    with tempfile.TemporaryDirectory() as scratch:
        binary = Path(scratch) / "kernels.wasm"
        caches = {f"ZIG_{which}_CACHE_DIR": scratch for which in ("LOCAL", "GLOBAL")}
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", binary, source],
            env=os.environ | caches,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"{source.name} is not compiled: {done.stderr.strip()}")
        return binary.read_bytes() + digest_section(source.read_bytes())


def main() -> int:
    BINARY.write_bytes(compiled(SOURCE))
    print(f"wrote {BINARY.name}, {BINARY.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
