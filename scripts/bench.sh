#!/usr/bin/env bash
# Times a bundle with every engine, and what it is compared with, into docs/benchmarks.md and docs/benchmarks.json.
#
#     scripts/bench.sh [--bundle DIR] [--rounds N] [--runs N] [--sizes 128,256,512,1024] [--output DIR]
#
# Builds the commands, installs onnxruntime and onnx for Python into .ldseg/bench unless they are there (needs python3
# with venv), and runs scripts/bench.py. Leave the machine alone meanwhile.
set -euo pipefail

cd "$(dirname "$0")/.."
venv=.ldseg/bench
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c "import onnx, onnxruntime" 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx onnxruntime
fi
executables=$(cargo build --release --locked --workspace --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
LDSEG=$(grep '/ldseg$' <<<"$executables") LDSEG_TRAIN=$(grep '/ldseg-train$' <<<"$executables")
if [ -z "${ORT_DYLIB_PATH:-}" ]; then
    ORT_DYLIB_PATH=$(scripts/fetch-onnxruntime.sh)
fi
export LDSEG LDSEG_TRAIN ORT_DYLIB_PATH
exec "$venv/bin/python" scripts/bench.py "$@"
