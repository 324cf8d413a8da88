#!/usr/bin/env python3
"""What the ARM kernels would do on processors that are not here, as llvm-mca models them: no measurement.

Compiles each instruction set, takes the innermost loop of its main kernels (one group of 32 columns), and
prints its instructions per multiply-accumulate (MAC) and per byte of packed weights, and, per processor, its
MAC per cycle when every load hits the first-level cache.

    tools/setup-arm.sh; apt-get install clang-19 llvm-19; tools/model_arm.py
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILER = ["clang++-19", "--target=aarch64-linux-gnu"]  # as Android and Apple build
FLAGS = ["-std=c++20", "-O3", "-DNDEBUG", "-ffp-contract=off", f"-I{ROOT}/cpp/src", f"-I{ROOT}/cpp/include"]
SETS = {
    "neon": "armv8-a",
    "neon_dotprod": "armv8.2-a+dotprod+fp16",
    "neon_i8mm": "armv8.2-a+dotprod+fp16+i8mm",
}
PROCESSORS = ["cortex-a510", "cortex-a78", "cortex-x2", "neoverse-n2", "neoverse-v2", "apple-m1"]
WITHOUT_I8MM = {"cortex-a78", "apple-m1"}
# What a kernel is for, and its name as objdump demangles it.
KERNELS = [
    ("decode, q4", r"stream_tiles<edgekit::\w+::Q4, 1, 1>"),
    ("prefill, q4", r"multiply_panel<edgekit::\w+::\w+, edgekit::\w+::f32x16, 4, 1>"),
]
# Multiply-accumulates of an instruction.
MACS = {"smlal": 8, "smlal2": 8, "smull": 8, "smull2": 8, "sdot": 16, "smmla": 32}
BYTES_PER_MAC = 17 / 32  # q4_block32: 16 bytes of codes and a scale for 32 weights; what decode reads


def innermost_loop(listing: str, function: str) -> list[str]:
    """The longest loop of `function` that contains no other, without its branch."""
    found = re.search(rf"^[0-9a-f]+ <[^\n]*{function}[^\n]*>:\n(.*?)(?:\n\n|\Z)", listing, re.M | re.S)
    if not found:
        sys.exit(f"no function {function}: its name or its blocking has changed; correct KERNELS")
    lines = [re.match(r"\s*([0-9a-f]+):\s+([^<;/]*)", line) for line in found[1].splitlines()]
    code = [(int(line[1], 16), line[2].strip()) for line in lines if line]
    at = {address: i for i, (address, _) in enumerate(code)}
    loops = []
    for end, (_, text) in enumerate(code):
        branch = re.match(r"(?:b\.\w+|cbn?z \w+,|tbn?z \w+, #\d+,)\s*([0-9a-f]+)", text.replace("\t", " "))
        begin = at.get(int(branch[1], 16)) if branch else None
        if begin is not None and begin < end:
            loops.append((begin, end))
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not inner:
        sys.exit(f"{function} has no loop")
    begin, end = max(inner, key=lambda loop: loop[1] - loop[0])
    return [text for _, text in code[begin:end] if not re.match(r"(b|b\.\w+|cbn?z|tbn?z)\b", text)]


def cycles(loop: list[str], processor: str) -> float:
    """Cycles of one turn, over many."""
    turns = 100
    command = [
        mca(),
        "-mtriple=aarch64",
        f"-mcpu={processor}",
        "-mattr=+dotprod,+i8mm",
        f"-iterations={turns}",
    ]
    done = subprocess.run(command, input="\n".join(loop), capture_output=True, text=True, check=True)
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    assert total
    return int(total[1]) / turns


def compiled(isa: str, march: str, directory: Path) -> Path:
    """The kernels of an instruction set as an object."""
    target = directory / f"{isa}.o"
    source = ROOT / "cpp/src/isa" / f"{isa}.cpp"
    subprocess.run([*COMPILER, *FLAGS, f"-march={march}", "-c", source, "-o", target], check=True)
    return target


def mca() -> str:
    """llvm-mca, the newest there is."""
    for name in ("llvm-mca-19", "llvm-mca"):
        if shutil.which(name):
            return name
    sys.exit("llvm-mca is missing: apt-get install llvm-19")


def main() -> None:
    if not shutil.which(COMPILER[0]):
        sys.exit(f"{COMPILER[0]} is missing: apt-get install clang-19")
    print(f"{'':28}{'instructions':>24}" + "".join(f"{name:>13}" for name in PROCESSORS))
    print(f"{'':28}{'per 1000 MAC':>14}{'per byte':>10}" + f"{'MAC per cycle, modelled':>30}")
    with tempfile.TemporaryDirectory() as directory:
        for isa, march in SETS.items():
            target = compiled(isa, march, Path(directory))
            listing = subprocess.run(
                ["aarch64-linux-gnu-objdump", "-d", "-C", "--no-show-raw-insn", target],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            for purpose, function in KERNELS:
                loop = innermost_loop(listing, function)
                macs = sum(MACS.get(instruction.split()[0], 0) for instruction in loop)
                rates = "".join(
                    f"{'-':>13}"
                    if isa == "neon_i8mm" and name in WITHOUT_I8MM
                    else f"{macs / cycles(loop, name):13.1f}"
                    for name in PROCESSORS
                )
                each = len(loop) / macs
                print(f"{isa:16}{purpose:12}{1000 * each:14.0f}{each / BYTES_PER_MAC:10.2f}{rates}")


if __name__ == "__main__":
    main()
