"""The directions in which the parts of the house may depend on each other, read from #include, import and nm.

samples, tests -> edgekit, runtimes -> cpp/include
edgekit.cli -> edgekit.model and the rest -> edgekit.engines -> edgekit.converters (never the native module)
cpp/src: api -> engine -> {backend, text, format}, cpu -> {backend, kernels, threads}; intrinsics in simd
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "cpp" / "src"

# folder of cpp/src -> the folders it may include from, besides itself and files directly in cpp/src
MAY_INCLUDE = {
    "api": {"engine", "backend", "text", "format", "kernels"},
    "engine": {"backend", "text", "format", "kernels", "threads"},
    "cpu": {"backend", "kernels", "quant", "threads"},
    "gpu": {"backend", "kernels", "quant"},
    "backend": {"format", "kernels", "quant"},
    "text": {"format"},
    "format": {"quant"},
    "isa": {"kernels", "simd"},
    "kernels": {"quant"},
    "simd": {"kernels", "quant"},
    "quant": set[str](),
    "threads": set[str](),
}

# Part of edgekit, a module or a package -> the other parts it may import, at the top or inside a function.
VALUES = {"submodules", "errors", "events", "units", "arguments", "in_place_of", "files", "page"}
"""What nothing else of edgekit is needed for."""
FACES = {
    "model",
    "chat",
    "conversion",
    "companion",
    "distillation",
    "verification",
    "evaluation",
    "inspection",
    "preflight",
    "calibration",
}
BELOW_FACES = VALUES | {"hub", "text", "engines", "converters"}
MAY_IMPORT = {
    **{value: {"errors"} for value in VALUES},
    "hub": VALUES,
    "runtimes": set[str](),
    "text": VALUES | {"runtimes"},
    "converters": {"errors", "in_place_of", "submodules"},
    "engines": VALUES | {"converters", "runtimes", "text"},
    **dict.fromkeys(FACES, BELOW_FACES | FACES),
    "package": VALUES,
    "bench": BELOW_FACES | FACES | {"", "package"},
    "cli": VALUES | FACES | {"", "bench", "converters", "hub", "package"},
    "__main__": {"cli"},
    "": BELOW_FACES | FACES,  # `import edgekit` itself
}

# The same inside edgekit.converters.
FOUNDATION = {"spec", "codes", "checkpoint"}
CONVERTERS_MAY_IMPORT = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    "text": set[str](),
    "quant": {"codes", "checkpoint"},
    "decoder": {"spec"},
    "interpreters": {"decoder", "spec"},
    "models": FOUNDATION,
    "sources": FOUNDATION | {"models", "quant", "formats", "text"},
    "quality": {"spec"},
    "convert": FOUNDATION | {"models", "quant", "sources", "text"},
    "checkpoint_files": {"convert"},
    "checkpoint_writer": {"checkpoint", "checkpoint_files", "convert", "quant"},
    "synth": FOUNDATION | {"checkpoint_writer", "convert", "models"},
    "train": {"convert", "interpreters"},
    "calibrate": FOUNDATION
    | {"convert", "decoder", "distill", "interpreters", "quality", "quant", "text", "train"},
    "distill": FOUNDATION
    | {"checkpoint_files", "checkpoint_writer", "convert", "decoder", "interpreters", "models", "quant"}
    | {"text", "train"},
    "formats": FOUNDATION
    | {"checkpoint_files", "convert", "decoder", "interpreters", "models", "quant", "sources", "text"},
    "mix": FOUNDATION | {"convert", "quant"},
    "exporters": {"checkpoint", "convert", "formats", "quality", "quant"},
    "": set[str](),
}


def cpp_files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for pattern in ("*.h", "*.hpp", "*.cpp", "*.mm"):
            yield from folder.rglob(pattern)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE)


def imports(path: Path, module: str) -> Iterator[str]:
    """Every name a file imports, absolute: `from a import b` gives a.b."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def python_modules() -> Iterator[tuple[str, Path]]:
    for prefix, folder in (
        ("edgekit", ROOT / "edgekit"),
        ("edgekit.converters", ROOT / "converters"),
        ("edgekit.runtimes", ROOT / "runtimes" / "python"),
    ):
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(folder)
            if prefix == "edgekit" and relative.parts[0] in ("converters", "runtimes"):
                continue  # the symbolic links, walked where they point
            parts = [prefix, *relative.with_suffix("").parts]
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_core_includes_point_down() -> None:
    wrong = []
    for path in cpp_files(CORE):
        folder = path.relative_to(CORE).parts[0]
        for include in includes(path):
            target = include.split("/")[0]
            if (
                target in MAY_INCLUDE
                and folder in MAY_INCLUDE
                and target not in MAY_INCLUDE[folder] | {folder}
            ):
                wrong.append(f"{path.relative_to(ROOT)} includes {include}")
    assert not wrong, "\n".join(wrong)


