"""Tiles of 16 rows: the one shape in which every matrix lies in an `.edge` file (cpp/src/quant/layout.h).

Four neighbouring columns of 16 rows make one 64-byte line of byte codes. Everything here works on whole
tiles, so that a matrix can be packed a few rows at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE_ROWS = 16
GROUP = 32

# Which of a group's 8 lines share the bytes of a plane, the one in the low bits first, by bits of each.
LINES_OF_PLANES = {
    4: ((0, 4), (1, 5), (2, 6), (3, 7)),
    2: ((0, 1, 2, 3), (4, 5, 6, 7)),
    1: ((0, 1, 2, 3, 4, 5, 6, 7),),
}

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def tiles_of(n: int) -> int:
    return -(-n // TILE_ROWS)


def padded_rows(values: NDArray[Any]) -> NDArray[Any]:
    """Rows of zeros up to a multiple of 16."""
    return np.pad(values, ((0, -len(values) % TILE_ROWS), *((0, 0),) * (values.ndim - 1)))


def grouped(codes: NDArray[Any]) -> NDArray[Any]:
    """`[n, k]` -> `[n, n_groups, 32]`, codes past k zero."""
    n, k = codes.shape
    return np.pad(codes, ((0, 0), (0, -k % GROUP))).reshape(n, -1, GROUP)


def lines(codes: NDArray[Any]) -> NDArray[Any]:
    """`[n, n_groups, columns]` byte codes -> `[n_tiles, n_groups, columns / 4, 16, 4]`, the order of bytes
    in a tile.
    """
    n, groups, columns = codes.shape
    return codes.reshape(n // TILE_ROWS, TILE_ROWS, groups, columns // 4, 4).transpose(0, 2, 3, 1, 4)


def unlines(packed: NDArray[Any]) -> NDArray[Any]:
    """Inverse of `lines`."""
    tiles, groups, quads, rows, _ = packed.shape
    return packed.transpose(0, 3, 1, 2, 4).reshape(tiles * rows, groups, quads * 4)


def planes(codes: U8, fields: tuple[int, ...]) -> U8:
    """Codes `[n, groups, 32]` -> bytes `[n / 16, …]`: group after group, of each the planes of its fields."""
    by_line = lines(codes)
    tiles, groups = by_line.shape[:2]
    by_line = by_line.reshape(tiles, groups, 8, 64)
    stored, shift = [], 0
    for width in fields:
        field = (by_line >> np.uint8(shift)) & np.uint8((1 << width) - 1)
        for members in LINES_OF_PLANES[width]:
            plane = field[:, :, members[0]].copy()
            for i, line in enumerate(members[1:], 1):
                plane |= field[:, :, line] << np.uint8(width * i)
            stored.append(plane)
        shift += width
    return np.stack(stored, 2).reshape(tiles, -1)


def from_planes(stored: U8, groups: int, fields: tuple[int, ...]) -> U8:
    """Inverse of `planes`."""
    tiles = len(stored)
    given = iter(np.moveaxis(stored.reshape(tiles, groups, -1, 64), 2, 0))
    by_line = np.zeros((tiles, groups, 8, 64), np.uint8)
    shift = 0
    for width in fields:
        mask = np.uint8((1 << width) - 1)
        for members in LINES_OF_PLANES[width]:
            plane = next(given)
            for i, line in enumerate(members):
                by_line[:, :, line] |= ((plane >> np.uint8(width * i)) & mask) << np.uint8(shift)
        shift += width
    return unlines(by_line.reshape(tiles, groups, 8, TILE_ROWS, 4))


def by_tile(per_row: NDArray[Any]) -> NDArray[Any]:
    """`[n, n_groups]` values, one per row and group -> `[n_tiles, n_groups · 16]` with row fastest."""
    n, groups = per_row.shape
    return per_row.reshape(n // TILE_ROWS, TILE_ROWS, groups).transpose(0, 2, 1).reshape(n // TILE_ROWS, -1)


def un_by_tile(stored: NDArray[Any], groups: int) -> NDArray[Any]:
    """Inverse of `by_tile`."""
    tiles = stored.shape[0]
    return stored.reshape(tiles, groups, TILE_ROWS).transpose(0, 2, 1).reshape(tiles * TILE_ROWS, groups)


def pad64(columns: U8) -> U8:
    """Zeros after each row of bytes up to a multiple of 64."""
    width = columns.shape[1]
    return np.pad(columns, ((0, 0), (0, round_up(width, 64) - width)))
