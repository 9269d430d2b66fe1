#!/usr/bin/env bash
# Runs every test, those that compare engines included: ONNX Runtime is fetched unless ORT_DYLIB_PATH names one, and the
# Python packages that read what ldseg writes, unless LDSEG_PYTHON_PATH names their folder. Arguments go to `cargo test`.
set -euo pipefail

cd "$(dirname "$0")/.."
if [ -z "${ORT_DYLIB_PATH:-}" ]; then
    ORT_DYLIB_PATH=$(scripts/fetch-onnxruntime.sh)
fi
export ORT_DYLIB_PATH
# Without them these tests say that they were skipped.
if [ -z "${LDSEG_PYTHON_PATH:-}" ] && packages=$(scripts/fetch-python.sh); then
    export LDSEG_PYTHON_PATH=$packages
fi

# `cargo test` builds no executables of packages whose tests do not run them; those of tests/ run both commands.
cargo build --release --workspace
cargo test --release --workspace "$@"
