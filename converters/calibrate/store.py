"""Codes that have been chosen, a file for each matrix: a calibration that was killed goes on from them."""

from __future__ import annotations

import functools
import shutil
import zipfile
from pathlib import Path

import numpy as np

from edgekit.converters.quant.grid import Fitted, Grid, Parameters
from edgekit.in_place_of import in_place_of


class Store:
    """`folder` belongs to one checkpoint, text and choice of options; it is made when something is put there.
    A file that is damaged counts as none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read = functools.lru_cache(maxsize=4)(_read)  # formats take rows slab by slab

    def put(self, name: str, grid: Grid, fitted: Fitted) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        members = {"codes": fitted.codes}
        members |= {f"group{i}": values for i, values in enumerate(fitted.parameters.groups)}
        members |= {f"header{i}": values for i, values in enumerate(fitted.parameters.header)}
        with in_place_of(self._path(name, grid)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **members)
        self._read.cache_clear()

    def get(self, name: str, grid: Grid) -> Fitted | None:
        return self._read(self._path(name, grid))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str, grid: Grid) -> Path:
        return self.folder / f"{name}-{grid}.npz"


def _read(path: Path) -> Fitted | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            groups, header = (
                tuple(file[name] for name in sorted(file.files) if name.startswith(kind))
                for kind in ("group", "header")
            )
            return Fitted(file["codes"], Parameters(groups, header))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
