#!/usr/bin/env python3
"""Times `ldseg` with an imported 2-D bundle: seconds of each network and of the whole, and peak memory, as Markdown.

usage: scripts/experiments/reference.py LDSEG BUNDLE PICTURE

LDSEG is the command, BUNDLE what `ldseg-train import-keras` wrote, PICTURE any picture. ONNX Runtime is measured where
ORT_DYLIB_PATH names its library. Linux only: the peak memory is the kernel's own figure for each run of `ldseg segment`.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile

RUNS = 3


def processor():
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def bench(ldseg, bundle, engine, threads):
    command = [ldseg, "bench", "--bundle", bundle, "--engine", engine, "--threads", str(threads)]
    report = json.loads(subprocess.run([*command, "--runs", str(RUNS), "--json"], check=True, capture_output=True).stdout)
    seconds = {stage["name"]: stage["median_seconds"] for stage in report["stages"]}
    return report["steps"], report["load_seconds"], seconds


def peak_memory(ldseg, bundle, picture, engine, threads):
    with tempfile.TemporaryDirectory() as output:
        command = [ldseg, "segment", picture, "--bundle", bundle, "--output", output]
        process = subprocess.Popen(
            [*command, "--engine", engine, "--threads", str(threads)], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"error: {' '.join(command)} failed")
        return usage.ru_maxrss * 1024


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    ldseg, bundle, picture = sys.argv[1:]
    engines = ["tract"] + (["ort"] if os.environ.get("ORT_DYLIB_PATH") else [])
    load = os.getloadavg()[0]
    print(
        f"{processor()}, {os.cpu_count()} cores, {datetime.date.today()}; load average {load:.1f} when it began. "
        f"Seconds, the median of {RUNS} runs; memory of one run of `ldseg segment`.\n"
    )
    print("| engine | threads | load | image encoder | denoiser, a call | label decoder | whole | peak memory |")
    print("|---|---|---|---|---|---|---|---|")
    for engine in engines:
        for threads in (1, 2):
            steps, loading, seconds = bench(ldseg, bundle, engine, threads)
            memory = peak_memory(ldseg, bundle, picture, engine, threads)
            names = ["image_encoder", "denoiser", "label_decoder", "whole_loop"]
            cells = " | ".join(f"{value:.2f}" for value in [loading, *(seconds[name] for name in names)])
            print(f"| {engine} | {threads} | {cells} | {memory / 1e6:.0f} MB |", flush=True)
    print(f"\nThe whole is one image encoder call, {steps} denoiser calls and one label decoder call.")


if __name__ == "__main__":
    main()
