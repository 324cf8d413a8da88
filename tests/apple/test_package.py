"""What `edgekit package apple` writes: every slice is for its platform, has every function of edgekit.h and
every kernel, and a program links against it.

The folder is EDGEKIT_APPLE_PACKAGE (.ci/50-swift.sh makes one): building it takes minutes.
"""

from __future__ import annotations

import os
import plistlib
import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.package import apple

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = {  # of mach-o/loader.h
    "ios-arm64": 2,
    "ios-arm64_x86_64-simulator": 7,
    "macos-arm64": 1,
    "xros-arm64": 11,
    "xros-arm64-simulator": 12,
}
PROCESSORS = {"arm64": 0x0100000C, "x86_64": 0x01000007}  # of mach/machine.h
ISAS = {
    "arm64": ("scalar", "neon", "neon_dotprod", "neon_i8mm"),
    "x86_64": ("scalar", "avx2", "avx512vnni"),
}
LC_SYMTAB, LC_BUILD_VERSION = 0x2, 0x32


@dataclass
class Object:
    """One Mach-O file of an archive."""

    processor: int
    platforms: list[int] = field(default_factory=list)
    defined: set[str] = field(default_factory=set)  # names that other files may use
    needed: set[str] = field(default_factory=set)


def libraries(data: bytes) -> dict[int, bytes]:
    """Processor -> archive, of a file with one (of arm64) or of several."""
    if data[:4] != b"\xca\xfe\xba\xbe":
        return {PROCESSORS["arm64"]: data}
    rows = [
        struct.unpack_from(">IIIII", data, 8 + 20 * i) for i in range(struct.unpack_from(">I", data, 4)[0])
    ]
    return {processor: data[offset : offset + size] for processor, _, offset, size, _ in rows}


def members(archive: bytes) -> Iterator[bytes]:
    """The files of a BSD archive, its table of contents left out."""
    assert archive[:8] == b"!<arch>\n"
    at = 8
    while at < len(archive):
        name, size = archive[at : at + 16].decode().strip(), int(archive[at + 48 : at + 58])
        content = archive[at + 60 : at + 60 + size]
        if name.startswith("#1/"):
            length = int(name[3:])
            name, content = content[:length].rstrip(b"\0").decode(), content[length:]
        if not name.startswith("__.SYMDEF"):
            yield content
        at += 60 + size + size % 2


def mach_o(data: bytes) -> Object:
    magic, processor, _, _, n_commands = struct.unpack_from("<IIIII", data)
    assert magic == 0xFEEDFACF
    found, at = Object(processor), 32
    for _ in range(n_commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == LC_BUILD_VERSION:
            found.platforms.append(struct.unpack_from("<I", data, at + 8)[0])
        elif command == LC_SYMTAB:
            symbols, count, strings, _ = struct.unpack_from("<IIII", data, at + 8)
            for i in range(count):
                name, kind, _, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * i)
                text = data[strings + name : data.index(b"\0", strings + name)].decode()
                if kind & 0x01 and not kind & 0xE0:  # external, no debug entry
                    (found.defined if kind & 0x0E else found.needed).add(text)
        at += size
    return found


@pytest.fixture(scope="module")
def folder() -> Path:
    if not (path := os.environ.get("EDGEKIT_APPLE_PACKAGE")):
        pytest.skip("EDGEKIT_APPLE_PACKAGE names no folder that `edgekit package apple` wrote")
    return Path(path)


def library(folder: Path, identifier: str) -> Path:
    return folder / "CEdgeKit.xcframework" / identifier / apple.LIBRARY


def functions() -> set[str]:
    header = (ROOT / "cpp" / "include" / "edgekit" / "edgekit.h").read_text()
    return set(re.findall(r"^EDGEKIT_(?:API|CHECKED) [^;(]*?(edgekit_\w+)\(", header, re.MULTILINE))


SLICES = [
    (identifier, architecture)
    for identifier in PLATFORMS
    for architecture in PROCESSORS
    if architecture in identifier
]


