"""The files of what may be one or a folder of them: a package, a checkpoint, an output."""

from __future__ import annotations

from pathlib import Path


def files_of(path: Path) -> list[Path]:
    """In the order of their names."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def bytes_of(path: Path) -> int:
    """Of all of them."""
    return sum(file.stat().st_size for file in files_of(path))
