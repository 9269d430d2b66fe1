#!/usr/bin/env python3
"""Inputs that ask for too much, full disks and kills: what they cost `ldseg`, and that no broken file is left behind.

    scripts/hostile.py inputs LDSEG [--before OTHER_LDSEG]    a Markdown table of processor time and peak memory
    scripts/hostile.py disks LDSEG                            20 disks of different sizes (mounts tmpfs: Linux, as root)
    scripts/hostile.py kills LDSEG                            100 times kill -9

It makes all inputs itself, and needs nothing but Python. The exit code is 1 where an input takes more than it may, ends the
command in another way than by an error, or leaves a broken file under a final name.
"""

import argparse
import gzip
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "tests/fixtures/echo"
# What a command may take by default, docs/limits.md: --max-mib and what the command itself needs, and seconds.
MOST_MIB = 4096 + 200
MOST_SECONDS = 10
# Beyond these a command is stopped, so that the machine is not.
STOP_MIB = 6144
STOP_SECONDS = 60


# --- inputs -----------------------------------------------------------------------------------------------------------


def zeros(compressor, count):
    """Compressed zeros, without having them in memory."""
    block = bytes(1 << 20)
    parts = [compressor.compress(block) for _ in range(count >> 20)]
    parts.append(compressor.compress(bytes(count & ((1 << 20) - 1))))
    return b"".join(parts) + compressor.flush()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, data=None):
    data = zeros(zlib.compressobj(), height * (width + 1)) if data is None else data
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def grey_png(width, height, value):
    rows = b"".join(b"\0" + bytes((value(x, y) for x in range(width))) for y in range(height))
    return png(width, height, zlib.compress(rows))


def gif(width, height, frames):
    """Frames of one pixel on a canvas of any size."""
    frame = b"\x21\xf9\x04\x00\x05\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + frame * frames + b"\x3b"


def jpeg(width, height):
    """A grey JPEG whose blocks take two bits each."""

    def segment(marker, data):
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data

    # One code of one bit: a difference of 0, and the end of a block.
    table = bytes([1] + [0] * 15) + b"\0"
    blocks = -(-width // 8) * -(-height // 8)
    scan = bytes(-(-2 * blocks // 8))
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + bytes([1] * 64))
        + segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
        + segment(0xC4, b"\x00" + table)
        + segment(0xC4, b"\x10" + table)
        + segment(0xDA, b"\1\1\0\0\x3f\0")
        + scan
        + b"\xff\xd9"
    )


def avi(width, height, frames):
    def part(name, data):
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    header = part(b"strh", b"vids" + bytes(16) + struct.pack("<II", 1, 25) + bytes(28))
    form = part(b"strf", struct.pack("<IiiHH", 40, width, height, 1, 24) + b"MJPG" + bytes(20))
    hdrl = part(b"LIST", b"hdrl" + part(b"avih", struct.pack("<I", 40000) + bytes(52)) + part(b"LIST", b"strl" + header + form))
    frame = part(b"00dc", jpeg(width, height))
    return part(b"RIFF", b"AVI " + hdrl + part(b"LIST", b"movi" + frame * frames))


def nifti(size, spacing, voxels, datatype=2, offset=352.0):
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    dim = [len(size)] + list(size) + [1] * (7 - len(size))
    struct.pack_into("<8h", head, 40, *dim)
    struct.pack_into("<hh", head, 70, datatype, 8)
    struct.pack_into("<8f", head, 76, 1.0, *([spacing] * 7))
    struct.pack_into("<fff", head, 108, offset, 1.0, 0.0)
    head[123] = 2
    head[344:348] = b"n+1\0"
    return bytes(head) + voxels


def nifti_gz(size, offset=352.0, extra=0):
    compressor = zlib.compressobj(wbits=31)
    head = compressor.compress(nifti(size, 1.0, b"", offset=offset))
    return head + zeros(compressor, math.prod(size) + extra)


def metaimage(size):
    text = f"ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = {size[0]} {size[1]} {size[2]}\n"
    text += "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    return text.encode() + zeros(zlib.compressobj(), size[0] * size[1] * size[2])


def element(group, tag, vr, data):
    data += b"\0" * (len(data) % 2)
    head = struct.pack("<HH", group, tag) + vr
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + b"\0\0" + struct.pack("<I", len(data)) + data
    return head + struct.pack("<H", len(data)) + data


def dicom(data_set, syntax=b"1.2.840.10008.1.2.1"):
    meta = element(2, 0x10, b"UI", syntax)
    meta = element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    return bytes(128) + b"DICM" + meta + data_set


def dicom_image(rows, columns, frames):
    numbers = [(0x10, rows), (0x11, columns), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)]
    return (
        element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.7")
        + element(8, 0x18, b"UI", b"1.2.3")
        + element(0x28, 2, b"US", struct.pack("<H", 1))
        + element(0x28, 4, b"CS", b"MONOCHROME2")
        + element(0x28, 8, b"IS", str(frames).encode())
        + b"".join(element(0x28, tag, b"US", struct.pack("<H", number)) for tag, number in numbers)
    )


