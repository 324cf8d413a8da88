"""Palettes, of Core ML: the weights of 16 rows stand for the nearest of `2 ** bits` values (k-means in one
dimension).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import to_float32

from .dense import narrowed
from .grid import F32, Array, Fitted, Grid, Parameters

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

ROWS = 16  # that share a palette
BINS = 2048  # of their range: Lloyd's steps run on a histogram, whatever the number of weights
STEPS = 24


class Palette(Grid):
    """Values are stored as `dtype`; the last palette may have fewer rows."""

    def __init__(self, bits: int, dtype: str) -> None:
        super().__init__(f"palette{bits}_{dtype.lower()}", bits, 0)
        self.dtype = dtype

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        """The header is each row's palette."""
        if header:
            return Parameters((), header)
        weights = None if importance is None else np.tile(importance, ROWS)
        whole = np.pad(rows, ((0, -len(rows) % ROWS), (0, 0)), "edge").reshape(-1, ROWS * rows.shape[1])
        values = narrowed(fit(whole, self.bits, weights), self.dtype)
        return Parameters((), (np.repeat(values, ROWS, 0)[: len(rows)],))

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        values = to_float32(self.dtype, parameters.header[0])
        between = (values[:, 1:] + values[:, :-1]) / 2
        codes = np.empty(rows.shape, np.uint8)
        for row, edges in enumerate(between):
            codes[row] = np.searchsorted(edges, rows[row])
        return codes

    def restore(self, fitted: Fitted) -> F32:
        values = to_float32(self.dtype, fitted.parameters.header[0])
        return np.take_along_axis(values, fitted.codes.astype(np.int64), 1)

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        """Codes as bytes, and palettes `[n / 16, 2 ** bits]`."""
        return fitted.codes, fitted.parameters.header[0][::ROWS]

    def size_bytes(self, n: int, k: int) -> int:
        floats = 4 if self.dtype == "F32" else 2
        return n * k * self.bits // 8 + -(-n // ROWS) * floats << self.bits


def fit(groups: F32, bits: int, weights: F32 | None = None) -> F32:
    """Ascending values `[n, 2 ** bits]` for `groups[n, count]`, of small squared error, weighted by
    `weights[count]`.
    """
    n, count = groups.shape[0], 1 << bits
    low, high = groups.min(1), groups.max(1)
    width = np.maximum(high - low, np.float32(1e-12)) / BINS
    bins = np.clip((groups - low[:, None]) / width[:, None], 0, BINS - 1).astype(np.int32)
    bins += np.arange(n, dtype=np.int32)[:, None] * BINS
    counts = [np.bincount(bins.reshape(-1), minlength=n * BINS)]
    if weights is not None:  # its steps begin where those without it end
        counts.append(np.bincount(bins.reshape(-1), np.tile(weights, n), n * BINS))
    weight = [each.reshape(n, BINS).astype(np.float64) for each in counts]
    centre = low[:, None] + (np.arange(BINS) + 0.5) * width[:, None]
    # The best spacing for many values follows the cube root of the density (Panter and Dite, 1951).
    spread = np.cumsum(np.cbrt(weight[0]), 1)
    shares = (np.arange(count) + 0.5) / count
    values = np.empty((n, count))
    for row in range(n):
        values[row] = np.interp(shares * spread[row, -1], spread[row], centre[row])
    for each in weight:
        values = _settled(values, each, centre, low, width)
    return np.sort(values, 1).astype(np.float32)


def _settled(values: F64, weight: F64, centre: F64, low: F32, width: F32) -> F64:
    """After Lloyd's steps on a histogram of `weight[n, BINS]` around `centre`."""
    n, zero = len(values), np.zeros((len(values), 1))
    mass = np.concatenate((zero, np.cumsum(weight, 1)), 1)  # of all bins before
    moment = np.concatenate((zero, np.cumsum(weight * centre, 1)), 1)
    for _ in range(STEPS):
        between = (values[:, 1:] + values[:, :-1]) / 2
        edges = np.clip(np.rint((between - low[:, None]) / width[:, None]), 0, BINS).astype(np.int64)
        edges = np.concatenate((np.zeros((n, 1), np.int64), edges, np.full((n, 1), BINS)), 1)
        inside = np.diff(np.take_along_axis(mass, edges, 1), axis=1)
        total = np.diff(np.take_along_axis(moment, edges, 1), axis=1)
        values = np.where(inside > 0, total / np.where(inside > 0, inside, 1), values)
    return values
