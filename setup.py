"""Builds edgekit's native module with CMake; everything else about the package is in pyproject.toml."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def version() -> str:
    header = (ROOT / "cpp/include/edgekit/version.h").read_text()
    return re.search(r'EDGEKIT_VERSION "(.+)"', header)[1]


class CMakeBuild(build_ext):
    """Configures and builds the CMake target `_edgekit` straight into the place that setuptools wants the module in."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # The directory is kept: the next build compiles what changed and nothing else.
        build = ROOT / "build" / f"python-{sys.implementation.cache_tag}"
        ninja = shutil.which("ninja")
        configure = [
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            "-DEDGEKIT_BUILD_PYTHON=ON",
            *(["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []),
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]
        cmake = shutil.which("cmake")
        if cmake is None:
            raise SystemExit("error: cmake is not on the PATH; `pip install cmake ninja` or install CMake >= 3.21")
        subprocess.run([cmake, "-S", ROOT, "-B", build, *configure], check=True)
        jobs = ["--parallel", str(os.cpu_count() or 1)]
        subprocess.run([cmake, "--build", build, "--target", "_edgekit", *jobs], check=True)


setup(
    version=version(),
    ext_modules=[Extension("edgekit.runtimes._edgekit", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
