#!/usr/bin/env bash
# Many frames through `ldseg stream`, and whether its memory stays flat: scripts/experiments/endurance.sh BUNDLE [FRAMES]
#
# Prints the resident memory after a tenth of the frames and after all. `ldseg` is taken from $LDSEG, else from the path;
# further arguments come from $LDSEG_ARGUMENTS, e.g. "--engine ort". Needs python3, and Linux for the memory.
set -euo pipefail

if [ $# -lt 1 ]; then
    sed -n '2,6s/^# //p' "$0" >&2
    exit 2
fi
bundle=$1 frames=${2:-10000}
export LDSEG_BUNDLE=$bundle LDSEG_FRAMES=$frames

python3 - <<'PYTHON'
import json, os, random, shlex, subprocess, sys, threading

bundle, frames = os.environ["LDSEG_BUNDLE"], int(os.environ["LDSEG_FRAMES"])
arguments = shlex.split(os.environ.get("LDSEG_ARGUMENTS", ""))
size = 224
command = [os.environ.get("LDSEG", "ldseg"), "stream", "--bundle", bundle, "--size", f"{size}x{size}"]
process = subprocess.Popen(
    command + ["--when-full", "wait"] + arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
noise = [random.Random(seed).randbytes(size * size) for seed in range(16)]


def feed():
    for frame in range(frames):
        process.stdin.write(noise[frame % len(noise)])
    process.stdin.close()


def resident_kib():
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


threading.Thread(target=feed, daemon=True).start()
early = late = 0
for answered, line in enumerate(process.stdout, 1):
    if answered == max(frames // 10, 1):
        early = resident_kib()
    # The last answer but a few: the process still runs then.
    if answered == max(frames - 4, 1):
        late = resident_kib()
end = json.loads(line)["end"]
if process.wait() != 0 or end["answered"] != frames:
    sys.exit(f"{end}")
change = 100 * (late - early) / early
print(f"{frames} frames: {early / 1024:.1f} MiB after a tenth, {late / 1024:.1f} MiB at the end, {change:+.2f} %")
PYTHON
