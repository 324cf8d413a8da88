"""embeddings.bin: the rows of an embedding beside a graph that has none, because a gather leaves the Neural
Engine. Whoever drives the graph reads a token's row and gives it as an input.

A row is `d_model` numbers, in the file's type; of int8 a float32 scale follows, by which they are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats._coreml_codes import Scheme, SignedBlocks
from edgekit.converters.formats._parallel import in_order, row_slabs
from edgekit.converters.quant.dense import Dense
from edgekit.converters.quant.grid import Grid
from edgekit.errors import InvalidFile

FILE = "embeddings.bin"
F32 = NDArray[np.float32]


def grid(scheme: Scheme) -> Grid:
    """Rows of a graph with plain weights are plain too; 8 bits serve all others."""
    return SignedBlocks(8, 0, "F32") if scheme.bits else Dense(scheme.type)


def row_type(scheme: Scheme, d_model: int) -> np.dtype[Any]:
    """Of a row in the file."""
    if scheme.bits:
        return np.dtype([("codes", "i1", d_model), ("scale", "<f4")])
    return np.dtype([("codes", "<f2" if scheme.type == "F16" else "<f4", d_model)])


def write(model: ConvertInput, path: Path, scheme: Scheme) -> None:
    vocab_size, d_model = model.spec.shape("embed")
    kind, codes = row_type(scheme, d_model), grid(scheme)

    def rows(slab: tuple[int, int]) -> NDArray[Any]:
        found = np.empty(slab[1] - slab[0], kind)
        for name, part in zip(kind.names or (), codes.pack(model.fitted("embed", codes, slab)), strict=True):
            found[name] = part.reshape(found[name].shape)
        return found

    with (path / FILE).open("wb") as file:
        for slab in in_order(rows, row_slabs(vocab_size, d_model)):
            file.write(slab.data)


def reader(
    path: Path, scheme: Scheme, vocab_size: int, d_model: int
) -> Callable[[Sequence[int] | slice], F32]:
    """Reads rows `[n, d_model]` as float32, of ids or of a slice. Raises InvalidFile for a file of another
    size.
    """
    kind, file = row_type(scheme, d_model), path / FILE
    size = file.stat().st_size if file.is_file() else 0
    if size != vocab_size * kind.itemsize:
        raise InvalidFile(
            f"{file} has {size} bytes; {vocab_size} rows of {kind.itemsize} are expected",
            hint="convert the checkpoint again",
        )
    table = np.memmap(file, kind, "r")

    def read(ids: Sequence[int] | slice) -> F32:
        rows = table[ids]
        values = rows["codes"].astype(np.float32)
        return values * rows["scale"][:, None] if scheme.bits else values

    return read
