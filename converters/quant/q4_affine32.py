"""q4_affine32: 5 bits per weight; the layout is in cpp/src/quant/q4_affine32.h.

weight[r][k] = row[r] · (scale[r][k / 32] · code[r][k] + minimum[r][k / 32]),   code in 0 … 15

The codes of other affine grids of 4 bits (Q4_1, Q4_K, MLX, AWQ, GPTQ) lie here as they are: scales and minima
are float16, and a row's power of two brings any others into their range.
"""

from __future__ import annotations

import numpy as np

from edgekit.converters.codes import Codes, Layout

from .affine import line, nearest
from .grid import F32, Array, Fitted, Grid, Parameters, by_group
from .tiles import (
    GROUP,
    TILE_ROWS,
    U8,
    by_tile,
    from_planes,
    grouped,
    padded_rows,
    planes,
    tiles_of,
    un_by_tile,
)

HEADER_BYTES = 4 * TILE_ROWS
GROUP_BYTES = (2 + 2) * TILE_ROWS + TILE_ROWS * GROUP // 2
_LARGEST = 14  # of scales and minima, as a power of two: half of what float16 has


class Q4Affine32(Grid):
    def __init__(self) -> None:
        super().__init__("q4_affine32", 4, GROUP)

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        w = by_group(rows, self.groups(rows.shape[1]), GROUP)
        weights = None if importance is None else by_group(importance[None], w.shape[1], GROUP)
        return _stored(*line(w, self.bits, weights), *header)

    def rescaled(self, parameters: Parameters, factors: F32) -> Parameters:
        return _stored(*(each * factors for each in _line(parameters)))

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        scale, minimum = _line(parameters)
        codes = nearest(by_group(rows, scale.shape[1], GROUP), scale, minimum, self.bits)
        return codes.astype(np.uint8).reshape(len(rows), -1)[:, : rows.shape[1]]

    def restore(self, fitted: Fitted) -> F32:
        scale, minimum = _line(fitted.parameters)
        n, k = fitted.codes.shape
        values = by_group(fitted.codes, scale.shape[1], GROUP) * scale[..., None]
        values += minimum[..., None]
        return np.asarray(values.reshape(n, -1)[:, :k], np.float32)

    def tile_bytes(self, k: int) -> int:
        return HEADER_BYTES + GROUP_BYTES * self.groups(k)

    def size_bytes(self, n: int, k: int) -> int:
        return tiles_of(n) * self.tile_bytes(k)

    def pack(self, fitted: Fitted) -> tuple[U8, ...]:
        (row,), tiles = fitted.parameters.header, tiles_of(len(fitted.codes))
        header = padded_rows(row).astype("<f4").view(np.uint8).reshape(tiles, -1)
        scale, minimum = (
            by_tile(padded_rows(each)).astype("<f2").view(np.uint8) for each in fitted.parameters.groups
        )
        codes = planes(grouped(padded_rows(fitted.codes)), (4,))
        return (np.concatenate([header, scale, minimum, codes], 1),)

    def unpack(self, packed: U8, k: int) -> Fitted:
        groups = self.groups(k)
        row = np.ascontiguousarray(packed[:, :HEADER_BYTES]).view("<f4").reshape(-1)
        codes_offset = HEADER_BYTES + 4 * TILE_ROWS * groups
        beside = np.ascontiguousarray(packed[:, HEADER_BYTES:codes_offset]).view("<f2")
        scale, minimum = (un_by_tile(each, groups) for each in np.hsplit(beside, 2))
        parameters = Parameters((scale, minimum), (row,))
        codes = from_planes(packed[:, codes_offset:], groups, (4,))
        return Fitted(codes.reshape(len(row), -1)[:, :k], parameters)

    def keeping(self, layout: Layout) -> Grid | None:
        holds = layout.bits <= self.bits and layout.zero != "other" and layout.group % GROUP == 0
        return self if holds else None

    def taken(self, codes: Codes) -> Fitted:
        own = codes.regrouped(GROUP)
        return Fitted(own.codes, _stored(own.scale, own.offset))


def _stored(scale: F32, minimum: F32, row: F32 | None = None) -> Parameters:
    """As float16 under the row's power of two, `row[n]` where that is given."""
    if row is None:
        largest = np.maximum(np.abs(scale).max(1), np.abs(minimum).max(1))
        row = np.exp2(np.frexp(largest)[1].astype(np.float32) - np.float32(_LARGEST))
    bound = np.finfo(np.float16).max
    lines = (np.clip(each / row[:, None], -bound, bound).astype(np.float16) for each in (scale, minimum))
    return Parameters(tuple(lines), (row.astype(np.float32),))


def _line(parameters: Parameters) -> tuple[F32, F32]:
    """Scales and minima `[n, groups]`, exact: the row's factor is a power of two."""
    (scale, minimum), (row,) = parameters.groups, parameters.header
    return scale.astype(np.float32) * row[:, None], minimum.astype(np.float32) * row[:, None]
