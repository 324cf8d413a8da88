"""A Swift package around a prebuilt core: CEdgeKit.xcframework, the Swift sources, the model.

    Package.swift                 module EdgeKit; Xcode takes the folder as a local package
    CEdgeKit.xcframework          the engine as static libraries: iOS, its simulator, macOS; all arm64
    Sources/EdgeKit
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

    identifier: str  # its folder
    target: str  # what it is compiled for, as zig spells it, with the oldest system it runs on
    platform: str
    variant: str | None = None


SLICES = (
    Slice("ios-arm64", "aarch64-ios.16.3", "ios"),
    Slice("ios-arm64-simulator", "aarch64-ios.16.3", "ios", "simulator"),
    Slice("macos-arm64", "aarch64-macos.13.3", "macos"),
)
FLAGS = ["-std=c++20", "-O2", "-g0", "-DNDEBUG", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
# The C++ library is the system's, older than zig's headers: these are to use what the oldest system has, and
# to refuse the rest. (std::to_chars of a double sets those versions.)
FLAGS += [f"{flag}_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS" for flag in ("-U", "-D")]
LIBRARY = "libCEdgeKit.a"
LC_BUILD_VERSION, PLATFORM_IOSSIMULATOR = 0x32, 7  # of mach-o/loader.h


def package(model: Path | None, out: Path, report: Report) -> list[Path]:
    """Fills `out`. Raises UsageError (zig or the sources are missing), EdgekitError (the build fails)."""
    swift = sources("apple")
    zig = find_zig()
    framework = out / "CEdgeKit.xcframework"
    with tempfile.TemporaryDirectory() as work:
        for target in dict.fromkeys(one.target for one in SLICES):
            objects = compile_core(zig, target, Path(work) / target, report)
            for one in SLICES:
                if one.target == target:
                    archive(zig, one, objects, framework / one.identifier)
    (framework / "Info.plist").write_bytes(plistlib.dumps(info()))
    shutil.copytree(swift / "EdgeKit", out / "Sources" / "EdgeKit")
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


def compile_core(zig: list[str], target: str, folder: Path, report: Report) -> list[Path]:
    """The objects of the core, in `folder`."""
    folder.mkdir()
    cpp = ROOT / "cpp"
    system = Path(zig_lib(zig)) / "libc" / "include" / "any-darwin-any"
    flags = ["-target", target, *FLAGS, "-isystem", str(system), f"-I{cpp / 'include'}", f"-I{cpp / 'src'}"]

    def compile_one(source: Path) -> Path:
        made = folder / "_".join(source.relative_to(cpp).with_suffix(".o").parts)
        run([*zig, "c++", *flags, "-c", str(source), "-o", str(made)])
        return made

    todo, made = core_sources(), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in pool.map(compile_one, todo):
            made.append(path)
            report(f"compiling the core for {target}", len(made), len(todo))
    return made


def archive(zig: list[str], one: Slice, objects: list[Path], folder: Path) -> None:
    """Headers and static library of one slice, in `folder`."""
    ignored = shutil.ignore_patterns("*.hpp")
    shutil.copytree(ROOT / "cpp" / "include", folder / "Headers", ignore=ignored)
    if one.variant == "simulator":  # after the device's slice, from the same objects
        for path in objects:
            path.write_bytes(for_simulator(path.read_bytes()))
    run([*zig, "ar", "--format=darwin", "rcs", str(folder / LIBRARY), *map(str, objects)])


def for_simulator(data: bytes) -> bytes:
    """A Mach-O object for iOS, marked as one for its simulator, as `vtool` does: the code is the same."""
    marked = bytearray(data)
    n_commands, at = struct.unpack_from("<I", data, 16)[0], 32
    for _ in range(n_commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == LC_BUILD_VERSION:
            struct.pack_into("<I", marked, at + 8, PLATFORM_IOSSIMULATOR)
        at += size
    return bytes(marked)


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
            "SupportedArchitectures": ["arm64"],
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
The libraries were cross-compiled; iOS 16.3 or macOS 13.3 and later, arm64.
"""
