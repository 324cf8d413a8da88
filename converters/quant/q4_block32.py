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

# The nearest level of x, through a table over 128 + round(1.7 x). The factor keeps the largest weight of a
# group, at most 63 / 0.86 steps, inside a byte; finer steps would be clipped, coarser ones cost accuracy.
_STEPS = np.float32(1.7)
_NEAREST = np.abs((np.arange(256)[:, None] - 128) / _STEPS - LEVELS).argmin(1).astype(np.uint8)
_NEAREST_CODE = _NEAREST.tobytes()
_NEAREST_LEVEL = LEVELS.astype(np.int8)[_NEAREST].tobytes()

# A group's largest weight is put near level -63 or near +55. The best scale lies below the one that reaches
# it exactly: clipping that weight a little costs less than coarser steps for the other 31.
_STARTS = tuple(np.float32(fraction / end) for end in (-63, 55) for fraction in (0.98, 0.86))


def tile_bytes(k: int) -> int:
    groups = round_up(k, GROUP) // GROUP
    return 64 + round_up(16 * groups, 64) + 256 * groups


def _nearest_steps(w: F32, inverse: F32, work: F32, *, clip: bool = False) -> bytes:
    """One byte a weight: where w / scale lies in the tables. `work` is overwritten.

    `clip`: the scale may be one, rounded towards zero, that puts the largest weight outside a byte.
    """
    np.multiply(w, (inverse * _STEPS)[..., None], out=work)
    work += np.float32(128.5)
    if clip:
        np.clip(work, 0, 255, out=work)
    return work.astype(np.uint8).tobytes()


def _inverse(scale: F32) -> F32:
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)


def fit(w: F32, importance: F32 | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int8], F32]:
    """Codes `[n, g, 32]`, group scales int8 `[n, g]` and row scales float32 `[n]` for weights `w[n, g, 32]`.

    Minimises the squared error, each column weighted by `importance[g, 32]` when given (the second moment
    of its activation).
    """
    weighted = w if importance is None else w * importance
    work, level = np.empty_like(w), np.empty_like(w)
    high, low = w.max(-1), w.min(-1)
    peak = np.where(high > -low, high, low)
    best_scale = np.zeros_like(peak)
    best_gain = np.full_like(peak, -1)
    for start in _STARTS:
        steps = _nearest_steps(w, _inverse(peak * start), work)
        level[...] = np.frombuffer(steps.translate(_NEAREST_LEVEL), np.int8).reshape(w.shape)
        # Of all multiples of these levels, <w, level> / <level, level> is nearest to w; it lowers the squared
        # error by <w, level>² / <level, level>.
        cross = np.einsum("ngk,ngk->ng", weighted, level)
        if importance is not None:
            level *= np.sqrt(importance)
        scale = cross * _inverse(np.einsum("ngk,ngk->ng", level, level))
        better = scale * cross > best_gain
        np.copyto(best_gain, scale * cross, where=better)
        np.copyto(best_scale, scale, where=better)
    row_scale = (np.abs(best_scale).max(1) / 127).astype(np.float32)
    group_scale = np.rint(best_scale * _inverse(row_scale)[:, None]).astype(np.int8)
    steps = _nearest_steps(w, _inverse(group_scale * row_scale[:, None]), work, clip=True)
    codes = np.frombuffer(steps.translate(_NEAREST_CODE), np.uint8).reshape(w.shape)
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
