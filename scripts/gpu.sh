#!/usr/bin/env bash
# What there is to find out on a machine with a GPU, in parts; one table at the end. docs/gpu.md says what to bring.
#
#     scripts/gpu.sh [train] [engines] [bench] [quality] [OPTION ...]
#
#   train     the first losses on the device against the CPU's; samples a second beside PyTorch, in turns
#   engines   `ldseg verify`, and the labels of an example against ONNX Runtime's on the CPU
#   bench     `ldseg bench`
#   quality   a training run in the background, which goes on after this script; every later call copies it out
#
#   --bin DIR           where ldseg and ldseg-train are                                    [target/release]
#   --ort-library FILE  ONNX Runtime, for engines and bench                                [$ORT_DYLIB_PATH]
#   --device cuda|cpu   cpu rehearses                                                      [cuda]
#   --small             tiny networks, few steps: a rehearsal that takes seconds
#   --recipes A,B       of models/recipes, for train                                       [echo,glas,knee]
#   --batches N,M       for train                                                          [8,32,128]
#   --rounds N          of timing in train                                                 [1]
#   --limit SECONDS     for each part: what is not done by then is left out                [540]
#   --work DIR          for data, runs and logs, kept from call to call                    [runs/gpu]
#   --output DIR        for table.md, logs.tar.gz and quality.tar.gz.00, ...               [WORK/results]
#   --data DIR          labelled images, for quality                                       [phantoms]
#   --recipe FILE       for quality                                                        [models/recipes/echo.yaml]
#   --set KEY=VALUE     changes that recipe; may be repeated
#   --minutes N         that quality trains                                                [20]
#   --wait SECONDS      that a call waits for quality to end before it copies out          [0]
#
# Needs python3; PyTorch and PyYAML for the comparison, which is left out without. Exits with 1 where something failed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
caller=$PWD

help() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }
usage() {
    help >&2
    exit 2
}

parts=() bin=$root/target/release ort=${ORT_DYLIB_PATH:-} device=cuda small= recipes= batches= rounds=1 limit=540
work=$root/runs/gpu output= data= recipe=$root/models/recipes/echo.yaml settings=() minutes=20 wait=0
while [ $# -gt 0 ]; do
    case $1 in
        train | engines | bench | quality) parts+=("$1") ;;
        --small) small=yes ;;
        --help | -h) help && exit ;;
        --bin | --ort-library | --device | --recipes | --batches | --rounds | --limit | --work | --output | \
            --data | --recipe | --set | --minutes | --wait)
            [ $# -ge 2 ] || usage
            case $1 in
                --bin) bin=$2 ;; --ort-library) ort=$2 ;; --device) device=$2 ;; --recipes) recipes=$2 ;;
                --batches) batches=$2 ;; --rounds) rounds=$2 ;; --limit) limit=$2 ;; --work) work=$2 ;;
                --output) output=$2 ;; --data) data=$2 ;; --recipe) recipe=$2 ;; --set) settings+=(--set "$2") ;;
                --minutes) minutes=$2 ;; --wait) wait=$2 ;;
            esac
            shift
            ;;
        *) usage ;;
    esac
    shift
