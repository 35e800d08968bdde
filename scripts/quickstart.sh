#!/usr/bin/env bash
# From a fresh checkout to characters recognised in images: environment, dataset, training, scores,
# figures, predictions. Only the installation needs a network. Run again, it reuses what exists.
#
#   bash scripts/quickstart.sh            PYTHON=python3.12 chooses the interpreter (3.11 or newer),
#                                         VENV=DIR the environment (default .venv-quickstart)
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv-quickstart}
dataset=data/demo
run=runs/quickstart

step() { printf '\n== %s\n' "$*"; }

step "1/6 environment in $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt .
# In this folder, Python imports the checkout and not the installed copy.
py="$(cd "$venv" && pwd)/bin/python"

step "2/6 dataset: synthetic characters rendered from brush fonts, split by simulated book"
"$py" -m data_tools.build --source kkanji_jax/demo --splits-from kkanji_jax/demo/splits.csv \
    --out "$dataset"
mkdir -p "$run"
"$py" -m data_tools.inspect "$dataset" --sheet "$run/sheet.png"

step "3/6 training: EfficientNet-B0 (run again, it resumes, or finds nothing left to do)"
echo "Compiling comes first, about one minute; the compiled program is kept for the next run."
"$py" -m kkanji_jax.train --config configs/quickstart.py --workdir "$run"

step "4/6 calibration on the validation books, scores on the test books (training used neither)"
"$py" -m kkanji_jax.evaluate --model "$run" --dataset "$dataset" --of val
"$py" -m kkanji_jax.evaluate --model "$run" --dataset "$dataset" --of test

step "5/6 figures"
"$py" -m kkanji_jax.plots --model "$run"

step "6/6 predictions for images of the test books"
"$py" scripts/demo/demo_images.py kkanji_jax/demo "$run/images" --of test --count 12
"$py" -m kkanji_jax.predict "$run/images" --model "$run" --top-k 3

step "done"
echo "dataset:      $run/sheet.png shows a part of it"
echo "figures:      $run/plots/"
echo "scores:       $run/eval/test/eval.json"
echo "predictions:  each file listed above is named after the character that it shows"
echo "again:        $py -m kkanji_jax.predict IMAGE --model $run"