@pytest.mark.parametrize(("identifier", "architecture"), SLICES)
def test_slice(folder: Path, identifier: str, architecture: str) -> None:
    found = libraries(library(folder, identifier).read_bytes())
    assert found.keys() == {PROCESSORS[a] for i, a in SLICES if i == identifier}
    objects = [mach_o(data) for data in members(found[PROCESSORS[architecture]])]
    assert len(objects) == len(apple.core_sources())
    assert {one.processor for one in objects} == {PROCESSORS[architecture]}
    assert {platform for one in objects for platform in one.platforms} == {PLATFORMS[identifier]}
    assert all(one.platforms for one in objects)
    defined = set.union(*(one.defined for one in objects))
    assert len(functions()) > 30
    assert not {f"_{name}" for name in functions()} - defined
    for isa in ISAS[architecture]:
        assert f"__ZN7edgekit{len(isa)}{isa}5tableE" in defined
    # What is left to find is C's or C++'s library: nothing of the core's own, nothing of zig's runtime.
    needed = set.union(*(one.needed for one in objects)) - defined
    assert not [name for name in needed if "edgekit" in name or name.startswith(("___ubsan", "___zig"))]
    # Second names, which macOS on x86-64 alone has.
    assert not [name for name in needed if name.endswith(("$INODE64", "$1050"))]
    # Names that zig's C++ library has and those of iOS 16.3 and macOS 13.3 have not.
    assert not [name for name in needed if "__hash_memory" in name or "bad_function_call" in name]


def test_xcframework_names_its_slices(folder: Path) -> None:
    framework = folder / "CEdgeKit.xcframework"
    info = plistlib.loads((framework / "Info.plist").read_bytes())
    assert info["CFBundlePackageType"] == "XFWK"
    listed = {entry["LibraryIdentifier"]: entry for entry in info["AvailableLibraries"]}
    assert listed.keys() == PLATFORMS.keys()
    for identifier, entry in listed.items():
        assert (framework / identifier / entry["LibraryPath"]).is_file()
        assert entry["SupportedArchitectures"] == [a for i, a in SLICES if i == identifier]
        headers = framework / identifier / entry["HeadersPath"]
        assert "CEdgeKit" in (headers / "module.modulemap").read_text()
        assert (headers / "edgekit" / "edgekit.h").is_file()


def test_a_program_links(folder: Path, tmp_path: Path) -> None:
    """For macOS, the one of them whose C library zig has."""
    source = tmp_path / "main.c"
    calls = "\n".join(f"    use((void*)&{name});" for name in sorted(functions()))
    source.write_text(
        "#include <edgekit/edgekit.h>\nstatic void use(volatile void* p) { (void)p; }\n"
        f"int main(void) {{\n{calls}\n    return 0;\n}}\n"
    )
    slice_folder = library(folder, "macos-arm64").parent
    command = [*apple.find_zig(), "cc", "-target", "aarch64-macos.13.3", "-O2"]
    command += [f"-I{slice_folder / 'Headers'}", str(source), str(slice_folder / apple.LIBRARY), "-lc++"]
    done = subprocess.run([*command, "-o", str(tmp_path / "main")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program = (tmp_path / "main").read_bytes()
    assert program[:4] == struct.pack("<I", 0xFEEDFACF)


def test_the_package_has_what_its_readme_names(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    assert "import EdgeKit" in readme
    manifest = (folder / "Package.swift").read_text()
    assert 'path: "CEdgeKit.xcframework"' in manifest
    for source in (ROOT / "runtimes" / "apple" / "EdgeKit").iterdir():
        assert (folder / "Sources" / "EdgeKit" / source.name).read_bytes() == source.read_bytes()
    for model in folder.glob("*.edge"):
        assert f'forResource: "{model.stem}"' in readme


def test_without_zig_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UsageError) as raised:
        apple.find_zig()
    assert raised.value.hint == "pip install ziglang"
