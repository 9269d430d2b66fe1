#!/usr/bin/env bash
# Fetches ONNX Runtime's shared library into .ldseg/onnxruntime, unless it is there, and prints its path.
#
# It is taken out of the wheel `onnxruntime` on PyPI, which exists for every platform under one name. Nothing is
# installed. This is the build for CPUs; for a GPU, name a library of your own in ORT_DYLIB_PATH.
set -euo pipefail

# The engine takes any from 1.19 on, the oldest that PyPI has as a library. The last release with a wheel for Intel Macs is an older one.
version=1.32.0
if [ "$(uname -sm)" = "Darwin x86_64" ]; then
    version=1.23.2
fi

cd "$(dirname "$0")/.."
folder=$PWD/.ldseg/onnxruntime

fail() {
    printf 'error: %s\nInstead, set ORT_DYLIB_PATH to any libonnxruntime, version 1.19 or newer.\n' "$1" >&2
    exit 1
}

for library in "$folder/libonnxruntime.so.$version" "$folder/libonnxruntime.$version.dylib"; do
    if [ -f "$library" ]; then
        echo "$library"
        exit
    fi
done

python3 -m pip --version >/dev/null 2>&1 || fail "fetching ONNX Runtime needs python3 with pip, which is not there"
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
echo "fetching ONNX Runtime $version" >&2
# Only the library matters, so any Python's wheel does, whatever version runs pip.
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --dest "$staging" "onnxruntime==$version" >&2 ||
    fail "pip could not download ONNX Runtime $version; it may have no wheel for this platform"

python3 - "$staging" "$folder" <<'PYTHON' || fail "the wheel of ONNX Runtime $version could not be unpacked"
import glob, os, re, sys, zipfile

staging, folder = sys.argv[1:]
library = re.compile(r"onnxruntime/capi/libonnxruntime(\.so\.[\d.]+|\.[\d.]+\.dylib)")
with zipfile.ZipFile(glob.glob(os.path.join(staging, "*.whl"))[0]) as wheel:
    [member] = filter(library.fullmatch, wheel.namelist())
    path = os.path.join(folder, os.path.basename(member))
    os.makedirs(folder, exist_ok=True)
    # Under another name first: an interrupted run leaves nothing that looks complete.
    with open(path + ".part", "wb") as part:
        part.write(wheel.read(member))
os.replace(path + ".part", path)
print(path)
PYTHON