def fragments(parts):
    item = b"\xfe\xff\x00\xe0"
    body = b"".join(item + struct.pack("<I", len(part)) + part for part in [b"", *parts])
    return struct.pack("<HH", 0x7FE0, 0x10) + b"OB\0\0\xff\xff\xff\xff" + body + b"\xfe\xff\xdd\xe0\0\0\0\0"


def nested_dicom(depth):
    begin = struct.pack("<HH", 8, 0x1115) + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return dicom(begin * depth + end * depth)


def deflated_dicom(size):
    compressor = zlib.compressobj(wbits=-15)
    head = compressor.compress(dicom_image(512, 512, 1) + struct.pack("<HH", 0x7FE0, 0x10) + b"OB\0\0" + struct.pack("<I", size))
    return dicom(head + zeros(compressor, size), b"1.2.840.10008.1.2.1.99")


def jpeg_dicom(frames, side):
    return dicom(dicom_image(side, side, frames) + fragments([jpeg(side, side)] * frames), b"1.2.840.10008.1.2.4.50")


def tiff(entries, data=b""):
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0" + data


def planar_tiled_tiff():
    at = 8 + 2 + 12 * 11 + 4
    tags = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 1), (262, 3, 2), (277, 3, 3), (284, 3, 2)]
    tags += [(322, 4, 16), (323, 4, 16), (324, 4, at), (325, 4, 256)]
    return tiff(tags, bytes(4096))


def large_tiff():
    at = 8 + 2 + 12 * 8 + 4
    tags = [(256, 4, 60000), (257, 4, 60000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, at), (278, 4, 60000), (279, 4, 16)]
    return tiff(tags, bytes(16))


