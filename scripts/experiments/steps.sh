#!/usr/bin/env bash
# Dice against sampler and number of steps, as a Markdown table: scripts/experiments/steps.sh BUNDLE IMAGES LABELS CLASSES
#
# IMAGES is a folder or list that `ldseg segment` takes, LABELS holds X_gt.png for each. Scored apart from the product's
# own code by scripts/experiments/score.py, which needs numpy and Pillow. `ldseg` is taken from $LDSEG, else from the path.
set -euo pipefail

if [ $# -ne 4 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
bundle=$1 images=$2 labels=$3 classes=$4
ldseg=${LDSEG:-ldseg}
score=$(dirname "$0")/score.py
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

row() {
    "$ldseg" segment "$images" --bundle "$bundle" --output "$out" --sampler "$1" --steps "$2" >/dev/null 2>&1
    python3 "$score" "$out" "$labels" "$classes" |
        sed -E "s/.*by class \[(.*)\], standard.*mean (.*)/| $1 | $2 | \1 | \2 |/"
    rm -rf "$out"
}

echo "| sampler | steps | Dice by class | mean |"
echo "|---|---|---|---|"
row direct 1
for sampler in ddim dpm++ ddpm; do
    for steps in 1 2 4 6 8 10 20; do
        row "$sampler" "$steps"
    done
done
