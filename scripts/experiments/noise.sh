#!/usr/bin/env bash
# Does diffusion make the model robust, or does noise in training? scripts/experiments/noise.sh DATA OUTPUT [EPOCHS]
#
# Trains the echo recipe and its deterministic baseline, each with and without noise and speckle, at 128 x 128 on DATA, then
# scores all four on the same corrupted validation images: OUTPUT/scores/robustness.md. What is in OUTPUT already is not
# trained again. `ldseg` and `ldseg-train` are taken from $LDSEG and $LDSEG_TRAIN, else from the path.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
data=$1 output=$2 epochs=${3:-15}
ldseg=${LDSEG:-ldseg} train=${LDSEG_TRAIN:-ldseg-train}
recipes=$(dirname "$0")/../../models/recipes
mkdir -p "$output"

bundles=()
for recipe in echo echo-deterministic; do
    for noise in noise no-noise; do
        name=$recipe-$noise
        settings=(--set 'network.input_size=[128, 128]' --set "training.epochs=$epochs" --set "training.validate_every=$epochs")
        if [ "$noise" = no-noise ]; then
            settings+=(--set augmentation.noise_probability=0 --set augmentation.speckle_probability=0)
        fi
        if [ ! -d "$output/$name" ]; then
            rm -rf "$output/run-$name"
            "$train" fit "$recipes/$recipe.yaml" --data "$data" --output "$output/run-$name" "${settings[@]}"
            "$train" export "$output/run-$name" --output "$output/$name"
        fi
        bundles+=(--bundle "$output/$name")
    done
done

# The validation patients are the same in all four: images to score, taken out of DATA.
images=$output/images
rm -rf "$images"
mkdir "$images"
sed -n '/^validation:/,$s/^- "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$output/run-echo-noise/split.yaml" |
    while read -r patient; do
        cp "$data/$patient"_* "$images"
    done
"$ldseg" robustness "${bundles[@]}" --images "$images" --labels "$images" --output "$output/scores"
