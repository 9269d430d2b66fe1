#!/usr/bin/env bash
# Fetches what the tests need of Python into .ldseg/python, unless it is there, and prints the folder for Python's path.
# Nothing is installed. NumPy is for the Python interface; pydicom, highdicom, nibabel,
# SimpleITK and onnx read what ldseg writes.
set -euo pipefail

cd "$(dirname "$0")/.."

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is not there"
packages=("numpy>=1.23,<3" "pydicom>=3,<4" "highdicom>=0.25,<1" "nibabel>=5,<6" "SimpleITK>=2.3,<3" "pillow>=10,<14" "onnx>=1.16,<2")
# Compiled parts fit one version of Python, and a folder of another list lacks some of this one.
list=$(cksum <<<"${packages[*]}" | cut -d' ' -f1)
folder=$PWD/.ldseg/python/$(python3 -c 'import sys; print(sys.implementation.cache_tag)')-$list
if [ ! -d "$folder" ]; then
    python3 -m pip --version >/dev/null 2>&1 || fail "fetching Python packages needs python3 with pip, which is not there"
    echo "fetching Python packages" >&2
    mkdir -p "$(dirname "$folder")"
    staging=$(mktemp -d "$folder.XXXXXX")
    trap 'rm -rf "$staging"' EXIT
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --only-binary=:all: --target "$staging" \
        "${packages[@]}" >&2 ||
        fail "pip could not install the packages"
    # Under another name first: an interrupted run leaves nothing that looks complete.
    mv "$staging" "$folder"
fi
echo "$folder"