def test_every_folder_of_the_core_has_a_place() -> None:
    folders = {path.name for path in CORE.iterdir() if path.is_dir()}
    assert folders <= MAY_INCLUDE.keys(), (
        f"say in MAY_INCLUDE what these may include: {folders - MAY_INCLUDE.keys()}"
    )


def test_intrinsics_stay_in_simd() -> None:
    headers = re.compile(r"(\w*intrin|arm_neon|arm_sve|wasm_simd128)\.h")
    users = {path for path in cpp_files(CORE) if any(headers.fullmatch(name) for name in includes(path))}
    assert {path.relative_to(ROOT) for path in users if path.parent.name != "simd"} == set()


OF_DEVICES = {
    "webgpu_device.cpp": ("webgpu.h", "wgpu.h"),
    "metal_device.cpp": ("Foundation/Foundation.hpp", "Metal/Metal.hpp"),
}


def test_core_needs_the_standard_library_alone() -> None:
    """Besides C++ headers (no dot in the name): POSIX, Windows and what the compilers themselves bring; and
    the headers of graphics processors.
    """
    system = re.compile(
        r"[a-z_0-9]+|(sys|mach|linux|pthread|emscripten)/\w+\.h|(std\w+|string|math|errno|fcntl|unistd|sched|pthread|windows|cpuid"
        r"|\w*intrin|arm_neon|wasm_simd128|emscripten|dlfcn)\.h"
    )
    wrong = [
        f"{path.relative_to(ROOT)} includes <{include}>"
        for path in cpp_files(CORE, ROOT / "cpp" / "include")
        for include in re.findall(
            r"^\s*#\s*include\s*<([^>]+)>", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        if not system.fullmatch(include) and include not in OF_DEVICES.get(path.name, ())
    ]
    assert not wrong, "\n".join(wrong)


def test_bindings_and_samples_see_the_public_headers_alone() -> None:
    wrong = []
    for path in cpp_files(ROOT / "runtimes", ROOT / "samples"):
        if any(part in (".build", "node_modules", "build") for part in path.parts):
            continue
        for include in includes(path):
            if (CORE / include).is_file() or "cpp/src" in include:
                wrong.append(f"{path.relative_to(ROOT)} includes {include}")
    assert not wrong, "\n".join(wrong)


def part(module: str, package: str) -> str:
    """The module or package directly in `package` that `module` belongs to; "" for `package` itself."""
    return module.removeprefix(package).removeprefix(".").partition(".")[0]


@pytest.mark.parametrize(
    ("package", "allowed"), [("edgekit", MAY_IMPORT), ("edgekit.converters", CONVERTERS_MAY_IMPORT)]
)
def test_python_imports_point_down(package: str, allowed: dict[str, set[str]]) -> None:
    modules = dict(python_modules())
    wrong = []
    for module, path in modules.items():
        if not within(module, package):
            continue
        own = part(module, package)
        assert own in allowed, f"say what {module} may import"
        for name in imports(path, module):
            while name not in modules and "." in name:
                name = name.rpartition(".")[0]
            if within(name, package) and part(name, package) not in allowed[own] | {own}:
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_two_modules_open_the_native_one() -> None:
    native = "edgekit.runtimes._edgekit"
    users = {
        module
        for module, path in python_modules()
        if any(within(name, native) for name in imports(path, module))
    }
    assert users == {"edgekit.engines.edge", "edgekit.text"}


def test_python_core_does_no_maths() -> None:
    """`edgekit/` itself is a face: torch and transformers appear in converters, tests and peers only."""
    wrong = [
        f"{module} imports {name}"
        for module, path in python_modules()
        if not within(module, "edgekit.converters") and not within(module, "edgekit.bench.peers")
        for name in imports(path, module)
        if name.split(".")[0] in ("torch", "transformers")
    ]
    assert not wrong, "\n".join(wrong)


def isa_objects() -> list[Path]:
    return sorted(ROOT.glob("build/*/cpp/CMakeFiles/edgekit_isa_*.dir/src/isa/*.o"))


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm (binutils)")
@pytest.mark.skipif(not isa_objects(), reason="needs a CMake build under build/: make test-cpp")
@pytest.mark.parametrize("path", isa_objects(), ids=lambda path: f"{path.parts[-7]}-{path.name}")
def test_kernels_leave_no_weak_function_outside_their_namespace(path: Path) -> None:
    """The linker keeps one copy of a weak function, whichever it meets: a std::min<int> compiled for AVX-512
    could end up in code for every processor. What such an object defines weakly must carry the set's name.
    (Constants, which nm marks V or u, are the same in every copy.)"""
    isa = path.name.split(".")[0]
    listing = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True)
    if listing.returncode != 0 or "no symbols" in listing.stderr:
        pytest.skip(f"nm does not read {path.name}: {listing.stderr.strip()}")
    weak = [line.split(" ", 2)[2] for line in listing.stdout.splitlines() if re.match(r"[0-9a-f]+ W ", line)]
    wrong = [name for name in weak if f"edgekit::{isa}::" not in name]
    assert not wrong, f"{path.name} defines weakly: " + "; ".join(wrong[:10])
