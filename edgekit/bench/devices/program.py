"""edgekit_bench for another device: one static program, which needs nothing of the system it runs on."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.bench.devices import Progress
from edgekit.errors import UsageError
from edgekit.in_place_of import in_place_of
from edgekit.package import ROOT, apple, build_folder

# An Android ABI -> what zig calls the processor; a static program for Linux runs in Android's shell.
TARGETS = {"arm64-v8a": "aarch64-linux-musl", "x86_64": "x86_64-linux-musl"}
FLAGS = ["-std=c++20", "-O2", "-g0", "-DNDEBUG", "-static", "-s"]


def find(abi: str, progress: Progress) -> Path:
    """The one that EDGEKIT_BENCH_DEVICE names, or one built here, from the sources, by zig; that is kept.
    Raises UsageError (another ABI; no zig), EdgekitError (the build fails).
    """
    if own := os.environ.get("EDGEKIT_BENCH_DEVICE"):
        return Path(own)
    if abi not in TARGETS:
        raise UsageError(f"the device's ABI is {abi}; edgekit has programs for {', '.join(TARGETS)}")
    built = build_folder(f"bench-{abi}") / "edgekit_bench"
    sources = [*apple.core_sources(), ROOT / "cpp" / "bench" / "edgekit_bench.cpp"]
    newest = max(path.stat().st_mtime for path in (ROOT / "cpp").rglob("*") if path.suffix in (".h", ".cpp"))
    if not built.exists() or built.stat().st_mtime < newest:
        zig = apple.find_zig()
        progress("building edgekit_bench, once", 0, 0)
        built.parent.mkdir(parents=True, exist_ok=True)
        includes = [f"-I{ROOT / 'cpp' / folder}" for folder in ("include", "src")]
        command = [*zig, "c++", "-target", TARGETS[abi], *FLAGS, *includes, *map(str, sources)]
        with in_place_of(built) as made:
            apple.run([*command, "-o", str(made)])
    return built
