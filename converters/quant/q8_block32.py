"""q8_block32: 8.5 bits per weight; the layout is in cpp/src/quant/q8_block32.h.

weight[r][k] = scale[r][k / 32] · code[r][k],   the scale a bfloat16, the code in -127 … 127
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import to_float32
from edgekit.converters.codes import Codes, Layout

from .dense import to_bf16
from .grid import Array, Fitted, Grid, Parameters, by_group, inverse
from .q4_affine32 import Q4Affine32
from .tiles import (
    F32,
    GROUP,
    U8,
    by_tile,
    grouped,
    lines,
    pad64,
    padded_rows,
    round_up,
    tiles_of,
    un_by_tile,
    unlines,
)


class Q8Block32(Grid):
    """Scales follow the range: at 8 bits neither least squares nor importance makes a difference."""

    def __init__(self) -> None:
        super().__init__("q8_block32", 8, GROUP)

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        exact = np.abs(by_group(rows, self.groups(rows.shape[1]), GROUP)).max(-1) / np.float32(127)
        # Rounded up: the largest weight never clips.
        return Parameters((((exact.view(np.uint32) + 0xFFFF) >> 16).astype(np.uint16),))

    def nearest(self, rows: F32, parameters: Parameters) -> NDArray[np.int8]:
        scale = _scale(parameters)
        codes = by_group(rows, scale.shape[1], GROUP) * inverse(scale)[..., None]
        np.rint(codes, out=codes)
        return np.clip(codes, -127, 127).astype(np.int8).reshape(len(rows), -1)[:, : rows.shape[1]]

    def restore(self, fitted: Fitted) -> F32:
        scale, (n, k) = _scale(fitted.parameters), fitted.codes.shape
        values = by_group(fitted.codes, scale.shape[1], GROUP) * scale[..., None]
        return np.asarray(values.reshape(n, -1)[:, :k], np.float32)

    def tile_bytes(self, k: int) -> int:
        groups = self.groups(k)
        return round_up(32 * groups, 64) + 512 * groups

    def size_bytes(self, n: int, k: int) -> int:
        return tiles_of(n) * self.tile_bytes(k)

    def pack(self, fitted: Fitted) -> tuple[U8, ...]:
        codes, scale = padded_rows(fitted.codes), padded_rows(fitted.parameters.groups[0])
        tiles = tiles_of(len(codes))
        beside = by_tile(scale).astype("<u2").view(np.uint8).reshape(tiles, -1)
        stored = lines(grouped(codes)).reshape(tiles, -1).view(np.uint8)
        return (np.concatenate([pad64(beside), stored], 1),)

    def unpack(self, packed: U8, k: int) -> Fitted:
        groups, tiles = self.groups(k), len(packed)
        scale = un_by_tile(np.ascontiguousarray(packed[:, : 32 * groups]).view("<u2"), groups)
        stored = packed[:, round_up(32 * groups, 64) :].view(np.int8)
        codes = unlines(stored.reshape(tiles, groups, 8, 16, 4)).reshape(len(scale), -1)
        return Fitted(codes[:, :k], Parameters((scale,)))

    def keeping(self, layout: Layout) -> Grid | None:
        """Codes of 4 bits stay 4 bits; those of 8 keep their values, their scales the bits of a bfloat16."""
        if layout.bits == 8 and layout.zero == "middle" and layout.group % GROUP == 0:
            return self
        return Q4Affine32().keeping(layout)

    def taken(self, codes: Codes) -> Fitted:
        own = codes.regrouped(GROUP)
        signed = np.maximum(own.codes.astype(np.int16) - 128, -127).astype(np.int8)
        return Fitted(signed, Parameters((to_bf16(own.scale),)))


def _scale(parameters: Parameters) -> F32:
    return to_float32("BF16", parameters.groups[0])
