"""What stands beside the files of a release: their checksums, what is in them, and what is new.

    python tools/release_papers.py FOLDER      (tools/release.sh calls it)

writes SHA256SUMS, sbom.cdx.json (CycloneDX) and NOTES.md, the same for the same files.
`--repack EPOCH FILE.tar.gz` writes an archive anew, so that it does not tell when and by whom it was made;
`--zip FOLDER FILE.zip` packs a folder so.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
import uuid
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAPERS = ("SHA256SUMS", "sbom.cdx.json", "NOTES.md")
# What is linked into our binaries and is not ours: all of it comes with the compilers.
LINKED = {
    "wheels, Apple's libraries": [("libc++", "Apache-2.0 WITH LLVM-exception")],
    "WebAssembly": [
        ("libc++", "Apache-2.0 WITH LLVM-exception"),
        ("compiler-rt", "Apache-2.0 WITH LLVM-exception"),
        ("musl", "MIT"),
        ("emscripten", "MIT"),
    ],
    "Python module": [("pybind11", "BSD-3-Clause")],
}


def version() -> str:
    header = (ROOT / "cpp/include/edgekit/version.h").read_text(encoding="utf-8")
    return header.partition('EDGEKIT_VERSION "')[2].partition('"')[0]


def artifacts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in PAPERS)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sums(folder: Path) -> str:
    """The form that `sha256sum --check` reads."""
    return "".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in artifacts(folder))


def needed() -> list[str]:
    """purls of what edgekit asks package managers for, for Python and Kotlin; on npm it asks for nothing."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    python = [f"pkg:pypi/{name.lower()}" for name in re.findall(r'^\s*"([\w-]+)', listed, re.MULTILINE)]
    kotlin = re.findall(
        r'"(\S+):(\S+):(\S+)"', (ROOT / "edgekit/package/android.py").read_text(encoding="utf-8")
    )
    return python + [f"pkg:maven/{group}/{name}@{number}" for group, name, number in kotlin]


def sbom(folder: Path) -> dict[str, object]:
    """CycloneDX 1.6: every file with its hash, what is linked into them, and what they ask for."""
    files = [
        {
            "type": "file",
            "bom-ref": str(path.relative_to(folder)),
            "name": str(path.relative_to(folder)),
            "hashes": [{"alg": "SHA-256", "content": sha256(path)}],
        }
        for path in artifacts(folder)
    ]
    linked = [
        {
            "type": "library",
            "bom-ref": f"linked:{where}:{name}",
            "name": name,
            "scope": "required",
            "licenses": [{"expression": licence}],
            "properties": [{"name": "edgekit:linked-into", "value": where}],
        }
        for where, libraries in LINKED.items()
        for name, licence in libraries
    ]
    asked = [
        {"type": "library", "bom-ref": purl, "name": purl.rpartition("/")[2].partition("@")[0], "purl": purl}
        for purl in needed()
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, sums(folder))}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": "edgekit",
                "name": "edgekit",
                "version": version(),
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [*files, *linked, *asked],
        "dependencies": [{"ref": "edgekit", "dependsOn": needed()}],
    }


def notes() -> str:
    """The newest part of CHANGELOG.md."""
    newest = re.split(r"^## .*\n", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    return f"# edgekit {version()}\n\n{newest.strip()}\n"


def repack(path: Path, epoch: int) -> None:
    """The same files in a .tar.gz whose bytes depend on them and on `epoch` (seconds since 1970) alone."""
    written = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    path.write_bytes(gzip.compress(written.getvalue(), mtime=epoch))


def zip_folder(folder: Path, target: Path) -> None:
    """`folder` with its name, in a .zip whose bytes depend on its files alone."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder.parent)))
            file.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--repack", type=int, metavar="EPOCH")
    parser.add_argument("--zip", action="store_true")
    options = parser.parse_args()
    if options.repack is not None:
        repack(options.path, options.repack)
    elif options.zip:
        zip_folder(options.path, options.out)
    else:
        for name, text in zip(
            PAPERS,
            (sums(options.path), json.dumps(sbom(options.path), indent=1) + "\n", notes()),
            strict=True,
        ):
            (options.path / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
