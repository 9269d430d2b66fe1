#!/usr/bin/env bash
# The whole way on synthetic echo images: builds, makes a training set, trains briefly, exports a bundle, segments new
# images with tract and leaves overlay pictures to look at. Everything goes to runs/quickstart, replaced on every run.
set -euo pipefail

# Enough to see it work; an epoch sees each training image `repeats` times, augmented anew each time.
patients=24
validation_patients=4
epochs=8
repeats=8
warmup_steps=20
new_patients=4

cd "$(dirname "$0")/.."
out=runs/quickstart

say() {
    printf '\n== %s\n' "$*" >&2
}

say "building (the first time takes a while)"
# The two commands alone: not the interfaces in C and Python, ONNX Runtime and the tests. Cargo names the executables
# itself: their folder depends on CARGO_TARGET_DIR and on the user's configuration.
executables=$(cargo build --release --locked -p ldseg-cli -p ldseg-trainer --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
ldseg=$(grep '/ldseg$' <<<"$executables")
train=$(grep '/ldseg-train$' <<<"$executables")
SECONDS=0

say "making $patients synthetic patients to learn from and $new_patients new ones"
rm -rf "$out"
"$train" phantom echo --count "$patients" --seed 1 --output "$out/data"
"$train" phantom echo --count "$new_patients" --seed 2 --output "$out/new"

say "training"
"$train" fit models/recipes/echo.yaml --data "$out/data" --output "$out/run" \
    --set name=quickstart --set validation="$validation_patients" \
    --set training.epochs="$epochs" --set training.repeats="$repeats" --set training.warmup_steps="$warmup_steps" \
    --set data.source="Synthetic echo images, ldseg-train phantom echo" --set data.licence="none" \
    --set data.intended_use="Trying the software out, on synthetic images only"

say "exporting the bundle"
"$train" export "$out/run" --output "$out/bundle"

say "segmenting the new patients"
# Only the images: the label maps beside them are called *_gt.png.
"$ldseg" segment "$out"/new/*_E[DS].png --bundle "$out/bundle" --output "$out/segmentations" --engine tract \
    --overlay --uncertainty --json >"$out/segmentations.json"

say "done in $((SECONDS / 60)) min $((SECONDS % 60)) s, building aside; look at"
printf '%s\n' "$PWD/$out"/segmentations/*_overlay.png
