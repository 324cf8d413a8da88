"""q4_block32: 4.25 bits per weight; the layout and the reason for the levels are in
cpp/src/quant/q4_block32.h.

weight[r][k] = row_scale[r] · group_scale[r][k / 32] · LEVELS[code[r][k]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .tiles import F32, GROUP, TILE_ROWS, U8, by_tile, grouped, lines, pad64, round_up, un_by_tile, unlines

LEVELS = np.array([-63, -50, -40, -31, -24, -17, -11, -5, 1, 7, 12, 18, 25, 32, 42, 55], np.float32)
BITS_PER_WEIGHT = 4.25

# Nearest level of x through a table over round(2x): index 128 + round(2x), clipped to a byte.
_HALF_STEPS = (np.arange(256, dtype=np.float32) - 128) / 2
_NEAREST = np.abs(_HALF_STEPS[:, None] - LEVELS[None, :]).argmin(1).astype(np.uint8)
_NEAREST_LEVEL = LEVELS[_NEAREST]

# Fractions of max|w| / 63 at which a scale is tried, each followed by one least-squares refit. The optimum
# lies below 1: clipping the largest weight a little costs less than coarser steps for the other 31.
_START_FRACTIONS = (0.98, 0.86)


def tile_bytes(k: int) -> int:
    groups = round_up(k, GROUP) // GROUP
    return 64 + round_up(16 * groups, 64) + 256 * groups


def _nearest_index(w: F32, inverse: F32) -> U8:
    steps = w * (2 * inverse)[..., None]
    np.rint(steps, out=steps)
    np.clip(steps, -128, 127, out=steps)
    steps += 128
    return steps.astype(np.uint8)


def _safe_inverse(scale: F32) -> F32:
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)


def fit(w: F32, importance: F32 | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int8], F32]:
    """Codes `[n, g, 32]`, group scales int8 `[n, g]` and row scales float32 `[n]` for weights `w[n, g, 32]`.

    Minimises the squared error, each column weighted by `importance[g, 32]` when given (the second moment
    of its activation).
    """
    weighted = w if importance is None else w * importance
    peak_index = np.abs(w).argmax(-1)[..., None]
    peak = np.take_along_axis(w, peak_index, -1)[..., 0]
    best_scale = np.zeros_like(peak)
    best_gain = np.full_like(peak, -1)
    for sign in (-1.0, 1.0):  # the largest weight at level -63, or at +55
        end = 63.0 if sign < 0 else 55.0
        for fraction in _START_FRACTIONS:
            start = peak * np.float32(sign * fraction / end)
            level = _NEAREST_LEVEL[_nearest_index(w, _safe_inverse(start))]
            # Of scale · level, the best scale is <w, level> / <level, level>; it lowers the error by <w,
            # level>² / <level, level>.
            cross = np.einsum("ngk,ngk->ng", weighted, level)
            if importance is not None:
                level *= np.sqrt(importance)
            square = np.einsum("ngk,ngk->ng", level, level)
            gain = np.divide(cross * cross, square, out=np.zeros_like(cross), where=square > 0)
            better = gain > best_gain
            np.copyto(best_gain, gain, where=better)
            np.copyto(
                best_scale, np.divide(cross, square, out=np.zeros_like(cross), where=square > 0), where=better
            )
    row_scale = (np.abs(best_scale).max(1) / 127).astype(np.float32)
    group_scale = np.rint(best_scale * _safe_inverse(row_scale)[:, None]).astype(np.int8)
    scale = group_scale * row_scale[:, None]
    codes = _NEAREST[_nearest_index(w, _safe_inverse(scale))]
    return codes, group_scale, row_scale


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
