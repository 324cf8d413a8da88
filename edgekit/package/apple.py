"""A Swift package around a prebuilt core: CEdgeKit.xcframework, the Swift sources, the model.

    Package.swift                 module EdgeKit; Xcode takes the folder as a local package
    CEdgeKit.xcframework          the engine as static libraries: iOS, macOS, visionOS and simulators, arm64;
                                  the simulator of iOS for x86-64 too
    Sources/EdgeKit, Sources/CEdgeKitCompanion
    NAME.edge, README.md

The core is cross-compiled by zig (`pip install ziglang`), which brings Apple's C headers and runs on any
system, from the sources that the repository's Package.swift builds: none needs flags of its own.
"""

from __future__ import annotations

import importlib.util
import os
import plistlib
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import EdgekitError, UsageError
from edgekit.package import ROOT, Report, sources


@dataclass(frozen=True)
class Slice:
    """One library of an xcframework, for one platform."""

    platform: str
    number: int  # of the platform, in mach-o/loader.h
    oldest: tuple[int, int]  # system it runs on
    architectures: tuple[str, ...] = ("arm64",)
    variant: str | None = None

    @property
    def identifier(self) -> str:
        """Its folder, as Xcode names them."""
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.platform}-{'_'.join(self.architectures)}{variant}"


