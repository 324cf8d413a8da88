"""q4_block32: 4.25 bits per weight; the layout and the reason for the levels are in
cpp/src/quant/q4_block32.h. `runtimes/python/encode_q4_block32.cpp` does the same in C++.

weight[r][k] = row_scale[r] · group_scale[r][k / 32] · LEVELS[code[r][k]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .tiles import F32, GROUP, TILE_ROWS, U8, by_tile, grouped, lines, pad64, round_up, un_by_tile, unlines

LEVELS = np.array([-31, -24, -18, -14, -11, -8, -5, -2, 0, 3, 6, 9, 12, 16, 21, 30], np.float32)
BITS_PER_WEIGHT = 4.25

# Weights are sought in tables of 256 bytes, one for every step the weight may lie from zero.
_BYTES = np.arange(256, dtype=np.float32) - 128


def _nearest(x: F32) -> NDArray[np.intp]:
    return np.abs(x[:, None] - LEVELS).argmin(1)


# A scale below this has no inverse in float32 that could be stepped through: its weights count as zeros.
_SMALLEST = np.float32(1e-36)

# Steps of 1 / 3.4: the largest weight of a group, at most 31 / 0.85 from zero, stays inside a byte; finer
# steps would be clipped, coarser ones cost accuracy.
_STEPS = np.float32(3.4)
NEAREST_CODE = _nearest(_BYTES / _STEPS).astype(np.uint8).tobytes()

# A group's largest weight is put at level -31 or at 30, or 8% beyond, because clipping it can cost less than
# coarser steps for the other 31. Each table gives the level of a weight that is so many 127ths of the
# largest.
STARTS = tuple(
    LEVELS.astype(np.int8)[_nearest(_BYTES * np.float32(end / 127))].tobytes()
    for end in (-31, 30, -31 / 0.92, 30 / 0.92)
)


def tile_bytes(k: int) -> int:
    groups = round_up(k, GROUP) // GROUP
    return 64 + round_up(16 * groups, 64) + 256 * groups


def _to_bytes(w: F32, factor: F32, work: F32) -> bytearray:
    """128 + round(w[32, m] · factor[m]), clipped to a byte, one a weight. `work[32, m]` is overwritten."""
    np.multiply(w, factor, out=work)
    work += np.float32(128.5)
    np.clip(work, 0, 255, out=work)
    return bytearray(work.astype(np.uint8))  # its translate() is twice as fast as that of bytes


def _inverse(scale: F32) -> F32:
    """1 / scale, and 0 where that would overflow or has no meaning."""
    return np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > _SMALLEST)


def fit(w: F32, importance: F32 | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int8], F32]:
    """Codes `[n, g, 32]`, group scales int8 `[n, g]` and row scales float32 `[n]` for weights `w[n, g, 32]`.

    Minimises the squared error, each column weighted by `importance[g, 32]` when given (the second moment
    of its activation).
    """
    n, groups, _ = w.shape
    # A group down a column, so that whatever is done to all groups runs along contiguous memory.
    x = np.ascontiguousarray(w.reshape(-1, GROUP).T)
    weighted = x
    if importance is not None:
        importance = np.tile(importance.T, n)
        weighted, importance = x * importance, np.sqrt(importance)
    work, level = np.empty_like(x), np.empty_like(x)
    high, low = x.max(0), x.min(0)
    steps = _to_bytes(x, 127 * _inverse(np.where(high > -low, high, low)), work)
    best_scale = np.zeros_like(high)
    best_gain = np.full_like(high, -1)
    for levels in STARTS:
        level[...] = np.frombuffer(steps.translate(levels), np.int8).reshape(x.shape)
        # Of all multiples of these levels, <x, level> / <level, level> is nearest to x; it lowers the squared
        # error by <x, level>² / <level, level>.
        cross = np.einsum("km,km->m", weighted, level)
        if importance is not None:
            level *= importance
        scale = cross * _inverse(np.einsum("km,km->m", level, level))
        gain = scale * cross
        better = gain > best_gain
        np.copyto(best_gain, gain, where=better)
        np.copyto(best_scale, scale, where=better)
    best_scale = best_scale.reshape(n, groups)
    row_scale = (np.abs(best_scale).max(1) / 127).astype(np.float32)
    group_scale = np.rint(best_scale * _inverse(row_scale)[:, None]).astype(np.int8)
    steps = _to_bytes(x, _STEPS * _inverse(group_scale * row_scale[:, None]).reshape(-1), work)
    codes = np.frombuffer(steps.translate(NEAREST_CODE), np.uint8).reshape(GROUP, n, groups)
    return codes.transpose(1, 2, 0), group_scale, row_scale


def pack(codes: NDArray[np.uint8], group_scale: NDArray[np.int8], row_scale: F32) -> U8:
    """The bytes `[n_tiles, tile_bytes]` of rows whose number is a multiple of 16."""
    tiles = codes.shape[0] // TILE_ROWS
    nibbles = lines(codes[..., :16] | (codes[..., 16:] << 4)).reshape(tiles, -1)
    rows = row_scale.astype("<f4").view(np.uint8).reshape(tiles, 64)
    scales = pad64(np.ascontiguousarray(by_tile(group_scale)).view(np.uint8))
    return np.concatenate([rows, scales, nibbles], 1)


def encode(w: F32, importance: F32 | None = None) -> U8:
    """Bytes `[n / 16, tile_bytes(k)]` of `w[n, k]`, n a multiple of 16; `importance[k]` as in `fit`."""
    weights = None if importance is None else grouped(importance[None, :])[0]
    return pack(*fit(grouped(w), weights))


def decode(packed: U8, k: int) -> F32:
    """The weights float32 `[n, k]` that `encode`'s bytes stand for."""
    groups = round_up(k, GROUP) // GROUP
    tiles = packed.shape[0]
    scales_end = 64 + 16 * groups
    row_scale = np.ascontiguousarray(packed[:, :64]).view("<f4").reshape(-1)
    group_scale = un_by_tile(np.ascontiguousarray(packed[:, 64:scales_end]).view(np.int8), groups)
    nibbles = unlines(packed[:, 64 + round_up(16 * groups, 64) :].reshape(tiles, groups, 4, TILE_ROWS, 4))
    codes = np.concatenate([nibbles & 15, nibbles >> 4], -1)
    # The engine's order of rounding: the group scale times the row scale last, as its kernels do.
    values = LEVELS[codes] * group_scale[..., None].astype(np.float32) * row_scale[:, None, None]
    return values.reshape(tiles * TILE_ROWS, groups * GROUP)[:, :k]
