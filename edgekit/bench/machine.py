"""What the machine is, what it can do at this moment, and what a process holds of its memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.files import files_of

MOVED = 0.10  # a clock or bandwidth that changed by more makes figures of before and after different things
MEASURED = ("clock_hz", "read_bytes_s", "dot_macs_s")


def native_program() -> str | None:
    """The native driver: $EDGEKIT_BENCH, beside the Python module, in build/native, or on the PATH."""
    if own := os.environ.get("EDGEKIT_BENCH"):
        return own
    package = Path(__file__).resolve().parents[1]
    for path in (package / "runtimes" / "edgekit_bench", package.parent / "build/native/cpp/edgekit_bench"):
        if os.access(path, os.X_OK):
            return str(path)
    return shutil.which("edgekit_bench")


def facts() -> dict[str, Any]:
    """What names this machine: results of two machines are not to be compared."""
    return {
        "kind": "host",
        "name": None,
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "cpus": usable_cpus(),
        "page_bytes": mmap.PAGESIZE,
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.release()}",
    }


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def movements(samples: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """What moved by more than `MOVED` between samples: its name, and (highest - lowest) / lowest."""
    samples = list(samples)
    moved = {}
    for name in MEASURED:
        values = [sample[name] for sample in samples if name in sample]
        if values and max(values) > (1 + MOVED) * min(values):
            moved[name] = max(values) / min(values) - 1
    return moved


# ---- memory ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a process: in files (shared, reclaimable), of its own, and the peak of both."""

    file_bytes: int
    anonymous_bytes: int
    peak_bytes: int


def memory_of(pid: int) -> Memory | None:
    """None where the system has no /proc."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return Memory(*(1024 * kilobytes.get(name, 0) for name in ("RssFile", "RssAnon", "VmHWM")))


def drop_from_cache(path: Path) -> bool:
    """Takes a model's files out of the page cache; whether they left it."""
    files = files_of(path)
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)  # what is not written yet stays
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return all(_cached_share(file) < 0.01 for file in files)


def _cached_share(file: Path) -> float:
    """The part of a file's pages that the page cache holds; 1 where the system does not tell."""
    size = file.stat().st_size
    if size == 0:
        return 0.0
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError):
        return 1.0
    # A private writable mapping has an address ctypes can take; nothing is written.
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
        view = ctypes.c_char.from_buffer(mapped)
        failed = mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), pages)
        del view
    return 1.0 if failed else sum(page & 1 for page in pages) / len(pages)


def temperatures() -> list[float]:
    """Degrees Celsius of the sensors the system shows."""
    return [
        int(text) / 1000
        for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp"))
        if (text := _read(zone)).lstrip("-").isdigit()
    ]


def _cpu_name() -> str:
    """The model's name; on ARM, where Linux has none, the parts' numbers."""
    text = _read(Path("/proc/cpuinfo"))
    for key in ("model name", "CPU part"):
        found: Sequence[str] = sorted(set(re.findall(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)))
        if found:
            return ", ".join(found)
    return platform.processor() or platform.machine()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
