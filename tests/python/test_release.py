"""What stands beside a release's files, and archives that do not tell when they were made."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import edgekit

ROOT = Path(__file__).resolve().parents[2]


def papers(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "release_papers.py", *arguments], check=True)


def test_papers(tmp_path: Path) -> None:
    (tmp_path / "edgekit.whl").write_bytes(b"a wheel")
    papers(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    papers(tmp_path)
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir()
    } == first  # of the same files, the same

    assert first["SHA256SUMS"].decode() == f"{hashlib.sha256(b'a wheel').hexdigest()}  edgekit.whl\n"
    bom = json.loads(first["sbom.cdx.json"])
    assert bom["metadata"]["component"]["version"] == edgekit.__version__
    parts = {part["bom-ref"]: part for part in bom["components"]}
    assert len(parts) == len(bom["components"])
    assert parts["edgekit.whl"]["hashes"][0]["content"] == hashlib.sha256(b"a wheel").hexdigest()
    assert {"pkg:pypi/numpy", "pkg:pypi/onnxruntime"} <= parts.keys()
    assert any(name.startswith("pkg:maven/org.jetbrains.kotlinx/kotlinx-coroutines-core@") for name in parts)
    assert set(bom["dependencies"][0]["dependsOn"]) <= parts.keys()
    assert first["NOTES.md"].decode().startswith(f"# edgekit {edgekit.__version__}\n\n- ")


def test_archives_tell_no_time(tmp_path: Path) -> None:
    made = []
    for turn in range(2):
        folder = tmp_path / str(turn) / "folder"
        folder.mkdir(parents=True)
        for name in ("a", "b") if turn else ("b", "a"):
            (folder / name).write_text(name)
            os.utime(folder / name, (1e9 + turn, 1e9 + turn))
        archive = folder.with_suffix(".tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, "folder")
        papers("--repack", "1000000000", archive)
        papers("--zip", folder, folder.with_suffix(".zip"))
        with tarfile.open(archive) as tar:
            assert sorted(tar.getnames()) == ["folder", "folder/a", "folder/b"]
            assert tar.extractfile("folder/b").read() == b"b"
        assert zipfile.ZipFile(folder.with_suffix(".zip")).read("folder/a") == b"a"
        made.append((archive.read_bytes(), folder.with_suffix(".zip").read_bytes()))
    assert made[0] == made[1]


def test_the_version_is_in_one_place() -> None:
    """Where a format wants it written out, it is the same; elsewhere it is read from version.h."""
    header = (ROOT / "cpp/include/edgekit/version.h").read_text()
    version = re.search(r'EDGEKIT_VERSION "(.+)"', header)[1]
    assert json.loads((ROOT / "runtimes/web/package.json").read_text())["version"] == version
    for name in ("pyproject.toml", "setup.py", "CMakeLists.txt", "runtimes/android/build.gradle.kts"):
        assert version not in (ROOT / name).read_text(), f"{name} has a version of its own"
