"""edgekit package android: what is missing is said, and with it the folder is whole.

There is no NDK in a test: a folder that answers as one stands in for it, with Debian's cross compiler instead
of clang and glibc instead of bionic. What that cannot show is shown on a device alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit import package
from edgekit.errors import EdgekitError, UsageError
from edgekit.package import android

MODEL = Path(__file__).parents[1] / "golden" / "engine" / "text.edge"
TOOLCHAIN = """\
set(asked "${ANDROID_ABI} ${ANDROID_PLATFORM} ${ANDROID_STL}")
if(NOT asked STREQUAL "arm64-v8a android-26 c++_static")
    message(FATAL_ERROR "not what the NDK is asked: ${asked}")
endif()
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ANDROID_ABI ANDROID_PLATFORM ANDROID_STL)
"""


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "ANDROID_NDK_HOME"}
    return subprocess.run(
        [sys.executable, "-m", "edgekit", "package", *arguments],
        capture_output=True,
        text=True,
        env=kept | environment,
    )


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    done = run("android", MODEL, "-o", tmp_path / "out", "--json")
    assert done.returncode == 2
    assert "ANDROID_NDK_HOME" in done.stderr and "sdkmanager" in done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "UsageError"
    nothing = dict.fromkeys(("PATH", "JAVA_HOME", "KOTLIN_HOME", "EDGEKIT_TOOLCHAINS"), "")
    done = run("android", MODEL, "-o", tmp_path / "out", **nothing)
    for missing in ("ANDROID_NDK_HOME is not set", "no Kotlin compiler", "no java"):  # all of it at once
        assert missing in done.stderr
    done = run("android", MODEL, "-o", tmp_path / "out", ANDROID_NDK_HOME=str(tmp_path))
    assert done.returncode == 2 and "there is no NDK" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_targets_outputs_and_models_are_checked_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "there is no target 'symbian'; choose one of: a" in run("symbian", "-o", out).stderr
    (tmp_path / "noise.edge").write_bytes(b"noise" * 100)
    done = run("android", tmp_path / "noise.edge", "-o", out)
    assert done.returncode == 4 and not out.exists()
    out.mkdir()
    (out / "mine").write_text("")
    done = run("android", "-o", out)
    assert done.returncode == 2 and "is there already" in done.stderr and (out / "mine").exists()


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("java") is None:
        pytest.skip("needs a JDK and Kotlin: tools/setup-jvm.sh")
    file = android.toolchain_file(tmp_path / "ndk")
    file.parent.mkdir(parents=True)
    file.write_text('message(FATAL_ERROR "out of order")')
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path / "ndk"))
    monkeypatch.setattr(android, "ROOT", tmp_path)
    monkeypatch.setattr(android, "build_folder", lambda name: tmp_path / name)
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.21)\nproject(x CXX)\n")
    monkeypatch.setattr(android, "find_kotlin", lambda: tmp_path)
    with pytest.raises(EdgekitError, match=r"(?s)configuring the library for arm64-v8a failed.*out of order"):
        package.package("android", MODEL, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("EDGEKIT_SLOW"), reason="takes minutes; EDGEKIT_SLOW=1 runs it")
@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="needs tools/setup-arm.sh")
def test_the_folder_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        jdk = Path(android.find_java()).resolve().parents[1]
        android.find_kotlin()
    except UsageError as error:
        pytest.skip(f"needs tools/setup-jvm.sh: {error}")
    ndk = package.ROOT / "build" / "stand-in-ndk"  # here, so that its build is kept
    android.toolchain_file(ndk).parent.mkdir(parents=True, exist_ok=True)
    android.toolchain_file(ndk).write_text(TOOLCHAIN + f'set(EDGEKIT_JDK "{jdk}")\n')
    monkeypatch.setenv("ANDROID_NDK_HOME", str(ndk))
    monkeypatch.setattr(android, "ABIS", ("arm64-v8a",))
    out = tmp_path / "out"
    files = package.package("android", MODEL, out)
    version = package.version()
    aar_path = out / f"maven/io/github/edgekit/edgekit-android/{version}/edgekit-android-{version}.aar"
    assert {out / "LICENSE", out / "README.md", out / "text.edge", aar_path} <= set(files)
    assert (out / "text.edge").read_bytes() == MODEL.read_bytes()

    with zipfile.ZipFile(aar_path) as aar:
        assert aar.testzip() is None
        library = aar.read("jni/arm64-v8a/libedgekit_jni.so")
        (tmp_path / "classes.jar").write_bytes(aar.read("classes.jar"))
        assert "io.github.edgekit.Native" in aar.read("proguard.txt").decode()
        assert b"io.github.edgekit" in aar.read("AndroidManifest.xml")
        assert b"permission" not in aar.read("AndroidManifest.xml")
    check_library(library)
    with zipfile.ZipFile(tmp_path / "classes.jar") as jar:
        classes = {Path(name).stem: jar.read(name) for name in jar.namelist() if name.endswith(".class")}
    assert {"Model", "Session", "Event$Text", "ModelStore", "EdgekitException$OverBudget"} <= classes.keys()
    for name, data in classes.items():
        assert struct.unpack(">IHH", data[:8]) == (0xCAFEBABE, 0, 55), f"{name} is not of Java 11"

    text = (out / "README.md").read_text()
    assert "@" not in re.sub(r"@[a-z]", "", text), "a word of the template is left"
    assert f"{len(library):,}" in text and android.sha256(MODEL) in text


def check_library(data: bytes) -> None:
    """ELF for 64-bit ARM, stripped, segments on pages of 16 KiB, within the size budget."""
    assert data[:5] == b"\x7fELF\x02" and struct.unpack_from("<H", data, 18)[0] == 183
    offset = struct.unpack_from("<Q", data, 32)[0]
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(count)]
    loaded = [segment for segment in segments if segment[0] == 1]
    assert loaded and all(segment[7] % 16384 == 0 for segment in loaded)
    assert b".debug_info" not in data and b".symtab" not in data
    assert len(data) <= 1_500_000
