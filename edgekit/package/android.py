"""A folder for an Android app: the library in a Maven repository, the model, a README.

    maven/               io.github.edgekit:edgekit-android:VERSION, an .aar, its POM and checksums: classes
                         for Kotlin and Java, libedgekit_jni.so for 64-bit ARM and x86
    NAME.edge, README.md, LICENSE

The .aar is made without Gradle, by CMake with the NDK of $ANDROID_NDK_HOME, the Kotlin compiler and a JDK.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, UsageError
from edgekit.package import ROOT, Report, _maven, build_folder, sources, version

ABIS = ("arm64-v8a", "x86_64")
MIN_SDK = 26
# The oldest Kotlin whose compiler reads the classes, and the oldest Java whose class files they are.
KOTLIN, JAVA = "2.1", "11"
# What Gradle brings beside the library; no app needs more than it.
DEPENDENCIES = [
    "org.jetbrains.kotlin:kotlin-stdlib:2.1.21",
    "org.jetbrains.kotlinx:kotlinx-coroutines-core:1.9.0",
]

MANIFEST = f"""\
<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="io.github.edgekit">
    <uses-sdk android:minSdkVersion="{MIN_SDK}" />
</manifest>
"""
METADATA = (
    "aarFormatVersion=1.0\naarMetadataVersion=1.0\nminCompileSdk=26\nminAndroidGradlePluginVersion=7.0.0\n"
)


def package(model: Path | None, out: Path, report: Report) -> list[Path]:
    """Fills `out`. Raises UsageError that says what to install, EdgekitError when the build fails."""
    android = sources("android")
    ndk, cmake, kotlin, java = find_all(find_ndk, find_cmake, find_kotlin, find_java)
    libraries = {}
    for abi in ABIS:
        report(f"building the library for {abi}", 0, 0)
        libraries[abi] = build_library(cmake, ndk, abi)
    report("compiling Kotlin", 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        classes = Path(folder) / "classes.jar"
        compile_kotlin(java, kotlin, android / "src" / "main" / "kotlin", classes)
        entries = {
            "AndroidManifest.xml": MANIFEST.encode(),
            "classes.jar": classes.read_bytes(),
            "proguard.txt": (android / "consumer-rules.pro").read_bytes(),
            "R.txt": b"",
            "META-INF/com/android/build/gradle/aar-metadata.properties": METADATA.encode(),
        } | {f"jni/{abi}/libedgekit_jni.so": library.read_bytes() for abi, library in libraries.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # the same bytes at any time
    aar = _maven.write(out / "maven", "edgekit-android", version(), packed.getvalue(), DEPENDENCIES)
    shutil.copyfile(ROOT / "LICENSE", out / "LICENSE")
    if model is not None:
        shutil.copyfile(model, out / model.name)
    (out / "README.md").write_text(readme(model, out, aar, libraries), encoding="utf-8")
    return [path for path in out.rglob("*") if path.is_file()]


def find_all(*finders: Callable[[], Any]) -> list[Any]:
    """What each of them finds. Raises one UsageError that says all that is missing."""
    found, missing = [], []
    for find in finders:
        try:
            found.append(find())
        except UsageError as error:
            missing.append(error)
    if missing:
        hints = [error.hint for error in missing if error.hint]
        raise UsageError("; ".join(map(str, missing)), hint="; ".join(hints) or None)
    return found


def find_ndk() -> Path:
    ndk = os.environ.get("ANDROID_NDK_HOME")
    if not ndk:
        raise UsageError(
            "ANDROID_NDK_HOME is not set, and the Android library is built with the NDK",
            hint="install it with `sdkmanager 'ndk;27.2.12479018'` or Android Studio (SDK Manager, SDK Tools,"
            " NDK), then: export ANDROID_NDK_HOME=$ANDROID_HOME/ndk/27.2.12479018",
        )
    if not toolchain_file(Path(ndk)).is_file():
        raise UsageError(
            f"ANDROID_NDK_HOME is {ndk}, and there is no NDK: {toolchain_file(Path(ndk))} is missing"
        )
    return Path(ndk)


def toolchain_file(ndk: Path) -> Path:
    return ndk / "build" / "cmake" / "android.toolchain.cmake"


def find_cmake() -> str:
    beside = Path(sys.executable).parent
    if cmake := shutil.which("cmake", path=os.pathsep.join([str(beside), os.environ.get("PATH", "")])):
        return cmake
    raise UsageError("no cmake on the PATH", hint="pip install cmake")


def find_kotlin() -> Path:
    """The folder of the compiler's jars, which hold coroutines too."""
    command = shutil.which("kotlinc")
    toolchains = Path(os.environ.get("EDGEKIT_TOOLCHAINS", Path.home() / ".cache" / "edgekit" / "toolchains"))
    for home in (
        os.environ.get("KOTLIN_HOME"),
        Path(command).resolve().parents[1] if command else None,
        toolchains / "kotlin" / "node_modules" / "kotlin-compiler",
    ):
        if home and (Path(home) / "lib" / "kotlin-compiler.jar").is_file():
            return Path(home) / "lib"
    raise UsageError(
        "no Kotlin compiler: neither in KOTLIN_HOME nor as kotlinc on the PATH",
        hint="install it (`sdk install kotlin`, or `npm install kotlin-compiler`) and set KOTLIN_HOME; "
        "tools/setup-jvm.sh does it on Debian",
    )


