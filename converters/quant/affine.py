"""Affine groups, MLX's quantization: `weight = scale * code + bias`, one scale and bias for each group of a
row.

Codes of any width lie in one stream of bits per row, low bits first, cut into uint32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import to_float32
from edgekit.converters.codes import Codes, Layout

from .dense import narrowed
from .grid import F32, Array, Fitted, Grid, Parameters, by_group, inverse

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)

# Least-squares refits by bits: the error of Gaussian weights falls by 26, 14, 8, 5 and 5 percent. 8 bits need
# none.
_REFITS = {2: 5, 3: 3, 4: 2, 5: 1, 6: 1, 8: 0}


class Affine(Grid):
    """Scales and biases are stored as `dtype`: "F32", "F16" or "BF16"."""

    def __init__(self, bits: int, group: int, dtype: str) -> None:
        super().__init__(f"affine{bits}_g{group}_{dtype.lower()}", bits, group)
        self.dtype = dtype

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        w = by_group(rows, self.groups(rows.shape[1]), self.group)
        weights = None if importance is None else by_group(importance[None], w.shape[1], self.group)
        return Parameters(tuple(narrowed(values, self.dtype) for values in line(w, self.bits, weights)))

    def line(self, parameters: Parameters) -> tuple[F32, F32]:
        """Scales and biases `[n, groups]` as an engine has them."""
        scale, bias = (to_float32(self.dtype, values) for values in parameters.groups)
        return scale, bias

    def rescaled(self, parameters: Parameters, factors: F32) -> Parameters:
        return Parameters(tuple(narrowed(each * factors, self.dtype) for each in self.line(parameters)))

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        scale, bias = self.line(parameters)
        codes = nearest(by_group(rows, scale.shape[1], self.group), scale, bias, self.bits)
        return codes.astype(np.uint8).reshape(len(rows), -1)[:, : rows.shape[1]]

    def restore(self, fitted: Fitted) -> F32:
        return values(fitted.codes, *self.line(fitted.parameters))

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        return pack(fitted.codes, self.bits), *fitted.parameters.groups

    def size_bytes(self, n: int, k: int) -> int:
        floats = 4 if self.dtype == "F32" else 2
        return n * (k * self.bits // 8 + 2 * floats * self.groups(k))

    def keeping(self, layout: Layout) -> Grid | None:
        """Groups of a multiple of those that MLX has are repeated."""
        group = max((size for size in GROUPS if layout.group % size == 0), default=0)
        if layout.zero == "other" or layout.bits not in BITS or layout.bits > self.bits or not group:
            return None
        return Affine(layout.bits, group, self.dtype)

    def taken(self, codes: Codes) -> Fitted:
        own = codes.regrouped(self.group)
        line = (narrowed(values, self.dtype) for values in (own.scale, own.offset))
        return Fitted(own.codes, Parameters(tuple(line)))


def line(w: F32, bits: int, weights: F32 | None = None) -> tuple[F32, F32]:
    """Scales and biases `[n, groups]` for `w[n, groups, columns]`, of small squared error, weighted by
    `weights[1, groups, columns]`.

    Starts at the group's range and alternates between the nearest codes and the least-squares line through
    them. A group's largest weight is a code's value at the start, as in MLX, so that zeros stay zeros.
    """
    low, high = w.min(-1), w.max(-1)
    scale = np.maximum((high - low) / np.float32((1 << bits) - 1), np.float32(1e-7))
    from_low = np.abs(low) > np.abs(high)
    scale = np.where(from_low, scale, -scale)
    edge = np.where(from_low, low, high)
    steps = np.rint(edge / scale)
    scale = np.where(steps != 0, edge / np.where(steps != 0, steps, 1), scale)
    bias = np.where(steps != 0, edge, np.float32(0))
    for _ in range(_REFITS[bits]):
        scale, bias = _refit(w, nearest(w, scale, bias, bits), scale, bias, weights)
    return scale, bias


def nearest(w: F32, scale: F32, bias: F32, bits: int) -> F32:
    """Codes of `w[n, groups, columns]`."""
    codes = w - bias[..., None]
    codes *= inverse(scale)[..., None]
    np.rint(codes, out=codes)
    return np.clip(codes, 0, (1 << bits) - 1, out=codes)


def values(codes: U8, scale: F32, bias: F32) -> F32:
    """Weights `[n, k]` of codes `[n, k]`."""
    n, k = codes.shape
    groups = scale.shape[1]
    found = by_group(codes, groups, -(-k // groups)) * scale[..., None]
    found += bias[..., None]
    return np.asarray(found.reshape(n, -1)[:, :k], np.float32)


def _refit(w: F32, codes: F32, scale: F32, bias: F32, weights: F32 | None) -> tuple[F32, F32]:
    """The least-squares line through (code, weight); what was given where all codes are equal."""
    if weights is None:
        weights = np.ones((1, *w.shape[1:]), np.float32)
    size = weights.sum(-1)
    weighed = codes * weights
    sum_codes, sum_w = weighed.sum(-1), np.einsum("ngk,ogk->ng", w, weights)
    square = np.einsum("ngk,ngk->ng", weighed, codes) - sum_codes * sum_codes / size
    cross = np.einsum("ngk,ngk->ng", weighed, w) - sum_codes * sum_w / size
    spread = square > np.float32(0.5) * weights.mean(-1)
    slope = np.divide(cross, square, out=scale.copy(), where=spread)
    return slope, np.where(spread, (sum_w - slope * sum_codes) / size, bias)


def pack(codes: U8, bits: int) -> U32:
    """`[n, k]` codes -> `[n, k * bits / 32]`."""
    n, k = codes.shape
    if 8 % bits == 0:
        per_byte = 8 // bits
        parts = codes.reshape(n, k // per_byte, per_byte)
        packed = parts[..., 0].copy()
        for i in range(1, per_byte):
            packed |= parts[..., i] << np.uint8(i * bits)
    else:
        stream = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little").reshape(n, k * bits)
        packed = np.packbits(stream, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4")


def unpack(packed: U32, bits: int) -> U8:
    """Inverse of `pack`."""
    n = packed.shape[0]
    stream = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=-1, bitorder="little")
    return np.packbits(stream.reshape(n, -1, bits), axis=-1, bitorder="little")[..., 0]