SLICES = (
    Slice("ios", 2, (16, 3)),
    Slice("ios", 7, (16, 3), ("arm64", "x86_64"), "simulator"),
    Slice("macos", 1, (13, 3)),
    Slice("xros", 11, (1, 0)),
    Slice("xros", 12, (1, 0), variant="simulator"),
)
# How the objects of an architecture are compiled: once. Apple's systems have one C library and one calling
# convention on it, so that a slice differs from the others of its architecture by its load command alone.
TARGETS = {"arm64": "aarch64-ios.16.3", "x86_64": "x86_64-ios.16.3-simulator"}
PROCESSORS = {"arm64": (0x0100000C, 0), "x86_64": (0x01000007, 3)}  # of mach/machine.h, with the subtype
# zig's C headers are those of macOS, which on x86-64 has second names for some functions; iOS has them not.
SIMULATOR = """\
#include <sys/cdefs.h>
#undef __DARWIN_SUF_64_BIT_INO_T
#define __DARWIN_SUF_64_BIT_INO_T
#undef __DARWIN_SUF_1050
#define __DARWIN_SUF_1050
"""
FLAGS = ["-std=c++20", "-O2", "-g0", "-DNDEBUG", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
# The C++ library is the system's, older than zig's headers: these are to use what the oldest system has, and
# to refuse the rest. (std::to_chars of a double sets those versions.)
FLAGS += [f"{flag}_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS" for flag in ("-U", "-D")]
LIBRARY = "libCEdgeKit.a"
LC_BUILD_VERSION = 0x32  # of mach-o/loader.h


def package(model: Path | None, out: Path, report: Report) -> list[Path]:
    """Fills `out`. Raises UsageError (zig or the sources are missing), EdgekitError (the build fails)."""
    swift = sources("apple")
    zig = find_zig()
    framework = out / "CEdgeKit.xcframework"
    with tempfile.TemporaryDirectory() as work:
        objects = {name: compile_core(zig, name, Path(work) / name, report) for name in TARGETS}
        for one in SLICES:
            archive(zig, one, objects, framework / one.identifier)
    (framework / "Info.plist").write_bytes(plistlib.dumps(info()))
    for source, name in (("EdgeKit", "EdgeKit"), ("Companion", "CEdgeKitCompanion")):
        shutil.copytree(swift / source, out / "Sources" / name)
    shutil.copyfile(swift / "Package.binary.swift", out / "Package.swift")
    if model is not None:
        shutil.copyfile(model, out / model.name)
    (out / "README.md").write_text(readme(model, out))
    return [path for path in out.rglob("*") if path.is_file()]


def find_zig() -> list[str]:
    """The command that runs zig. Raises UsageError."""
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang"]
    if (zig := shutil.which("zig")) is not None:
        return [zig]
    raise UsageError("the Apple libraries are compiled by zig, which is not here", hint="pip install ziglang")


def core_sources() -> list[Path]:
    """The core without its files that need flags, and what stands for them: cpp/swiftpm. No WebGPU."""
    core = ROOT / "cpp" / "src"
    elsewhere = [*(core / "isa").glob("*.cpp"), *(core / "gpu").glob("*.cpp")]
    left_out = {core / "kernels" / "dispatch.cpp", *elsewhere}
    return sorted({*core.rglob("*.cpp")} - left_out) + sorted((ROOT / "cpp" / "swiftpm").glob("*.cpp"))


def compile_core(zig: list[str], architecture: str, folder: Path, report: Report) -> list[Path]:
    """The objects of the core, in `folder`."""
    folder.mkdir()
    cpp = ROOT / "cpp"
    system = Path(zig_lib(zig)) / "libc" / "include" / "any-darwin-any"
    flags = [
        "-target",
        TARGETS[architecture],
        *FLAGS,
        "-isystem",
        str(system),
        f"-I{cpp / 'include'}",
        f"-I{cpp / 'src'}",
    ]

    if architecture == "x86_64":
        header = folder / "simulator.h"
        header.write_text(SIMULATOR)
        flags += ["-include", str(header)]

    def compile_one(source: Path) -> Path:
        made = folder / "_".join(source.relative_to(cpp).with_suffix(".o").parts)
        run([*zig, "c++", *flags, "-c", str(source), "-o", str(made)])
        return made

    todo, made = core_sources(), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in pool.map(compile_one, todo):
            made.append(path)
            report(f"compiling the core for {architecture}", len(made), len(todo))
    return made


def archive(zig: list[str], one: Slice, objects: dict[str, list[Path]], folder: Path) -> None:
    """Headers and static library of one slice, in `folder`."""
    ignored = shutil.ignore_patterns("*.hpp")
    shutil.copytree(ROOT / "cpp" / "include", folder / "Headers", ignore=ignored)
    libraries = []
    with tempfile.TemporaryDirectory() as work:
        for architecture in one.architectures:
            place = Path(work) / architecture
            place.mkdir()
            for path in objects[architecture]:
                (place / path.name).write_bytes(marked(path.read_bytes(), one))
            library = place / LIBRARY
            run([*zig, "ar", "--format=darwin", "rcsD", str(library), *map(str, sorted(place.glob("*.o")))])
            libraries.append(library.read_bytes())
    (folder / LIBRARY).write_bytes(libraries[0] if len(libraries) == 1 else fat(libraries, one.architectures))


def marked(data: bytes, one: Slice) -> bytes:
    """A Mach-O object, marked as one for the slice's platform, as `vtool` does: the code is the same."""
    changed = bytearray(data)
    n_commands, at = struct.unpack_from("<I", data, 16)[0], 32
    for _ in range(n_commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == LC_BUILD_VERSION:
            major, minor = one.oldest
            struct.pack_into("<II", changed, at + 8, one.number, major << 16 | minor << 8)
        at += size
    return bytes(changed)


def fat(libraries: list[bytes], architectures: tuple[str, ...]) -> bytes:
    """One file with a library for each architecture, as `lipo` makes it."""
    alignment = 14  # pages of 16 KiB
    header = struct.pack(">II", 0xCAFEBABE, len(libraries))
    body = b""
    for library, architecture in zip(libraries, architectures, strict=True):
        body += bytes(-len(body) % (1 << alignment))
        header += struct.pack(
            ">IIIII", *PROCESSORS[architecture], len(body) + (1 << alignment), len(library), alignment
        )
        body += library
    return header.ljust(1 << alignment, b"\0") + body


def zig_lib(zig: list[str]) -> str:
    """zig's own library folder."""
    env = run([*zig, "env"])
    line = next(line for line in env.splitlines() if "lib_dir" in line)
    return line.split('"')[-2]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise EdgekitError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def info() -> dict[str, object]:
    """Info.plist of the xcframework."""
    libraries = []
    for one in SLICES:
        entry: dict[str, object] = {
            "BinaryPath": LIBRARY,
            "HeadersPath": "Headers",
            "LibraryIdentifier": one.identifier,
            "LibraryPath": LIBRARY,
            "SupportedArchitectures": list(one.architectures),
            "SupportedPlatform": one.platform,
        }
        if one.variant is not None:
            entry["SupportedPlatformVariant"] = one.variant
        libraries.append(entry)
    return {
        "AvailableLibraries": libraries,
        "CFBundlePackageType": "XFWK",
        "XCFrameworkFormatVersion": "1.0",
    }


def readme(model: Path | None, out: Path) -> str:
    name = model.stem if model is not None else "model"
    sizes = "\n".join(
        f"| {path.relative_to(out)} | {path.stat().st_size / 1e6:.1f} MB |"
        for path in sorted([*out.rglob(LIBRARY), *out.glob("*.edge")])
    )
    return f"""# EdgeKit

1. Xcode, File › Add Package Dependencies › Add Local…: this folder. Add the library EdgeKit to your app.
2. Drag `{name}.edge` into the app, so that it is copied into its bundle. Or let `Downloader` fetch it.
3. Paste:

```swift
import EdgeKit

let model = try await Model(Bundle.main.url(forResource: "{name}", withExtension: "edge")!)
let chat = try ChatSession(model, system: "Answer in one sentence.")
for try await event in chat.say("Why is the sky blue?") {{
    print(event.text, terminator: "")
}}
```

A model without a chat template continues text: `Session(model).generate("Once upon a time")`.

| file | size |
|---|---|
{sizes}

A static library is larger than what it adds to an app: the linker takes what is used.
The libraries were cross-compiled: iOS 16.3, macOS 13.3 and visionOS 1 or later, on arm64; simulators too,
that of iOS for Intel Macs as well.
"""
