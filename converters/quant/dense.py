"""f32, f16 and bf16: weights as they are. In a tile of an `.edge` file element 16·k + r is row r, column k
(cpp/src/quant/dense.h).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import to_float32

from .grid import Array, Fitted, Grid, Parameters
from .tiles import F32, TILE_ROWS, U8, pad64, padded_rows, tiles_of

NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def to_bf16(w: F32) -> NDArray[np.uint16]:
    """The nearest bfloat16 (ties to even), as its upper 16 bits."""
    bits = np.ascontiguousarray(w).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def narrowed(values: F32, dtype: str) -> Array:
    """float32 as "F32", "F16" or "BF16" (its bits in uint16); `to_float32` is the inverse."""
    return to_bf16(values) if dtype == "BF16" else values.astype(NUMPY[dtype])


def fits_f16(w: F32) -> bool:
    """Whether float16 holds every weight without overflow and without losing any bit that bfloat16 would
    keep.
    """
    half = w.astype(np.float16).astype(np.float32)
    return bool(np.isfinite(half).all() and (np.abs(half - w) <= np.abs(w) * 2.0**-9).all())


class Dense(Grid):
    """A code is the weight's own bits."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype.lower(), 8 * np.dtype(NUMPY[dtype]).itemsize, 0)
        self.dtype = dtype

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        return Parameters(())

    def nearest(self, rows: F32, parameters: Parameters) -> Array:
        return narrowed(rows, self.dtype)

    def restore(self, fitted: Fitted) -> F32:
        return to_float32(self.dtype, fitted.codes)

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        return (fitted.codes,)

    def size_bytes(self, n: int, k: int) -> int:
        return n * k * self.bits // 8


class DenseTiles(Dense):
    """The same in tiles."""

    def tile_bytes(self, k: int) -> int:
        return -(-TILE_ROWS * self.bits // 8 * k // 64) * 64

    def size_bytes(self, n: int, k: int) -> int:
        return tiles_of(n) * self.tile_bytes(k)

    def pack(self, fitted: Fitted) -> tuple[U8, ...]:
        codes = padded_rows(fitted.codes)
        tiles = codes.reshape(-1, TILE_ROWS, codes.shape[1]).transpose(0, 2, 1)
        return (pad64(np.ascontiguousarray(tiles).reshape(len(tiles), -1).view(np.uint8)),)

    def unpack(self, packed: U8, k: int) -> Fitted:
        used = np.ascontiguousarray(packed[:, : TILE_ROWS * self.bits // 8 * k]).view(NUMPY[self.dtype])
        return Fitted(used.reshape(-1, k, TILE_ROWS).transpose(0, 2, 1).reshape(-1, k), Parameters(()))
