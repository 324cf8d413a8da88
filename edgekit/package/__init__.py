"""The SDK an app embeds, as a folder to drop in: the module of a target's name, in this folder.

Each has `package(model, out, report) -> files written`: it fills the empty directory `out` with the SDK, the
model unless that is None, and a README with the lines of code to paste and the sizes of everything, and tells
`report` how far it is.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from edgekit.errors import UsageError
from edgekit.in_place_of import in_place_of
from edgekit.submodules import submodules

# What is done, how much of it, of how much (0: not known).
Report: TypeAlias = Callable[[str, int, int], None]
_INSTALLED = Path(__file__).resolve().parents[1] / "sdk"
# What the SDKs are made from: a wheel's copy (setup.py puts it there), or the repository.
ROOT = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[2]


def targets() -> list[str]:
    return submodules(__path__)


def sources(target: str) -> Path:
    """`runtimes/<target>` of the repository. Raises UsageError where edgekit was installed without it."""
    path = ROOT / "runtimes" / target
    if not (path.is_dir() and (ROOT / "cpp" / "include").is_dir()):
        raise UsageError(
            f"the sources of the {target} SDK are not in this installation of edgekit",
            hint="install its wheel, or clone edgekit's repository and install from there: pip install -e .",
        )
    return path


def version() -> str:
    """Of the sources the SDKs are made from."""
    header = (ROOT / "cpp" / "include" / "edgekit" / "version.h").read_text(encoding="utf-8")
    return header.partition('EDGEKIT_VERSION "')[2].partition('"')[0]


def build_folder(name: str) -> Path:
    """Where compiled objects are kept between builds: in the repository, or in the user's cache."""
    if ROOT != _INSTALLED:
        return ROOT / "build" / name
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edgekit" / "build" / name


def package(target: str, model: Path | None, out: Path, report: Report | None = None) -> list[Path]:
    """Writes the folder `out`, whole or not at all; the files in it. Raises UsageError, what a target needs
    and is missing included, and IoFailure.
    """
    if target not in targets():
        raise UsageError(f"there is no target {target!r}; choose one of: {', '.join(targets())}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} is there already; give another name, or remove it first")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out.absolute().parent} is no directory; create it first")
    with in_place_of(out) as temporary:
        temporary.mkdir()
        files = importlib.import_module(f"{__name__}.{target}").package(
            model, temporary, report or (lambda what, done, total: None)
        )
    return sorted(out / file.relative_to(temporary) for file in files)
