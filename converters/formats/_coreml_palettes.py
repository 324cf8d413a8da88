"""Palettes: the weights of a group of rows stand for the nearest of `2 ** bits` values (k-means in one
dimension).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

BINS = 2048  # of a group's range: Lloyd's steps run on a histogram, whatever the number of weights
STEPS = 24


def fit(groups: F32, bits: int) -> F32:
    """Ascending values `[n, 2 ** bits]`, as float16 holds them, for `groups[n, weights]`, of small squared
    error.
    """
    n, count = groups.shape[0], 1 << bits
    low, high = groups.min(1), groups.max(1)
    width = np.maximum(high - low, np.float32(1e-12)) / BINS
    bins = np.clip((groups - low[:, None]) / width[:, None], 0, BINS - 1).astype(np.int32)
    bins += np.arange(n, dtype=np.int32)[:, None] * BINS
    weight = np.bincount(bins.reshape(-1), minlength=n * BINS).reshape(n, BINS).astype(np.float64)
    centre = low[:, None] + (np.arange(BINS) + 0.5) * width[:, None]
    zero = np.zeros((n, 1))
    mass = np.concatenate((zero, np.cumsum(weight, 1)), 1)  # of all bins before
    moment = np.concatenate((zero, np.cumsum(weight * centre, 1)), 1)
    # The best spacing for many values follows the cube root of the density (Panter and Dite, 1951).
    spread = np.cumsum(np.cbrt(weight), 1)
    shares = (np.arange(count) + 0.5) / count
    values = np.empty((n, count))
    for row in range(n):
        values[row] = np.interp(shares * spread[row, -1], spread[row], centre[row])
    for _ in range(STEPS):
        between = (values[:, 1:] + values[:, :-1]) / 2
        edges = np.clip(np.rint((between - low[:, None]) / width[:, None]), 0, BINS).astype(np.int64)
        edges = np.concatenate((np.zeros((n, 1), np.int64), edges, np.full((n, 1), BINS)), 1)
        inside = np.diff(np.take_along_axis(mass, edges, 1), axis=1)
        total = np.diff(np.take_along_axis(moment, edges, 1), axis=1)
        values = np.where(inside > 0, total / np.maximum(inside, 1), values)
    return np.sort(values, 1).astype(np.float16).astype(np.float32)


def encode(groups: F32, values: F32) -> U8:
    """The index of the nearest of its group's values, for each weight; `[n, weights]`."""
    between = (values[:, 1:] + values[:, :-1]) / 2
    codes = np.empty(groups.shape, np.uint8)
    for row, edges in enumerate(between):
        codes[row] = np.searchsorted(edges, groups[row])
    return codes


def decode(codes: U8, values: F32) -> F32:
    return np.take_along_axis(values, codes.astype(np.int64), 1)
