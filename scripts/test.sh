#!/usr/bin/env bash
# Lint, types and tests, in an environment of their own.
#
#   bash scripts/test.sh [--slow]     --slow adds the full-size networks and the long runs
#   PYTHON=python3.12 bash scripts/test.sh
#   VENV=DIR keeps the environment there; KKANJI_SOURCE=DIR names a folder of CODH's files to test on
#   KKANJI_CUDA_COMPILER=DIR names a folder with jax-cuda12-plugin and -pjrt; --slow makes one if unset
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
marks="not slow and not gpu"
extras="dev,bench"
for argument in "$@"; do
    case "$argument" in
        --slow) marks="not gpu"; extras="$extras,wasm,ray" ;;
        *) echo "usage: bash scripts/test.sh [--slow]" >&2; exit 2 ;;
    esac
done

venv=${VENV:-$(mktemp -d)/venv}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
py="$venv/bin/python"
"$py" -m pip install --quiet --disable-pip-version-check -c constraints.txt ".[$extras]"
"$py" -m pip uninstall --quiet --yes kkanji_jax  # the tests run the checkout; one tests the wheel

# What compiles for a GPU without one. Not in the environment: JAX would look for CUDA in every test.
if [ "$marks" = "not gpu" ] && [ -z "${KKANJI_CUDA_COMPILER:-}" ]; then
    compiler="$venv/cuda-compiler"
    if [ -d "$compiler" ] || "$py" -m pip install --quiet --disable-pip-version-check --no-deps \
            -c constraints.txt --target "$compiler" jax-cuda12-plugin jax-cuda12-pjrt; then
        export KKANJI_CUDA_COMPILER="$compiler"
    else
        echo "no jax-cuda12-plugin for this machine: tests of the compiled step will be skipped"
    fi
fi

"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/lint-imports" --no-logo --no-cache
"$venv/bin/pyright" --pythonpath "$py"
# A file's tests share their runs, so each file stays with one worker.
"$py" -m pytest -q -rs -m "$marks" --durations=15 --numprocesses auto --maxprocesses 4 --dist loadfile
