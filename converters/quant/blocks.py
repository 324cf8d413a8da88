"""Symmetric blocks, of ONNX Runtime's MatMulNBits and of Core ML: `weight = scale * (code - zero)`, a scale
for each block, the zero in the middle or one for each block.

Scales may be negative. Low bits come first; a row is padded to whole blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import to_float32
from edgekit.converters.codes import Codes, Layout

from .dense import narrowed
from .grid import F32, Array, Fitted, Grid, Parameters, by_group, inverse

U8 = NDArray[np.uint8]

BITS = (2, 4, 8)
BLOCKS = (16, 32, 64, 128, 256)
# Shares of the peak at which a scale is tried, followed by a least-squares fit: clipping the largest weight a
# little costs less than coarser steps for the others. With 8 bits the lowest code stays free: other layouts
# do not have it.
_SHARES = {2: (1.0, 0.8, 0.6), 4: (1.0, 0.9), 8: (128 / 127,)}


class Blocks(Grid):
    """Scales are stored as `dtype`. With `zeros` blocks have zeros of their own, which only codes of
    checkpoints do: fitted codes have theirs in the middle.
    """

    def __init__(self, bits: int, group: int, dtype: str = "F32", *, zeros: bool = False) -> None:
        name = f"blocks{bits}_g{group}_{dtype.lower()}" + ("_zeros" if zeros else "")
        super().__init__(name, bits, group)
        self.dtype, self.zeros = dtype, zeros
        self.half = 1 << (bits - 1)

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        w = by_group(rows, self.groups(rows.shape[1]), self.group)
        weights = None if importance is None else by_group(importance[None], w.shape[1], self.group)
        scale = narrowed(best_scales(w, self.half, _SHARES.get(self.bits, (1.0,)), weights), self.dtype)
        return Parameters((scale, np.full(scale.shape, self.half, np.uint8)) if self.zeros else (scale,))

    def rescaled(self, parameters: Parameters, factors: F32) -> Parameters:
        scale, *zero = parameters.groups
        return Parameters((narrowed(to_float32(self.dtype, scale) * factors, self.dtype), *zero))

    def line(self, parameters: Parameters) -> tuple[F32, NDArray[np.float32]]:
        """Scales, and the zeros in numbers, `[n, groups]`."""
        scale, *zero = parameters.groups
        zeros = zero[0].astype(np.float32) if zero else np.full(scale.shape, self.half, np.float32)
        return to_float32(self.dtype, scale), zeros

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        scale, zero = self.line(parameters)
        codes = by_group(rows, scale.shape[1], self.group) * inverse(scale)[..., None]
        np.rint(codes, out=codes)
        codes += zero[..., None]
        np.clip(codes, 0, 2 * self.half - 1, out=codes)
        return codes.astype(np.uint8).reshape(len(rows), -1)[:, : rows.shape[1]]

    def restore(self, fitted: Fitted) -> F32:
        scale, zero = self.line(fitted.parameters)
        n, k = fitted.codes.shape
        values = by_group(fitted.codes, scale.shape[1], self.group) - zero[..., None]
        values *= scale[..., None]
        return np.asarray(values.reshape(n, -1)[:, :k], np.float32)

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        """Codes `[n, groups * group * bits / 8]`, scales `[n, groups]`, zeros `[n, groups * bits / 8]`."""
        scale, *zeros = fitted.parameters.groups
        missing = scale.shape[1] * self.group - fitted.codes.shape[1] if self.group else 0
        codes = np.pad(fitted.codes, ((0, 0), (0, missing)), constant_values=self.half)
        odd = ((0, 0), (0, -scale.shape[1] % (8 // self.bits)))
        return pack(codes, self.bits), scale, *(pack(np.pad(each, odd), self.bits) for each in zeros)

    def size_bytes(self, n: int, k: int) -> int:
        groups = self.groups(k)
        floats = 4 if self.dtype == "F32" else 2
        zeros = -(-groups * self.bits // 8) if self.zeros else 0
        return n * (groups * (self.group or k) * self.bits // 8 + floats * groups + zeros)

    def keeping(self, layout: Layout) -> Grid | None:
        """Offsets that are no whole number of steps, and groups that are no multiple of 16, have no place."""
        group = max((size for size in BLOCKS if layout.group % size == 0), default=0)
        whole = layout.zero in ("middle", "whole")
        if not whole or layout.bits not in BITS or layout.bits > self.bits or not group:
            return None
        return Blocks(layout.bits, group, self.dtype, zeros=layout.zero == "whole")

    def taken(self, codes: Codes) -> Fitted:
        own = codes.regrouped(self.group)
        scale = narrowed(own.scale, self.dtype)
        beside = (scale, own.zero) if self.zeros and own.zero is not None else (scale,)
        return Fitted(own.codes, Parameters(beside))


def best_scales(w: F32, half: int, shares: tuple[float, ...], weights: F32 | None = None) -> F32:
    """Scales `[n, groups]` for `w[n, groups, columns]` of small squared error, weighted by
    `weights[1, groups, columns]`; codes lie in -half … half - 1.
    """
    peak = np.take_along_axis(w, np.abs(w).argmax(-1)[..., None], -1)[..., 0]
    best_gain = np.full_like(peak, -1)
    best = np.zeros_like(peak)
    weighted = w if weights is None else w * weights
    for end in (-half, half - 1):
        for share in shares:
            codes = w * inverse(peak * np.float32(share / end))[..., None]
            np.rint(codes, out=codes)
            np.clip(codes, -half, half - 1, out=codes)
            cross = np.einsum("nbk,nbk->nb", weighted, codes)
            square = np.einsum("nbk,nbk->nb", codes if weights is None else codes * weights, codes)
            scale = np.divide(cross, square, out=np.zeros_like(cross), where=square > 0)
            better = cross * scale > best_gain
            np.copyto(best_gain, cross * scale, where=better)
            np.copyto(best, scale, where=better)
    return best


def pack(codes: U8, bits: int) -> U8:
    """`[n, k]` codes -> `[n, k * bits / 8]`."""
    per_byte = 8 // bits
    parts = codes.reshape(codes.shape[0], -1, per_byte)
    packed = parts[..., 0].copy()
    for i in range(1, per_byte):
        packed |= parts[..., i] << np.uint8(i * bits)
    return packed


def unpack(packed: U8, bits: int) -> U8:
    """Inverse of `pack`."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(packed.shape[0], -1)
