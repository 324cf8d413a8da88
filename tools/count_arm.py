#!/usr/bin/env python3
"""Instructions that the ARM kernels execute, whole calls and not just their inner loops, counted by qemu: per
1000 multiply-accumulates (MAC), and per byte of packed weights or of keys and values. No measurement of time.

    tools/setup-arm.sh; apt-get install clang-19 qemu-user; tools/count_arm.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from model_arm import COMPILER, FLAGS, ROOT, SETS, compiled

LAYOUTS = ("q3_block32", "q4_block32", "q4_affine32", "q5_block32", "q6_block32", "q8_block32")
# What is called, of how many rows or queries, and what it is for.
CALLS = [
    *((layout, rows, f"{layout}, {rows} row{'s' * (rows > 1)}") for rows in (1, 128) for layout in LAYOUTS),
    ("attend", 4, "attention over int8, 4 queries"),
    ("attend", 128, "attention over int8, 128 queries"),
]
TIMES = (1, 3)


def run(*command: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **options})


def build(directory: Path) -> tuple[Path, Path]:
    """The program, for ARM, and the plugin."""
    sets = {"scalar": "armv8-a", **SETS}
    objects = [compiled(isa, march, directory) for isa, march in sets.items()]
    have = [f"-DEDGEKIT_HAVE_{isa.upper()}" for isa in sets]
    program, plugin = directory / "kernels_repeat", directory / "plugin.so"
    sources = [ROOT / "cpp/src/kernels/dispatch.cpp", ROOT / "cpp/bench/kernels_repeat.cpp"]
    run(*COMPILER, *FLAGS, *have, "-static", *sources, *objects, "-o", program)
    run("cc", "-O2", "-shared", "-fPIC", ROOT / "tools/qemu_instructions.c", "-o", plugin)
    return program, plugin


def executed(program: Path, plugin: Path, isa: str, call: str, rows: int) -> tuple[float, int, int]:
    """Instructions, MAC and bytes of one call: what more calls add."""
    counts = []
    for times in TIMES:
        done = run(
            "qemu-aarch64", "-cpu", "max", "-plugin", plugin, program, isa, call, str(rows), str(times)
        )
        found = re.search(r"instructions: (\d+)", done.stderr)
        assert found, done.stderr
        counts.append(int(found[1]))
    macs, size = map(int, done.stdout.split())
    return (counts[1] - counts[0]) / (TIMES[1] - TIMES[0]), macs, size


def main() -> None:
    for needed, package in ((COMPILER[0], "clang-19"), ("qemu-aarch64", "qemu-user")):
        if not shutil.which(needed):
            sys.exit(f"{needed} is missing: apt-get install {package}")
    print(f"{'instructions':46}" + "".join(f"{isa:>22}" for isa in SETS))
    print(f"{'':46}" + f"{'per 1000 MAC':>14}{'a byte':>8}" * len(SETS))
    with tempfile.TemporaryDirectory() as directory:
        program, plugin = build(Path(directory))
        for call, rows, purpose in CALLS:
            line = f"{purpose:46}"
            for isa in SETS:
                count, macs, size = executed(program, plugin, isa, call, rows)
                line += f"{1000 * count / macs:14.0f}{count / size:8.2f}"
            print(line)


if __name__ == "__main__":
    main()
