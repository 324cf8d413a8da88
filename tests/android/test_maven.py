"""The Maven repository that `edgekit package android` writes, resolved by Gradle as a new app would."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from edgekit.package import _maven, android

BUILD = """
configurations { app }
repositories {
    maven { url "REPOSITORY" }
    maven { url "OTHERS" }
}
dependencies { app "io.github.edgekit:edgekit-android:1.2.3" }
task show { doLast { configurations.app.each { println "resolved " + it } } }
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    _maven.write(tmp_path / "maven", "edgekit-android", "1.2.3", b"an aar", android.DEPENDENCIES)
    return tmp_path / "maven"


def test_every_file_has_its_checksums(repository: Path) -> None:
    files = [path for path in repository.rglob("*") if path.suffix in (".aar", ".pom", ".xml")]
    assert len(files) == 3
    for path in files:
        for algorithm in ("md5", "sha1", "sha256", "sha512"):
            sum_ = path.with_name(f"{path.name}.{algorithm}").read_text()
            assert sum_ == hashlib.new(algorithm, path.read_bytes()).hexdigest()


def test_gradle_resolves_the_library_and_what_it_needs(repository: Path, tmp_path: Path) -> None:
    if shutil.which("gradle") is None:
        pytest.skip("needs Gradle: tools/setup-jvm.sh")
    others = tmp_path / "others"  # stands for Maven Central
    for dependency in android.DEPENDENCIES:
        group, name, version = dependency.split(":")
        folder = others.joinpath(*group.split("."), name, version)
        folder.mkdir(parents=True)
        jar = io.BytesIO()
        zipfile.ZipFile(jar, "w").close()
        (folder / f"{name}-{version}.jar").write_bytes(jar.getvalue())
        project = f"<groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>"
        text = f"<project><modelVersion>4.0.0</modelVersion>{project}</project>"
        (folder / f"{name}-{version}.pom").write_text(text)
    app = tmp_path / "app"
    app.mkdir()
    (app / "settings.gradle").write_text("")
    script = BUILD.replace("REPOSITORY", repository.as_uri()).replace("OTHERS", others.as_uri())
    (app / "build.gradle").write_text(script)
    command = ["gradle", "--no-daemon", "-q", "-g", str(tmp_path / "home"), "show"]
    done = subprocess.run(command, cwd=app, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resolved = {Path(line).name for line in done.stdout.splitlines() if line.startswith("resolved ")}
    assert resolved == {
        "edgekit-android-1.2.3.aar",
        *(f"{name}-{version}.jar" for _, name, version in (one.split(":") for one in android.DEPENDENCIES)),
    }
