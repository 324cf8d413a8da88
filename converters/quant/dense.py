"""f32, f16 and bf16 tiles: element 16·k + r of a tile is row r, column k (cpp/src/quant/dense.h)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .tiles import F32, TILE_ROWS, U8, pad64

ITEM_BYTES = {"f32": 4, "f16": 2, "bf16": 2}


def tile_bytes(layout: str, k: int) -> int:
    return -(-TILE_ROWS * ITEM_BYTES[layout] * k // 64) * 64


def to_bf16(w: F32) -> NDArray[np.uint16]:
    """The nearest bfloat16 (ties to even), as its upper 16 bits."""
    bits = np.ascontiguousarray(w).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def fits_f16(w: F32) -> bool:
    """Whether float16 holds every weight without overflow and without losing any bit that bfloat16 would
    keep.
    """
    half = w.astype(np.float16).astype(np.float32)
    return bool(np.isfinite(half).all() and (np.abs(half - w) <= np.abs(w) * 2.0**-9).all())


def encode(layout: str, w: F32) -> U8:
    """Bytes `[n / 16, tile_bytes]` of `w[n, k]`, n a multiple of 16."""
    tiles = w.shape[0] // TILE_ROWS
    turned = w.reshape(tiles, TILE_ROWS, w.shape[1]).transpose(0, 2, 1)
    stored: NDArray[np.generic]
    if layout == "f32":
        stored = turned.astype("<f4")
    elif layout == "f16":
        stored = turned.astype("<f2")
    else:
        stored = to_bf16(turned)
    return pad64(np.ascontiguousarray(stored).reshape(tiles, -1).view(np.uint8))


def decode(layout: str, packed: U8, k: int) -> F32:
    """The weights float32 `[n, k]` that `encode`'s bytes stand for."""
    tiles = packed.shape[0]
    used = np.ascontiguousarray(packed[:, : TILE_ROWS * ITEM_BYTES[layout] * k])
    if layout == "bf16":
        values = (used.view("<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = used.view("<f4" if layout == "f32" else "<f2").astype(np.float32)
    return values.reshape(tiles, k, TILE_ROWS).transpose(0, 2, 1).reshape(tiles * TILE_ROWS, k)