done
[ ${#parts[@]} -gt 0 ] || parts=(train engines bench quality)
[ "$device" = cuda ] || [ "$device" = cpu ] || usage
python=${PYTHON:-python3}
cd "$root"
absolute() { case $1 in /*) echo "$1" ;; *) echo "$caller/$1" ;; esac; }
bin=$(absolute "$bin") work=$(absolute "$work") recipe=$(absolute "$recipe")
output=$(absolute "${output:-$work/results}")
[ -z "$ort" ] || ort=$(absolute "$ort")
[ -z "$data" ] || data=$(absolute "$data")
mkdir -p "$work/logs" "$output"
rows=$work/rows.tsv
: >"$rows"

# Sizes. Small networks are those of the tests.
if [ -n "$small" ]; then
    recipes=${recipes:-echo} batches=${batches:-4} first_steps=6 timed_steps=9 peer_steps=3 runs=5
    tiny=(network.input_size="[64, 64]" network.downsampling=8 network.stem=2 network.widths="[8, 8, 16]"
        network.label_widths="[8, 8, 8]" network.context_widths="[8]" network.denoiser_widths="[8, 16]"
        network.denoiser_blocks=1 network.denoiser_attention="[false, true]" network.embedding_channels=8)
else
    recipes=${recipes:-echo,glas,knee} batches=${batches:-8,32,128} first_steps=20 timed_steps=160 peer_steps=50 runs=200
    tiny=()
fi
changes=()
for change in "${tiny[@]}"; do changes+=(--set "$change"); done

note() { printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$@" >>"$rows"; }
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }
count=0
# limited SECONDS COMMAND...: within what is left of the part, its output in a log. Sets $log.
limited() {
    local most=$1 left=$((deadline - SECONDS)) status=0
    shift
    count=$((count + 1))
    log=$work/logs/$(printf '%02d' $count)-$part.log
    [ "$left" -ge 5 ] || { echo "no time left" >"$log" && return 125; }
    [ "$most" -le "$left" ] || most=$left
    printf '+ %s\n' "$*" >"$log"
    timeout --kill-after=10 "$most" "$@" >"$log.out" 2>>"$log" || status=$?
    cat "$log.out" >>"$log"
    [ "$status" != 124 ] || echo "ended after $most s" >>"$log"
    return "$status"
}
# What a command's log says of its failure: the first error, or, of a panic, the line below; else the last line.
last_words() {
    local words
    words=$(grep -E -m1 -A1 '^error|panicked at|^[A-Za-z.]*Error' "$1" | sed '/panicked at/d' | head -n 1)
    [ -n "$words" ] || words=$(tail -n 1 "$1")
    tr '\t' ' ' <<<"$words" | cut -c1-600
}
# failed WHAT DEVICE: a line with what the log says.
failed() {
    local words
    words=$(last_words "$log")
    say "$part: $1: $words"
    note "$part" "$1" "$2" "$words" "" "$([ "$words" = "no time left" ] && echo "left out" || echo FAILED)"
}
# read_rows WHAT FILE...: lines of the table, out of what a command wrote.
read_rows() {
    local lines
    if lines=$("$python" "$here/gpu_rows.py" "$@" 2>>"$log"); then
        printf '%s\n' "$lines" >>"$rows"
    else
        note "$part" "$1" "$device" "gpu_rows.py $*: $(tail -n 1 "$log" | tr '\t' ' ')" "" FAILED
    fi
}

kind_of() { case $1 in glas) echo glands ;; knee) echo knee ;; *) echo echo ;; esac; }
# phantoms KIND PATIENTS: made once.
phantoms() {
    local folder=$work/phantoms/$1
    if [ ! -d "$folder" ]; then
        limited 120 "$bin/ldseg-train" phantom "$1" --count "$2" --seed 1 --output "$folder.part" || return
        mv "$folder.part" "$folder"
    fi
}
# fit DEVICE RECIPE RUN STEPS BATCH SECONDS [OPTION...]: one epoch of at least STEPS steps, traced.
fit() {
    local on=$1 name=$2 run=$3 steps=$4 batch=$5 seconds=$6
    shift 6
    local kind samples
    kind=$(kind_of "$name")
    samples=$((patients - 1))
    [ "$kind" != echo ] || samples=$((2 * samples))
    rm -rf "$run"
    mkdir -p "$(dirname "$run")"
    limited "$seconds" "$bin/ldseg-train" fit "models/recipes/$name.yaml" --data "$work/phantoms/$kind" --output "$run" \
        --device "$on" --trace-steps "$run.csv" "${changes[@]}" --set validation=1 --set training.epochs=1 \
        --set "training.batch_size=$batch" --set "training.repeats=$(((steps * batch + samples - 1) / samples))" "$@"
}

train() {
    local name batch round torch=yes
    if ! "$python" -c "import torch, yaml" 2>/dev/null; then
        torch=
        note train "samples/s of PyTorch" "$device" "$python has no torch or no yaml" "" "left out"
    fi
    patients=9
    for name in ${recipes//,/ }; do
        phantoms "$(kind_of "$name")" "$patients" || { failed "$name: phantoms" ""; continue; }
        batch=$([ "$name" = knee ] && echo 2 || echo 8)
        # Weights to start from: random numbers are others on every device.
        say "train: $name, first $first_steps losses"
        if ! fit cpu "$name" "$work/train/$name-start" 1 "$batch" 120; then
            failed "$name: weights to start from" cpu
            continue
        fi
        local from=(--set "training.start_from=$work/train/$name-start")
        if ! fit cpu "$name" "$work/train/$name-reference" "$first_steps" "$batch" 240 "${from[@]}"; then
            failed "$name: first losses" cpu
        elif ! fit "$device" "$name" "$work/train/$name-device" "$first_steps" "$batch" 240 "${from[@]}"; then
            failed "$name: first losses" "$device"
        else
            read_rows losses "$name" "$device" "$work/train/$name-reference.csv" "$work/train/$name-device.csv" "$first_steps"
        fi
    done
    for name in ${recipes//,/ }; do
        for batch in ${batches//,/ }; do
            for round in $(seq "$rounds"); do
                say "train: $name, batch $batch, round $round"
                local run=$work/train/$name-$batch-$round
                if fit "$device" "$name" "$run" "$timed_steps" "$batch" 90; then
                    read_rows rate "$name" "$device" "$run.csv" "$batch" "$log"
                elif [ -e "$run.csv" ] && grep -q '^ended after' "$log" && [ "$(wc -l <"$run.csv")" -gt 48 ]; then
                    # What it had done by its limit counts.
                    read_rows rate "$name" "$device" "$run.csv" "$batch" "$log"
                else
                    failed "$name, batch $batch: samples/s" "$device"
                fi
                [ -n "$torch" ] || continue
                # torch.compile takes its time: for the middle batch, once.
                local compile=
                [ -n "$small" ] || [ "$round" != 1 ] || [ "$batch" != 32 ] || compile=32
                if limited 200 "$python" "$here/gpu_peer.py" "models/recipes/$name.yaml" --device "$device" \
                    --batches "$batch" --steps "$peer_steps" --warm-up 10 --compile "$compile" --json "$run.json" \
                    "${changes[@]}"; then
                    read_rows peer "$run.json"
                else
                    failed "$name, batch $batch: samples/s of PyTorch" "$device"
                fi
            done
        done
    done
}

# What engines and bench run on, as ENGINE:DEVICE: sets $targets.
find_targets() {
    targets=(tract:cpu)
    if [ -z "$ort" ]; then
        note "$part" "ONNX Runtime" "" "neither --ort-library nor ORT_DYLIB_PATH" "" "left out"
        return
    fi
    targets=(ort:cpu tract:cpu)
    [ "$device" = cuda ] || return 0
    targets+=(ort:cuda)
    if find_library libnvinfer.so.10 && find_library libnvonnxparser.so.10; then
        targets+=(ort:tensorrt)
    else
        note "$part" "TensorRT" "ort tensorrt" "libnvinfer.so.10 and libnvonnxparser.so.10 are not there" "" "left out"
    fi
}
find_library() {
    local folder
    ldconfig -p 2>/dev/null | grep "$1" >/dev/null && return
    for folder in ${LD_LIBRARY_PATH//:/ }; do [ ! -e "$folder/$1" ] || return 0; done
    return 1
}
engine_options() {
    engine=(--engine "${1%:*}" --device "${1#*:}")
    [ "${1%:*}" != ort ] || engine+=(--ort-library "$ort")
}

engines() {
    local bundle target targets engine out
    find_targets
    for target in "${targets[@]}"; do
        engine_options "$target"
        for bundle in echo glas; do
            say "engines: $bundle on $target"
            # It exits with 1 where a check fails, which is in the report.
            if limited 240 "$bin/ldseg" verify --bundle "models/$bundle" "${engine[@]}" --json || [ -s "$log.out" ]; then
                read_rows verify "$log.out"
            else
                failed "$bundle: verify" "${target/:/ }"
            fi
        done
        # The first target, ONNX Runtime on the CPU, is what the others are compared with.
        out=$work/labels/${target/:/-}
        rm -rf "$out"
        if ! limited 240 "$bin/ldseg" segment models/examples/echo-phantom.gif --bundle models/echo --output "$out" \
            "${engine[@]}"; then
            failed "echo: labels" "${target/:/ }"
        elif [ "$target" != "${targets[0]}" ]; then
            read_rows labels echo "${target/:/ }" "$work/labels/${targets[0]/:/-}/echo-phantom.nii.gz" \
                "$out/echo-phantom.nii.gz"
        fi
    done
}

bench() {
    local bundle target targets engine most
    find_targets
    for bundle in echo glas; do
        for target in "${targets[@]}"; do
            engine_options "$target"
            say "bench: $bundle on $target"
            # The goal for a GPU: the whole loop below 1 ms.
            most=$(case $target in ort:cuda | ort:tensorrt) echo 1 ;; esac)
            if limited 240 "$bin/ldseg" bench --bundle "models/$bundle" "${engine[@]}" --runs "$runs" --json; then
                read_rows bench "$log.out" "$most"
            else
                failed "$bundle: bench" "${target/:/ }"
            fi
        done
    done
}

quality_run=$work/quality/run quality_log=$work/quality/log.txt quality_pid=$work/quality/pid
quality_is_on() { [ -s "$quality_pid" ] && kill -0 "$(cat "$quality_pid")" 2>/dev/null; }
quality() {
    if quality_is_on; then return; fi
    local images=$data more=() resume=()
    if [ -s "$quality_run/recipe.yaml" ]; then resume=(--resume); fi
    mkdir -p "$work/quality"
    if [ -n "$small" ]; then
        minutes=1
        more=("${changes[@]}" --set training.epochs=2 --set training.batch_size=4 --set validation=1)
    fi
    if [ -z "$images" ]; then
        phantoms echo 9 || { failed "phantoms" ""; return; }
        images=$work/phantoms/echo
        note quality "data" "" "phantoms, as there is no --data" "" ""
    fi
    # Of its own session, so that it outlives this script; its time is limited all the same. SIGINT makes it save and end.
    setsid timeout --signal=INT --kill-after=60 "$((60 * minutes))" "$bin/ldseg-train" fit "$recipe" --data "$images" \
        --output "$quality_run" "${resume[@]}" --device "$device" "${more[@]}" "${settings[@]}" \
        >>"$quality_log" 2>&1 </dev/null &
    echo $! >"$quality_pid"
    sleep 2
}
# Copies the run out in pieces of 15 MiB: its last checkpoint, and the best without the optimiser's state.
copy_quality() {
    local deadline=$((SECONDS + wait)) last best
    [ -e "$quality_log" ] || return 0
    while quality_is_on && [ "$SECONDS" -lt "$deadline" ]; do sleep 1; done
    if quality_is_on; then
        note quality "training" "$device" "goes on" "" ""
    elif grep -q -E '^error|panicked at' "$quality_log"; then
        note quality "training" "$device" "$(last_words "$quality_log")" "" FAILED
    else
        note quality "training" "$device" "$(tail -n 1 "$quality_log")" "" ""
    fi
    cp "$quality_log" "$work/logs/quality.log"
    rm -f "$output"/quality.tar.gz.*
    [ ! -e "$quality_run/metrics.csv" ] || read_rows quality "$quality_run"
    [ -e "$quality_run/checkpoints/last" ] || return 0
    # A checkpoint may be replaced meanwhile: then once more.
    for _ in 1 2 3; do
        last=checkpoints/$(cut -d " " -f 1 "$quality_run/checkpoints/last")
        best=checkpoints/$(cut -d " " -f 1 "$quality_run/checkpoints/best" 2>/dev/null || basename "$last")
        if (cd "$quality_run" && tar -czf "$work/quality.tar.gz" recipe.yaml split.yaml cases.yaml metrics.csv tensorboard \
            checkpoints/last $([ ! -e checkpoints/best ] || echo checkpoints/best) "$last" \
            $([ "$best" = "$last" ] || echo "$best")) 2>/dev/null; then
            split -b 15M -d "$work/quality.tar.gz" "$output/quality.tar.gz."
            return
        fi
    done
    note quality "checkpoints" "" "could not be copied" "" FAILED
}

if [ "$device" = cuda ]; then
    libraries=$("$python" "$here/gpu_rows.py" cuda_libraries)
    LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:}
    # burn's compiler takes libdevice from the toolkit.
    if [ -z "${CUDA_PATH:-}" ] && [ ! -d /usr/local/cuda/nvvm ] && nvcc=$(command -v nvcc); then
        CUDA_PATH=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
        export CUDA_PATH
    fi
    card=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || card="no nvidia-smi"
else
    card="a rehearsal on the CPU${small:+, small}"
fi
for part in "${parts[@]}"; do
    for tool in $(case $part in train | quality) echo ldseg-train ;; *) echo ldseg ;; esac); do
        [ -x "$bin/$tool" ] || { echo "error: $bin/$tool is not there; name its folder with --bin" >&2 && exit 2; }
    done
done
for part in "${parts[@]}"; do
    deadline=$((SECONDS + limit)) before=$SECONDS log=$work/logs/none
    say "$part"
    "$part"
    note "$part" "time, s" "" "$((SECONDS - before))" "" ""
done
part=quality log=$work/logs/quality-copy.log
copy_quality
"$python" "$here/gpu_rows.py" table "$rows" "$card, $(nproc) cores, $(date -u +%Y-%m-%d)" | tee "$output/table.md"
mkdir -p "$work/train"
(cd "$work" && find logs rows.tsv train -maxdepth 1 -type f ! -name '*.out' -print0 |
    tar --null -czf "$output/logs.tar.gz" -T -)
! cut -f6 "$rows" | grep -qx FAILED
