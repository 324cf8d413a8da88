"""Small floats with a shared scale for each group (OCP MX, and NVFP4), as MLX stores them.

mxfp4   4-bit e2m1 codes, groups of 32, scale 2^(byte - 127)
mxfp8   8-bit e4m3 codes, groups of 32, scale 2^(byte - 127)
nvfp4   4-bit e2m1 codes, groups of 16, scale an e4m3 byte
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import affine
from .grid import F32, Array, Fitted, Grid, Parameters, by_group, inverse

U8 = NDArray[np.uint8]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def _e4m3() -> F32:
    """Values of the codes 0 to 126; 127 is not a number."""
    code = np.arange(127)
    exponent, mantissa = code >> 3, code & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    return np.where(exponent > 0, normal, np.ldexp(mantissa / 8, -6)).astype(np.float32)


E4M3 = _e4m3()
LEVELS = {"mxfp4": E2M1, "mxfp8": E4M3, "nvfp4": E2M1}
GROUP = {"mxfp4": 32, "mxfp8": 32, "nvfp4": 16}


class Microscaling(Grid):
    """Codes have their sign in the highest bit; scales are bytes."""

    def __init__(self, mode: str) -> None:
        super().__init__(mode, 8 if mode == "mxfp8" else 4, GROUP[mode])
        self.levels = LEVELS[mode]
        self.sign_bit = np.uint8(1 << (self.bits - 1))

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        """Of the scale that just avoids clipping and the next lower one the one with the smaller squared
        error.
        """
        w = by_group(rows, self.groups(rows.shape[1]), self.group)
        weights = np.float32(1) if importance is None else by_group(importance[None], w.shape[1], self.group)
        wanted = np.abs(w).max(-1) / self.levels[-1]
        if self.name == "nvfp4":
            scales = _nearest(wanted, E4M3)
        else:
            scales = (np.ceil(np.log2(np.maximum(wanted, np.float32(2.0**-126)))) + 127).astype(np.uint8)
        tried = [np.maximum(scales, less) - np.uint8(less) for less in (0, 1)]
        errors = [
            (np.square(self._values(self._codes(w, self._scale(each)), self._scale(each)) - w) * weights).sum(
                -1
            )
            for each in tried
        ]
        return Parameters((np.where(errors[1] < errors[0], tried[1], tried[0]),))

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        scale = self._scale(parameters.groups[0])
        codes = self._codes(by_group(rows, scale.shape[1], self.group), scale)
        return codes.reshape(len(rows), -1)[:, : rows.shape[1]]

    def restore(self, fitted: Fitted) -> F32:
        scale, (n, k) = self._scale(fitted.parameters.groups[0]), fitted.codes.shape
        return self._values(by_group(fitted.codes, scale.shape[1], self.group), scale).reshape(n, -1)[:, :k]

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        return affine.pack(fitted.codes, self.bits), *fitted.parameters.groups

    def unpack(self, packed: affine.U32, scales: U8) -> Fitted:
        return Fitted(affine.unpack(packed, self.bits), Parameters((scales,)))

    def size_bytes(self, n: int, k: int) -> int:
        return n * (k * self.bits // 8 + self.groups(k))

    def _scale(self, stored: U8) -> F32:
        if self.name == "nvfp4":
            return E4M3[np.minimum(stored, 126)]
        return np.exp2(stored.astype(np.float32) - 127)

    def _values(self, codes: U8, scale: F32) -> F32:
        magnitude = self.levels[np.minimum(codes & (self.sign_bit - 1), len(self.levels) - 1)]
        return np.asarray(np.where(codes & self.sign_bit, -magnitude, magnitude) * scale[..., None])

    def _codes(self, w: F32, scale: F32) -> U8:
        codes = _nearest(np.abs(w) * inverse(scale)[..., None], self.levels)
        return codes | np.where(w < 0, self.sign_bit, np.uint8(0))


def _nearest(values: F32, levels: F32) -> U8:
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values).astype(np.uint8)
