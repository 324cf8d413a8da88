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
