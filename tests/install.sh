#!/bin/sh
# Installs the project as its users do, in empty environments, and uses it: `make test-install`. Downloads several GB.
#   base    wheel, pip, no extra: signs nothing, trains nothing, serves a package; at most 350 MB
#   uv      a fresh clone, `uv sync`: a small training, whose package the base serves
#   poetry  a fresh clone, `poetry install`: a small training
# Usage: sh tests/install.sh PYTHON, a Python with uv; poetry is used where it is found.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
unset PYTHONPATH VIRTUAL_ENV

train() { # in the current folder, with the command given
    model=$("$@" python -c 'from cls.sample import PERSON_MODEL; print(PERSON_MODEL)')
    "$@" cls sample make photos --photos 40
    "$@" cls load-group --group hair_color --source photos
    "$@" cls segment --model-path "$model"
    "$@" cls train --help >/dev/null
    "$@" cls train --group hair_color --epochs 1 --batch 8 --arch mnv3 --size 64x48 --weights none --backgrounds 0
}

echo "== uv"
git clone --quiet "$checkout" "$work/uv"
cd "$work/uv"
"$python" -m uv sync --quiet
train "$python" -m uv run --quiet
"$python" -m uv run --quiet cls export --group hair_color --formats onnx
package=$work/uv/classification_data/inference_models/hair_color/inference_model/model_onnx.zip

echo "== base"
mkdir "$work/empty"
"$python" -m uv build --quiet --wheel --out-dir "$work/wheel" "$work/uv"
"$python" -m uv venv --quiet "$work/base"
"$python" -m uv pip install --quiet --compile-bytecode --python "$work/base/bin/python" "$work"/wheel/*.whl
cd "$work/empty"
size=$(du -sm "$work/base" | cut -f1)
echo "installed: $size MB"
[ "$size" -le 350 ]
"$work/base/bin/cls" package verify "$package"
"$work/base/bin/cls" storage serve --port 18300 --ssh-port 14000 --infer-port 18100 >serve.log 2>&1 &
server=$!
mkdir -p classification_data/inference_models/hair_color
cp -r "$(dirname "$package")" classification_data/inference_models/hair_color/
export CLS_MODEL_STORAGE_URL=http://127.0.0.1:18300
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 2
    ! "$work/base/bin/cls" push --group hair_color --version 0.0.1 || break
done
"$work/base/bin/python" - <<'EOF'
import httpx

answer = httpx.get("http://127.0.0.1:18100/v2/models/hair_color/ready")
assert answer.status_code == 200, answer
EOF
kill "$server"
server=
status=0
"$work/base/bin/cls" train --group hair_color 2>error.txt || status=$?
cat error.txt
[ "$status" -eq 1 ]
grep -q "cls\[train\]" error.txt
[ ! -e "$work/base/lib/classification_data" ]

if ! command -v poetry >/dev/null; then
    echo "poetry is not installed: its part is left out"
    exit 0
fi
echo "== poetry"
git clone --quiet "$checkout" "$work/poetry"
cd "$work/poetry"
poetry install --quiet
train poetry run
