#!/usr/bin/env bash
# Runs every test, those that compare engines included: ONNX Runtime is fetched unless ORT_DYLIB_PATH names one, and the
# Python packages that read what ldseg writes, unless LDSEG_PYTHON_PATH names their folder. Arguments go to `cargo test`.
# It ends by saying how many tests or parts of tests were skipped, and why. LDSEG_REQUIRE=ort,python,shared,libraries,program,
# or some of these, makes failures of such skips.
set -euo pipefail

cd "$(dirname "$0")/.."
# Without them the tests that need them say that they were skipped.
if [ -z "${ORT_DYLIB_PATH:-}" ] && library=$(scripts/fetch-onnxruntime.sh); then
    export ORT_DYLIB_PATH=$library
fi
if [ -z "${LDSEG_PYTHON_PATH:-}" ] && packages=$(scripts/fetch-python.sh); then
    export LDSEG_PYTHON_PATH=$packages
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The libraries for C and Python, which `cargo test` does not make.
cargo build --release --workspace
# Standard output goes past the log.
exec 3>&1
status=0
cargo test --release --workspace "$@" 2>&1 >&3 3>&- | tee "$log" >&2 || status=$?
exec 3>&-

# A line may follow what the harness has begun to write.
skipped=$(grep -o 'SKIPPED \[[a-z]*\] .*' "$log" || true)
if [ -z "$skipped" ]; then
    echo "nothing was skipped" >&2
else
    echo "skipped, $(wc -l <<<"$skipped") in all:" >&2
    sed 's/SKIPPED \[\([a-z]*\)\] \(.*\)/  \1: \2/' <<<"$skipped" | sort >&2
fi
exit "$status"
