#!/usr/bin/env bash
# Fetches NumPy for python3 into .ldseg/numpy, unless it is there, and prints the folder for Python's path. Nothing is
# installed. Where python3 finds a NumPy of its own, an empty line.
set -euo pipefail

cd "$(dirname "$0")/.."

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is not there"
if python3 -c "import numpy" 2>/dev/null; then
    echo
    exit
fi
# Its compiled parts fit one version of Python.
folder=$PWD/.ldseg/numpy/$(python3 -c 'import sys; print(sys.implementation.cache_tag)')
if [ ! -d "$folder" ]; then
    python3 -m pip --version >/dev/null 2>&1 || fail "fetching NumPy needs python3 with pip, which is not there"
    echo "fetching NumPy" >&2
    mkdir -p "$(dirname "$folder")"
    staging=$(mktemp -d "$folder.XXXXXX")
    trap 'rm -rf "$staging"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --target "$staging" \
        "numpy>=1.23,<3" >&2 || fail "pip could not install NumPy"
    # Under another name first: an interrupted run leaves nothing that looks complete.
    mv "$staging" "$folder"
fi
echo "$folder"
