"""tests/apple/objc, against which coreml_runner.mm is compiled here, says what Apple's headers say: PyObjC's
metadata of Core ML were made from these.

    pip download --no-deps --only-binary=:all: --platform macosx_11_0_universal2 pyobjc-framework-CoreML
    EDGEKIT_COREML_METADATA=pyobjc_framework_coreml-….whl pytest tests/apple/test_coreml_names.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPANION = ROOT / "runtimes" / "apple" / "Companion"
STUBS = ROOT / "tests" / "apple" / "objc"


@pytest.fixture(scope="module")
def metadata() -> str:
    wheel = os.environ.get("EDGEKIT_COREML_METADATA")
    if not wheel:
        pytest.skip("EDGEKIT_COREML_METADATA names no wheel of pyobjc-framework-CoreML")
    with zipfile.ZipFile(wheel) as opened:
        return opened.read("CoreML/_metadata.py").decode()


def selectors(header: str) -> set[tuple[str, str]]:
    """(class, selector) of each method that takes something."""
    found = set()
    for name, body in re.findall(r"@interface (\w+)[^\n]*\n(.*?)@end", header, re.DOTALL):
        for method in re.findall(r"^[-+].*?;", body, re.MULTILINE | re.DOTALL):
            bare = method
            while (shorter := re.sub(r"\([^()]*\)", "", bare)) != bare:
                bare = shorter
            if parts := re.findall(r"(\w+):", bare):
                found.add((name, "".join(f"{part}:" for part in parts)))
    return found


def test_names(metadata: str) -> None:
    header = (STUBS / "CoreML" / "CoreML.h").read_text()
    enums = dict(re.findall(r"^    (ML\w+) = (\d+),", header, re.MULTILINE))
    known = dict(re.findall(r"\$(\w+)@(-?\d+)", metadata))
    assert len(enums) == 7
    assert {name: known.get(name) for name in enums} == enums
    written = set(re.findall(r'b"(\w+)",\s*b"([\w:]+)"', metadata))
    # The metadata have those whose blocks and errors PyObjC must be told of.
    ours = {each for each in selectors(header) if re.search("error:|andler:", each[1])}
    assert len(ours) == 8
    assert not ours - written


def test_the_runner_compiles(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="needs zig, for Apple's C++ library (pip install ziglang)")
    flags = ["-std=c++20", "-fobjc-arc", "-fblocks", "-Wall", "-Wextra", "-Werror"]
    paths = [f"-I{STUBS}", f"-I{COMPANION / 'include'}", f"-I{ROOT / 'cpp' / 'include'}"]
    for name in ("coreml_runner.mm", "package_driver.cpp"):
        command = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-macos.15.0", *flags, *paths]
        subprocess.run([*command, "-c", str(COMPANION / name), "-o", str(tmp_path / "out.o")], check=True)
