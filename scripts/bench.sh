#!/usr/bin/env bash
# Times a bundle with every engine, and what it is compared with, into docs/benchmarks.md and docs/benchmarks.json.
#
#     scripts/bench.sh [--bundle DIR] [--rounds N] [--runs N] [--sizes 128,256,512,1024] [--output DIR]
#
# Builds the commands, installs onnxruntime and onnx for Python into .ldseg/bench unless they are there (needs python3
# with venv), PyTorch and onnx2torch if they can be had, and runs scripts/bench.py. Leave the machine alone meanwhile.
set -euo pipefail

cd "$(dirname "$0")/.."
venv=.ldseg/bench
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c "import onnx, onnxruntime" 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx onnxruntime
fi
# A peer, some gigabytes of it: left out where it cannot be had, or LDSEG_BENCH_PYTORCH is 0.
if [ "${LDSEG_BENCH_PYTORCH:-1}" != 0 ] && ! "$venv/bin/python" -c "import onnx2torch" 2>/dev/null; then
    pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
    pip torch --index-url https://download.pytorch.org/whl/cpu || pip torch || true
    pip onnx2torch || echo "PyTorch cannot be had: it is left out" >&2
fi
executables=$(cargo build --release --locked --workspace --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
LDSEG=$(grep '/ldseg$' <<<"$executables") LDSEG_TRAIN=$(grep '/ldseg-train$' <<<"$executables")
if [ -z "${ORT_DYLIB_PATH:-}" ]; then
    ORT_DYLIB_PATH=$(scripts/fetch-onnxruntime.sh)
fi
export LDSEG LDSEG_TRAIN ORT_DYLIB_PATH
exec "$venv/bin/python" scripts/bench.py "$@"
