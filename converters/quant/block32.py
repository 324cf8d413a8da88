"""Groups of 32 weights that are integer levels under an 8-bit scale of a row's own:

    weight[r][k] = row_scale[r] · group_scale[r][k / 32] · level[code[r][k]]

What tells `q3_block32` to `q6_block32` from each other are their levels, and how the bits of a code are
spread over planes; the bytes are in cpp/src/quant/<name>.h. `runtimes/python/encode_block32.cpp` does the
same in C++.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.codes import Layout

from .grid import Array, Fitted, Grid, Parameters, by_group
from .q4_affine32 import Q4Affine32
from .tiles import (
    F32,
    GROUP,
    TILE_ROWS,
    U8,
    by_tile,
    from_planes,
    grouped,
    pad64,
    padded_rows,
    planes,
    round_up,
    tiles_of,
    un_by_tile,
)

# Weights are sought in tables of 256 bytes, one for every step the weight may lie from zero.
_BYTES = np.arange(256, dtype=np.float32) - 128
# A scale below this has no inverse in float32 that could be stepped through: its weights count as zeros.
_SMALLEST = np.float32(1e-36)

# (weights [32, m], importance [32, m] or None, tables) -> the best scale of each of the m columns
ScaleFit = Callable[[F32, F32 | None, Sequence[bytes]], F32]


class Block32(Grid):
    """`fields`: the bits of a code, low ones first, and so its planes. `ends`: the levels that a group's
    largest weight is put at by turns; beyond the last one it is clipped, which can cost less than coarser
    steps for the other 31. `steps`: levels are told apart by such parts of an integer, so that the largest
    weight stays inside a byte; levels that follow one another need no parts.
    """

    def __init__(
        self,
        name: str,
        levels: Sequence[int],
        fields: tuple[int, ...],
        ends: Sequence[float],
        steps: float = 1,
    ) -> None:
        super().__init__(name, sum(fields), GROUP)
        self.levels = np.array(levels, np.float32)
        self.fields = fields
        self.zero = int(np.abs(self.levels).argmin())
        self.steps = steps
        self.nearest_code = self._nearest(_BYTES / np.float32(steps)).astype(np.uint8).tobytes()
        # Each table gives the level of a weight that is so many 127ths of the largest.
        self.starts = tuple(
            self.levels.astype(np.int8)[self._nearest(_BYTES * np.float32(end / 127))].tobytes()
            for end in ends
        )

    def _nearest(self, x: F32) -> NDArray[np.intp]:
        return np.abs(x[:, None] - self.levels).argmin(1)

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        n = len(rows)
        w = by_group(rows, self.groups(rows.shape[1]), GROUP)
        # A group down a column, so that whatever is done to all groups runs along contiguous memory.
        x = np.ascontiguousarray(w.reshape(-1, w.shape[2]).T)
        if importance is not None:
            importance = np.tile(by_group(importance[None], w.shape[1], GROUP)[0].T, n)
        return _stored(best_scales(x, importance, self.starts).reshape(n, -1), *header)

    def rescaled(self, parameters: Parameters, factors: F32) -> Parameters:
        (group_scale,), (row_scale,) = parameters.groups, parameters.header
        return _stored(group_scale * row_scale[:, None] * factors)

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        (group_scale,), (row_scale,) = parameters.groups, parameters.header
        w = by_group(rows, group_scale.shape[1], GROUP)
        x = np.ascontiguousarray(w.reshape(-1, w.shape[2]).T)
        inverse = _inverse(group_scale * row_scale[:, None]).reshape(-1)
        steps = _to_bytes(x, np.float32(self.steps) * inverse, np.empty_like(x))
        codes = np.frombuffer(steps.translate(self.nearest_code), np.uint8)
        return codes.reshape(x.shape).T.reshape(len(rows), -1)[:, : rows.shape[1]]

    def restore(self, fitted: Fitted) -> F32:
        (group_scale,), (row_scale,) = fitted.parameters.groups, fitted.parameters.header
        levels = by_group(self.levels[fitted.codes], group_scale.shape[1], GROUP)
        # The engine's order of rounding: the group scale times the row scale last, as its kernels do.
        values = levels * group_scale[..., None].astype(np.float32) * row_scale[:, None, None]
        return np.asarray(values.reshape(len(row_scale), -1)[:, : fitted.codes.shape[1]])

    def keeping(self, layout: Layout) -> Grid | None:
        """Codes of at most 4 bits lie in affine groups as they are."""
        return Q4Affine32().keeping(layout) if self.bits >= 4 else None

    def codes_offset(self, k: int) -> int:
        return 4 * TILE_ROWS + round_up(TILE_ROWS * self.groups(k), 64)

    def tile_bytes(self, k: int) -> int:
        return self.codes_offset(k) + TILE_ROWS * GROUP * self.bits // 8 * self.groups(k)

    def size_bytes(self, n: int, k: int) -> int:
        return tiles_of(n) * self.tile_bytes(k)

    def pack(self, fitted: Fitted) -> tuple[U8, ...]:
        (group_scale,), (row_scale,) = fitted.parameters.groups, fitted.parameters.header
        tiles = tiles_of(len(row_scale))
        header = padded_rows(row_scale).astype("<f4").view(np.uint8).reshape(tiles, -1)
        scales = pad64(np.ascontiguousarray(by_tile(padded_rows(group_scale))).view(np.uint8))
        zero = np.uint8(self.zero)  # padding stands for weights of zero
        codes = grouped(padded_rows(fitted.codes ^ zero)) ^ zero
        return (np.concatenate([header, scales, planes(codes, self.fields)], 1),)

    def unpack(self, packed: U8, k: int) -> Fitted:
        groups = self.groups(k)
        row_scale = np.ascontiguousarray(packed[:, : 4 * TILE_ROWS]).view("<f4").reshape(-1)
        scales = np.ascontiguousarray(packed[:, 4 * TILE_ROWS :][:, : TILE_ROWS * groups]).view(np.int8)
        codes = from_planes(packed[:, self.codes_offset(k) :], groups, self.fields)
        parameters = Parameters((un_by_tile(scales, groups),), (row_scale,))
        return Fitted(codes.reshape(len(row_scale), -1)[:, :k], parameters)


def _stored(scale: F32, row_scale: F32 | None = None) -> Parameters:
    """Scales `[n, groups]` as bytes under that of their row, `row_scale[n]` where it is given."""
    if row_scale is None:
        row_scale = (np.abs(scale).max(1) / 127).astype(np.float32)
    steps = np.clip(np.rint(scale * _inverse(row_scale)[:, None]), -127, 127)
    return Parameters((steps.astype(np.int8),), (row_scale,))


def best_scales(x: F32, importance: F32 | None, starts: Sequence[bytes]) -> F32:
    """Of each column of `x[32, m]` the multiple of levels that is nearest to it, of those that the starts
    lead to; errors weighted by `importance[32, m]`.
    """
    weighted = x if importance is None else x * importance
    root = None if importance is None else np.sqrt(importance)
    level = np.empty_like(x)
    high, low = x.max(0), x.min(0)
    steps = _to_bytes(x, 127 * _inverse(np.where(high > -low, high, low)), level)
    best_scale = np.zeros_like(high)
    best_gain = np.full_like(high, -1)
    for levels in starts:
        level[...] = np.frombuffer(steps.translate(levels), np.int8).reshape(x.shape)
        # Of all multiples of these levels, <x, level> / <level, level> is nearest to x; it lowers the squared
        # error by <x, level>² / <level, level>.
        cross = np.einsum("km,km->m", weighted, level)
        if root is not None:
            level *= root
        scale = cross * _inverse(np.einsum("km,km->m", level, level))
        gain = scale * cross
        better = gain > best_gain
        np.copyto(best_gain, gain, where=better)
        np.copyto(best_scale, scale, where=better)
    return best_scale


def _to_bytes(x: F32, factor: F32, work: F32) -> bytearray:
    """128 + round(x[32, m] · factor[m]), clipped to a byte, one a weight. `work[32, m]` is overwritten."""
    np.multiply(x, factor, out=work)
    work += np.float32(128.5)
    np.clip(work, 0, 255, out=work)
    return bytearray(work.astype(np.uint8))  # its translate() is twice as fast as that of bytes


def _inverse(scale: F32) -> F32:
    """1 / scale, and 0 where that would overflow or has no meaning."""
    return np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > _SMALLEST)