def bmp():
    return b"BM" + struct.pack("<IHHI", 70, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 40000, 40000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(16)


def inputs():
    """Name, content, and which bundle segments it."""
    big = struct.pack("<HH", 0x7FE0, 0x10) + b"OB\0\0" + struct.pack("<I", 0xF0000000) + bytes(64)
    return [
        ("planar-tiled.tif", "TIFF, each colour in tiles of its own", planar_tiled_tiff),
        ("60000.tif", "TIFF of 60000 x 60000 in a header", large_tiff),
        ("40000.bmp", "BMP of 40000 x 40000 in a header", bmp),
        ("22000.png", "PNG of 22000 x 22000", lambda: png(22000, 22000)),
        ("15000.png", "PNG of 15000 x 15000", lambda: png(15000, 15000)),
        ("canvas.gif", "GIF with a canvas of 65535 x 65535", lambda: gif(65535, 65535, 1)),
        ("1000-frames.gif", "GIF, 1,000 frames of 1600 x 1600", lambda: gif(1600, 1600, 1000)),
        ("200000-frames.gif", "GIF, 200,000 frames of a pixel", lambda: gif(1, 1, 200000)),
        ("1000-frames.avi", "AVI, 1,000 frames of 1600 x 1200", lambda: avi(1600, 1200, 1000)),
        ("500M.nii.gz", "NIfTI of 1000 x 1000 x 500", lambda: nifti_gz([1000, 1000, 500])),
        ("250M.nii.gz", "NIfTI of 500 x 500 x 1000", lambda: nifti_gz([500, 500, 1000])),
        ("offset.nii.gz", "NIfTI whose voxels begin after 2 GB", lambda: nifti_gz([4, 4], 2147000000.0, 2147000000)),
        ("50mm.nii", "NIfTI of 60 x 60 pixels of 50 mm, resampled", lambda: nifti([60, 60], 50.0, bytes(range(240)) * 15)),
        ("500M.mha", "MetaImage of 1000 x 1000 x 500", lambda: metaimage([1000, 1000, 500])),
        ("nested.dcm", "DICOM, 10,000 sequences in one another", lambda: nested_dicom(10000)),
        ("length.dcm", "DICOM, a length of 4 GB", lambda: dicom(dicom_image(64, 64, 1) + big)),
        ("deflated.dcm", "DICOM, deflated, 3 GB", lambda: deflated_dicom(3_000_000_000)),
        ("jpeg.dcm", "DICOM, JPEG, 1,000 frames of 2048 x 2048", lambda: jpeg_dicom(1000, 2048)),
        ("fragments.dcm", "DICOM, 300,000 fragments for 2 frames",
         lambda: dicom(dicom_image(64, 64, 2) + fragments([b"\0\0"] * 300000), b"1.2.840.10008.1.2.5")),
        ("fragments-each.dcm", "DICOM, 1,000 frames of 300 fragments each",
         lambda: dicom(dicom_image(8, 8, 1000) + fragments(([jpeg(8, 8)] + [b"\0\0"] * 299) * 1000), b"1.2.840.10008.1.2.4.50")),
    ]


def peak(pid):
    """Most memory that a process has had so far, MiB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:")), 0)


# --- running ----------------------------------------------------------------------------------------------------------


class Ran:
    def __init__(self, arguments):
        def limits():
            resource.setrlimit(resource.RLIMIT_AS, (STOP_MIB << 20, STOP_MIB << 20))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        start, self.mib = time.monotonic(), 0
        with tempfile.TemporaryFile() as out:
            child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out, preexec_fn=limits)
            deadline = start + STOP_SECONDS
            while True:
                self.mib = max(self.mib, peak(child.pid))
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    os.kill(child.pid, signal.SIGKILL)
                    deadline = float("inf")
                time.sleep(0.002)
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            self.errors = out.read().decode(errors="replace")
        # What it computed, however busy the machine is with other things.
        self.seconds, self.code = usage.ru_utime + usage.ru_stime, child.returncode

    def outcome(self):
        if self.code >= 0:
            return f"exit {self.code}"
        name = signal.Signals(-self.code).name
        return f"stopped after {STOP_SECONDS} s" if name == "SIGKILL" else name

    def message(self):
        lines = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        return lines[0].removeprefix("error: ") if lines else ""

    def cells(self):
        return f"{self.seconds:.1f} s, {self.mib} MiB, {self.outcome()}"

    def is_fine(self):
        return self.seconds <= MOST_SECONDS and self.mib <= MOST_MIB and self.code in (0, 1, 2) and "panicked" not in self.errors


def run_inputs(ldseg, before):
    fine = True
    head = ["input", "its size", "`info`", "`segment`"] + (["`segment` before"] if before else []) + ["what `segment` says"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        resampling = folder / "resampling"
        shutil.copytree(BUNDLE, resampling)
        manifest = (BUNDLE / "manifest.yaml").read_text()
        changed = manifest.replace("spacing: stretch", "spacing:\n  resample: [1.0, 1.0]")
        write_manifest(resampling, changed)

        def row(name, path, what, bundle=BUNDLE, info=True):
            nonlocal fine
            arguments = ["segment", str(path), "--bundle", str(bundle), "--output", str(folder / "out")]
            ran = Ran([ldseg, *arguments])
            told = Ran([ldseg, "info", str(path)]) if info else None
            cells = [what, size(path), told.cells() if told else "", ran.cells()]
            if before:
                cells.append(Ran([before, *arguments]).cells())
            problem = not ran.is_fine() or (told and not told.is_fine()) or (ran.code and not ran.message())
            fine = fine and not problem
            cells.append(ran.message().replace(str(folder) + "/", "").replace("|", "\\|") + (" **too much**" if problem else ""))
            print("| " + " | ".join(cells) + " |", flush=True)

        for name, what, make in inputs():
            path = folder / name
            path.write_bytes(make())
            row(name, path, what, resampling if "resampled" in what else BUNDLE)
            path.unlink()
        os.mkfifo(folder / "pipe.png")
        row("pipe.png", folder / "pipe.png", "a pipe that nobody writes to")
        row("zero", Path("/dev/zero"), "a device without an end")
        bad = folder / "brackets"
        shutil.copytree(BUNDLE, bad)
        write_manifest(bad, "[" * 400_000)
        good = folder / "good.png"
        good.write_bytes(grey_png(40, 30, lambda x, y: x + y))
        row("brackets", good, "a manifest of 400,000 brackets", bad, info=False)
    return fine


def write_manifest(bundle, text):
    """With its hash, as a bundle has it."""
    (bundle / "manifest.yaml").write_text(text)
    (bundle / "manifest.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  manifest.yaml\n")


def size(path):
    if not path.is_file():
        return ""
    length = path.stat().st_size
    return f"{length} B" if length < 10_000 else f"{length // 1000} kB"


# --- full disks and kills ---------------------------------------------------------------------------------------------


def cohort(folder, count):
    folder.mkdir()
    for index in range(count):
        (folder / f"i{index:02}.png").write_bytes(grey_png(64, 48, lambda x, y: (x * 3 + y * 5 + index * 17) % 251))


def broken(output):
    """Files under a final name that are not whole, by readers of our own."""
    found = []
    for path in sorted(output.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            check(path.name, path.read_bytes())
        except Exception as error:
            found.append(f"{path.name}: {error!r}")
    return found


def check(name, data):
    if name.endswith(".png"):
        at, names = 8, []
        assert data[:8] == b"\x89PNG\r\n\x1a\n", "no PNG"
        while at < len(data):
            length, kind = struct.unpack(">I4s", data[at : at + 8])
            body = data[at + 8 : at + 8 + length]
            assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body), "checksum"
            names.append(kind)
            at += 12 + length
        assert names[0] == b"IHDR" and names[-1] == b"IEND", "no end"
    elif name.endswith(".nii.gz"):
        voxels = gzip.decompress(data)
        dim = struct.unpack("<8h", voxels[40:56])
        count = struct.unpack("<h", voxels[72:74])[0] // 8
        for axis in dim[1 : dim[0] + 1]:
            count *= axis
        assert len(voxels) == 352 + count, f"{len(voxels)} bytes, expected {352 + count}"
    elif name.endswith(".json"):
        json.loads(data)
    else:
        raise AssertionError("an unknown output")


def segment(ldseg, images, output, *more):
    return [ldseg, "segment", str(images), "--bundle", str(BUNDLE), "--output", str(output), "--threads", "1", *more]


ASKED = ["--json", "--uncertainty", "--overlay", "--keep-samples"]


def run_disks(ldseg):
    """Disks of 20 sizes, from too small for one file to large enough for all."""
    fine, files, told = True, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        images, disk = Path(folder) / "images", Path(folder) / "disk"
        cohort(images, 12)
        disk.mkdir()
        for step in range(20):
            kib = 8 + 50 * step
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(disk)], check=True)
            try:
                ran = subprocess.run(segment(ldseg, images, disk / "out", *ASKED), capture_output=True, text=True)
                output = disk / "out"
                there = [path for path in output.iterdir()] if output.is_dir() else []
                wrong = broken(output) if output.is_dir() else []
                errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
                complete = len([p for p in there if p.suffix == ".json"]) == 12
                problem = wrong or any(path.name.startswith(".") for path in there) or (ran.returncode == 0) != complete
                problem = problem or (ran.returncode != 0 and not any("No space left" in line for line in errors))
                fine, files, told = fine and not problem, files + len(there), told + len(errors)
                print(f"{kib} KiB: exit {ran.returncode}, {len(there)} files, {len(errors)} errors, broken: {wrong or 'none'}", flush=True)
            finally:
                subprocess.run(["umount", str(disk)], check=True)
    print(f"20 disks: {files} files, {told} errors that name what could not be written")
    return fine


def run_kills(ldseg):
    """Kills in the middle of a cohort, whose outputs are kept from one to the next, as --skip-done has it."""
    fine, files = True, 0
    random.seed(7)
    with tempfile.TemporaryDirectory() as folder:
        images, output = Path(folder) / "images", Path(folder) / "out"
        cohort(images, 12)
        start = time.monotonic()
        subprocess.run(segment(ldseg, images, output, *ASKED), check=True, capture_output=True)
        whole = time.monotonic() - start
        expected = sorted(path.name for path in output.iterdir())
        for kill in range(100):
            if kill % 5 == 0:
                shutil.rmtree(output, ignore_errors=True)
            child = subprocess.Popen(
                segment(ldseg, images, output, *ASKED, "--skip-done"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(random.uniform(0, whole))
            child.kill()
            child.wait()
            there = [path.name for path in output.iterdir() if not path.name.startswith(".")] if output.is_dir() else []
            wrong = broken(output) if output.is_dir() else []
            fine, files = fine and not wrong, files + len(there)
            if wrong:
                print(f"kill {kill}: {wrong}")
        subprocess.run(segment(ldseg, images, output, *ASKED, "--skip-done"), check=True, capture_output=True)
        done = sorted(path.name for path in output.iterdir() if not path.name.startswith("."))
        fine = fine and done == expected and not broken(output)
    print(f"100 kills: {files} files looked at, {'none' if fine else 'SOME'} broken")
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["inputs", "disks", "kills"])
    parser.add_argument("ldseg")
    parser.add_argument("--before", help="another `ldseg` to compare with")
    args = parser.parse_args()
    ldseg = str(Path(args.ldseg).resolve())
    if args.what == "inputs":
        fine = run_inputs(ldseg, args.before)
    else:
        fine = {"disks": run_disks, "kills": run_kills}[args.what](ldseg)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
