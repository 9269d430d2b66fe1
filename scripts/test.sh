#!/usr/bin/env bash
# Runs every test, those that compare engines included: ONNX Runtime is fetched unless ORT_DYLIB_PATH names one, and
# NumPy, for the tests of the Python interface, unless python3 has it. Arguments go to `cargo test`.
set -euo pipefail

cd "$(dirname "$0")/.."
if [ -z "${ORT_DYLIB_PATH:-}" ]; then
    ORT_DYLIB_PATH=$(scripts/fetch-onnxruntime.sh)
fi
export ORT_DYLIB_PATH
# Without it these tests say that they were skipped.
if numpy=$(scripts/fetch-numpy.sh) && [ -n "$numpy" ]; then
    export LDSEG_PYTHON_PATH=$numpy
fi

# `cargo test` builds no executables of packages whose tests do not run them; those of tests/ run both commands.
cargo build --release --workspace
cargo test --release --workspace "$@"
