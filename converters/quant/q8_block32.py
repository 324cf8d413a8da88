"""q8_block32: 8.5 bits per weight; the layout is in cpp/src/quant/q8_block32.h.

weight[r][k] = scale[r][k / 32] · code[r][k],   the scale a bfloat16, the code in -127 … 127
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .tiles import F32, GROUP, TILE_ROWS, U8, by_tile, grouped, lines, pad64, round_up, un_by_tile, unlines

BITS_PER_WEIGHT = 8.5


def tile_bytes(k: int) -> int:
    groups = round_up(k, GROUP) // GROUP
    return round_up(32 * groups, 64) + 512 * groups


def fit(w: F32) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """Codes `[n, g, 32]` and bfloat16 scales (as uint16) `[n, g]` by round-to-nearest of `w[n, g, 32]`."""
    exact = np.abs(w).max(-1) / np.float32(127)
    bits = exact.view(np.uint32)
    stored = ((bits + 0xFFFF) >> 16).astype(np.uint16)  # rounded up: the largest weight never clips
    scale = (stored.astype(np.uint32) << 16).view(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    return np.rint(w * inverse[..., None]).astype(np.int8), stored


def pack(codes: NDArray[np.int8], scale: NDArray[np.uint16]) -> U8:
    """The bytes `[n_tiles, tile_bytes]` of rows whose number is a multiple of 16."""
    tiles = codes.shape[0] // TILE_ROWS
    scales = pad64(np.ascontiguousarray(by_tile(scale)).astype("<u2").view(np.uint8).reshape(tiles, -1))
    return np.concatenate([scales, lines(codes).reshape(tiles, -1).view(np.uint8)], 1)


def encode(w: F32, importance: F32 | None = None) -> U8:
    """Bytes `[n / 16, tile_bytes(k)]` of `w[n, k]`, n a multiple of 16. `importance` makes no difference at
    8 bits.
    """
    return pack(*fit(grouped(w)))


def decode(packed: U8, k: int) -> F32:
    """The weights float32 `[n, k]` that `encode`'s bytes stand for."""
    groups = round_up(k, GROUP) // GROUP
    tiles = packed.shape[0]
    stored = np.ascontiguousarray(packed[:, : 32 * groups]).view("<u2")
    scale = (un_by_tile(stored, groups).astype(np.uint32) << 16).view(np.float32)
    codes = unlines(
        packed[:, round_up(32 * groups, 64) :].view(np.int8).reshape(tiles, groups, 8, TILE_ROWS, 4)
    )
    return (codes * scale[..., None]).reshape(tiles * TILE_ROWS, groups * GROUP)[:, :k]
