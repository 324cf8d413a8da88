"""Builds edgekit's native module with CMake; everything else about the package is in pyproject.toml."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What `edgekit package` makes SDKs from. MANIFEST.in has the same list, and edgekit.package reads the copy.
SDK = (
    *(
        "LICENSE",
        "CMakeLists.txt",
        "cmake",
        "cpp/CMakeLists.txt",
        "cpp/bench",
        "cpp/include",
        "cpp/src",
        "cpp/swiftpm",
    ),
    *("runtimes/android", "runtimes/apple"),
    *("runtimes/web/dist", "runtimes/web/embed", "runtimes/web/package.json", "runtimes/web/README.md"),
)


def version() -> str:
    header = (ROOT / "cpp/include/edgekit/version.h").read_text()
    return re.search(r'EDGEKIT_VERSION "(.+)"', header)[1]


def webgpu_headers() -> str:
    """Where the wheel of wgpu-native keeps webgpu.h; "" without it: then there is no GPU backend."""
    found = importlib.util.find_spec("wgpu")
    return str(Path(found.origin).parent / "resources") if found and found.origin else ""


class BuildWithSdk(build_py):
    """Adds edgekit/sdk to a wheel: the repository's parts of SDK, where they lie in it. runtimes/web/dist is
    there when runtimes/web/build.sh was run before.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # which has the repository itself
            return
        inside = Path(self.build_lib) / "edgekit" / "sdk"
        shutil.rmtree(inside, ignore_errors=True)
        for name in SDK:
            source, copy = ROOT / name, inside / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy)
            elif source.is_file():
                shutil.copy2(source, copy)


class CMakeBuild(build_ext):
    """Lets CMake put the native module, with the benchmark beside it, where setuptools wants the module."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # An editable install runs from the sources: CMake links there, and `cmake --build` alone updates it.
        folder = ROOT / "edgekit" / "runtimes" if self.editable_mode else target.parent
        # The build directory is kept: the next build compiles what changed and nothing else.
        build = ROOT / "build" / f"python-{sys.implementation.cache_tag}"
        if os.environ.get("_PYTHON_HOST_PLATFORM"):  # built for another machine: tools/build-wheels.sh
            build = build.with_name(f"{build.name}-{self.plat_name}")
        ninja = shutil.which("ninja")
        configure = [
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={folder}",
            f"-DCMAKE_RUNTIME_OUTPUT_DIRECTORY={folder}",
            f"-DEDGEKIT_GPU={'webgpu' if webgpu_headers() else ''}",
            f"-DEDGEKIT_GPU_HEADERS={webgpu_headers()}",
            "-DEDGEKIT_BUILD_PYTHON=ON",
            "-DEDGEKIT_BUILD_BENCH=ON",
            *(["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []),
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]
        cmake = shutil.which("cmake")
        if cmake is None:
            raise SystemExit("error: no cmake on the PATH; `pip install cmake ninja` or install CMake 3.21")
        subprocess.run([cmake, "-S", ROOT, "-B", build, *configure], check=True)
        make = ["--target", "_edgekit", "edgekit_bench", "--parallel", str(os.cpu_count() or 1)]
        subprocess.run([cmake, "--build", build, *make], check=True)
        if self.editable_mode:  # setuptools copies the module from here to there once more
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / target.name, target)


setup(
    version=version(),
    ext_modules=[Extension("edgekit.runtimes._edgekit", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildWithSdk},
)