def find_java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if java is None:
        raise UsageError("no java: neither in JAVA_HOME nor on the PATH", hint="install a JDK, 17 or later")
    return java


def build_library(cmake: str, ndk: Path, abi: str) -> Path:
    """libedgekit_jni.so, stripped. Its build is kept: the next one compiles what changed."""
    build = build_folder(f"android-{abi}-{hashlib.sha256(os.fsencode(ndk)).hexdigest()[:8]}")
    configure = [
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_TOOLCHAIN_FILE={toolchain_file(ndk)}",
        f"-DANDROID_ABI={abi}",
        f"-DANDROID_PLATFORM=android-{MIN_SDK}",
        "-DANDROID_STL=c++_static",
        "-DCMAKE_SHARED_LINKER_FLAGS=-s",
        "-DEDGEKIT_BUILD_JNI=ON",
    ]
    run([cmake, "-S", ROOT, "-B", build, *configure], f"configuring the library for {abi}")
    make = ["--target", "edgekit_jni", "--parallel", str(os.cpu_count() or 1)]
    run([cmake, "--build", build, *make], f"building the library for {abi}")
    return build / "libedgekit_jni.so"


def compile_kotlin(java: str, kotlin: Path, folder: Path, jar: Path) -> None:
    compiler = ("kotlin-compiler", "kotlin-reflect", "kotlin-script-runtime")
    runtime = ("kotlin-stdlib", "kotlinx-coroutines-core-jvm")

    def path(names: tuple[str, ...]) -> str:
        return os.pathsep.join(str(kotlin / f"{name}.jar") for name in names)

    options = [
        "-no-stdlib",
        "-no-reflect",
        "-jvm-target",
        JAVA,
        "-language-version",
        KOTLIN,
        "-api-version",
        KOTLIN,
    ]
    main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
    command = [java, "-cp", path((*compiler, *runtime)), main, *options, "-module-name", "edgekit"]
    run([*command, "-cp", path(runtime), "-d", jar, folder], "compiling Kotlin")


def run(command: list[str | Path], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise EdgekitError(f"{what} failed with status {done.returncode}:\n{last}")


def readme(model: Path | None, out: Path, aar: Path, libraries: dict[str, Path]) -> str:
    """runtimes/android/embed/README.md with this folder's words."""
    sizes = {aar.name: aar}
    sizes |= {f"libedgekit_jni.so, {abi}": library for abi, library in libraries.items()}
    if model is not None:
        sizes[model.name] = model
    words = {
        "VERSION": version(),
        "MODEL": model.name if model else "model.edge",
        "SHA256": sha256(model) if model else "<its SHA-256>",
        "SIZES": "\n".join(f"| {name} | {path.stat().st_size:,} |" for name, path in sizes.items()),
    }
    text = (sources("android") / "embed" / "README.md").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
