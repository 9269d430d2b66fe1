#!/usr/bin/env bash
# Fetches a real apical four-chamber clip into .ldseg/clips, unless it is there, and prints its path.
#
# It is `examples_ybr_color.dcm` of pydicom's test data (MIT licence), taken out of the wheel `pydicom` on PyPI: 30
# frames of a SonoSite device, JPEG baseline. Nothing is installed.
set -euo pipefail

version=3.0.1

cd "$(dirname "$0")/.."
clip=$PWD/.ldseg/clips/a4c.dcm

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

if [ -f "$clip" ]; then
    echo "$clip"
    exit
fi
python3 -m pip --version >/dev/null 2>&1 || fail "fetching the clip needs python3 with pip, which is not there"
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
echo "fetching the test data of pydicom $version" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$staging" \
    "pydicom==$version" >&2 || fail "pip could not download pydicom $version"
mkdir -p "$(dirname "$clip")"
python3 - "$staging"/pydicom-*.whl "$clip" <<'PYTHON' || fail "the wheel of pydicom $version does not hold the clip"
import os, sys, zipfile

wheel, clip = sys.argv[1:]
with zipfile.ZipFile(wheel) as wheel, open(clip + ".part", "wb") as part:
    part.write(wheel.read("pydicom/data/test_files/examples_ybr_color.dcm"))
# An interrupted run leaves nothing that looks complete.
os.replace(clip + ".part", clip)
PYTHON
echo "$clip"
