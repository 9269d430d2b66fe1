#!/usr/bin/env bash
# Runs every test, those that compare engines included: ONNX Runtime is fetched unless ORT_DYLIB_PATH names one.
# Arguments go to `cargo test`.
set -euo pipefail

cd "$(dirname "$0")/.."
if [ -z "${ORT_DYLIB_PATH:-}" ]; then
    ORT_DYLIB_PATH=$(scripts/fetch-onnxruntime.sh)
fi
export ORT_DYLIB_PATH

# `cargo test` builds no executables of packages whose tests do not run them; those of tests/ run both commands.
cargo build --release --workspace
cargo test --release --workspace "$@"
