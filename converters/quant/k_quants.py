"""ggml's super-blocks of 256 weights, whose groups share what their small scales are multiples of:

Q4_K  groups of 32   weight = scale * code - minimum           144 bytes
Q5_K  groups of 32   weight = scale * code - minimum           176 bytes
Q6_K  groups of 16   weight = scale * (code - 32)              210 bytes

    scale = step * (0 … 63), minimum = minimum_step * (0 … 63); of Q6_K scale = step * (-128 … 127);
    steps are float16, one of each kind for a super-block

Parameters hold a group's small numbers and the steps that it shares, so that a group's can stand alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.codes import Codes

from . import affine, blocks
from .grid import F32, Array, Fitted, Grid, Parameters, by_group, inverse

U8 = NDArray[np.uint8]

SUPER = 256
_SIX_BITS = 63


class SuperBlocks(Grid):
    """`super_bytes` of each."""

    def __init__(self, name: str, bits: int, group: int, super_bytes: int) -> None:
        super().__init__(name, bits, group)
        self.super_bytes = super_bytes

    @property
    def span(self) -> int:
        return SUPER

    def size_bytes(self, n: int, k: int) -> int:
        return n * k // SUPER * self.super_bytes


class AffineSuperBlocks(SuperBlocks):
    """Of 4 or 5 bits."""

    def __init__(self, bits: int) -> None:
        super().__init__(f"super_affine{bits}", bits, 32, 2 + 2 + 12 + SUPER * bits // 8)

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        w = by_group(rows, self.groups(rows.shape[1]), self.group)
        weights = None if importance is None else by_group(importance[None], w.shape[1], self.group)
        scale, offset = affine.line(w, self.bits, weights)
        # Scales are positive and offsets are not: a falling line is the rising one of the opposite codes.
        offset = np.where(scale < 0, offset + scale * np.float32((1 << self.bits) - 1), offset)
        scale = np.abs(scale)
        above = offset > 0
        through_zero = w.max(-1) / np.float32((1 << self.bits) - 1)
        return _affine_steps(np.where(above, through_zero, scale), np.where(above, 0, -offset))

    def line(self, parameters: Parameters) -> tuple[F32, F32]:
        """Scales and offsets `[n, groups]`: weight = scale * code + offset."""
        scale, minimum, step, minimum_step = (each.astype(np.float32) for each in parameters.groups)
        return scale * step, -(minimum * minimum_step)

    def rescaled(self, parameters: Parameters, factors: F32) -> Parameters:
        scale, offset = self.line(parameters)
        return _affine_steps(scale * factors, -offset * factors)

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        scale, offset = self.line(parameters)
        codes = affine.nearest(by_group(rows, scale.shape[1], self.group), scale, offset, self.bits)
        return codes.astype(np.uint8).reshape(len(rows), -1)

    def restore(self, fitted: Fitted) -> F32:
        return affine.values(fitted.codes, *self.line(fitted.parameters))

    def taken(self, codes: Codes) -> Fitted:
        return Fitted(codes.codes, _affine_steps(codes.scale, -codes.offset))

    def pack(self, fitted: Fitted) -> tuple[U8, ...]:
        """Super-blocks `[n, bytes]`."""
        n = len(fitted.codes)
        scale, minimum, *steps = (each.reshape(n, -1, 8) for each in fitted.parameters.groups)
        steps = [np.ascontiguousarray(each[..., :1]).view(np.uint8) for each in steps]
        low, high = (np.stack([scale, minimum], 2)[..., half] for half in (slice(4), slice(4, 8)))
        small = [
            low | (high >> np.uint8(4)) << np.uint8(6),
            high[:, :, 0] & np.uint8(15) | high[:, :, 1] << np.uint8(4),
        ]
        parts = [*steps, small[0].reshape(n, -1, 8), small[1]]
        codes = fitted.codes.reshape(n, -1, 4, 2, 32)
        if self.bits == 5:
            fifth = (codes >> np.uint8(4)).reshape(n, -1, 8, 32)
            parts.append(np.packbits(fifth, axis=-2, bitorder="little")[..., 0, :])
        nibbles = codes & np.uint8(15)
        parts.append((nibbles[..., 0, :] | nibbles[..., 1, :] << np.uint8(4)).reshape(n, -1, 128))
        return (np.concatenate(parts, -1).reshape(n, -1),)

    def unpack(self, data: U8) -> Fitted:
        """Inverse of `pack`."""
        n = len(data)
        data = data.reshape(n, -1, self.super_bytes)
        step, minimum_step = (
            np.repeat(np.ascontiguousarray(data[..., at : at + 2]).view("<f2"), 8, -1) for at in (0, 2)
        )
        low, mixed = data[..., 4:12].reshape(n, -1, 2, 4), data[..., 12:16]
        top = low >> np.uint8(6) << np.uint8(4)
        high = np.stack([mixed & np.uint8(15), mixed >> np.uint8(4)], 2) | top
        small = np.concatenate([low & np.uint8(_SIX_BITS), high], -1)
        packed = data[..., -128:].reshape(n, -1, 4, 1, 32)
        codes = np.concatenate([packed & np.uint8(15), packed >> np.uint8(4)], -2)
        if self.bits == 5:
            fifth = np.unpackbits(data[..., 16:48][..., None, :], axis=-2, bitorder="little")
            codes = codes | (fifth << np.uint8(4)).reshape(codes.shape)
        groups = (small[:, :, 0], small[:, :, 1], step, minimum_step)
        return Fitted(codes.reshape(n, -1), Parameters(tuple(each.reshape(n, -1) for each in groups)))


class SymmetricSuperBlocks(SuperBlocks):
    """Of 6 bits."""

    def __init__(self) -> None:
        super().__init__("super_symmetric6", 6, 16, 128 + 64 + 16 + 2)

    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        w = by_group(rows, self.groups(rows.shape[1]), self.group)
        weights = None if importance is None else by_group(importance[None], w.shape[1], self.group)
        return _symmetric_steps(blocks.best_scales(w, 32, (1.0,), weights))

    def line(self, parameters: Parameters) -> tuple[F32, F32]:
        """Scales, and the codes that stand for 0, `[n, groups]`."""
        small, step = (each.astype(np.float32) for each in parameters.groups)
        return step * small, np.full(small.shape, 32, np.float32)

    def rescaled(self, parameters: Parameters, factors: F32) -> Parameters:
        return _symmetric_steps(self.line(parameters)[0] * factors)

    def nearest(self, rows: F32, parameters: Parameters) -> U8:
        scale, _ = self.line(parameters)
        codes = by_group(rows, scale.shape[1], self.group) * inverse(scale)[..., None]
        codes = np.clip(np.rint(codes) + 32, 0, 63)
        return codes.astype(np.uint8).reshape(len(rows), -1)

    def restore(self, fitted: Fitted) -> F32:
        scale, _ = self.line(fitted.parameters)
        whole = fitted.codes.astype(np.float32) - 32
        values = by_group(whole, scale.shape[1], self.group) * scale[..., None]
        return np.asarray(values.reshape(whole.shape), np.float32)

    def taken(self, codes: Codes) -> Fitted:
        return Fitted(codes.codes, _symmetric_steps(codes.scale))

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        """Super-blocks `[n, bytes]`."""
        n = len(fitted.codes)
        small, step = (each.reshape(n, -1, 16) for each in fitted.parameters.groups)
        codes = fitted.codes.reshape(n, -1, 2, 2, 2, 32)  # of a half: its nibble, its row of bytes
        nibbles = codes & np.uint8(15)
        low = nibbles[:, :, :, 0] | nibbles[:, :, :, 1] << np.uint8(4)
        shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape(2, 2, 1)
        high = np.bitwise_or.reduce((codes >> np.uint8(4) << shifts).reshape(n, -1, 2, 4, 32), axis=3)
        parts = [
            low.reshape(n, -1, 128),
            high.reshape(n, -1, 64),
            small.view(np.uint8),
            np.ascontiguousarray(step[..., :1]).view(np.uint8),
        ]
        return (np.concatenate(parts, -1).reshape(n, -1),)

    def unpack(self, data: U8) -> Fitted:
        """Inverse of `pack`."""
        n = len(data)
        data = data.reshape(n, -1, self.super_bytes)
        low = data[..., :128].reshape(n, -1, 2, 1, 2, 32)
        nibbles = np.concatenate([low & np.uint8(15), low >> np.uint8(4)], 3)
        high = data[..., 128:192].reshape(n, -1, 2, 1, 1, 32)
        shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape(2, 2, 1)
        codes = nibbles | (high >> shifts & np.uint8(3)) << np.uint8(4)
        small = np.ascontiguousarray(data[..., 192:208]).view(np.int8)
        step = np.repeat(np.ascontiguousarray(data[..., 208:]).view("<f2"), 16, -1)
        return Fitted(codes.reshape(n, -1), Parameters((small.reshape(n, -1), step.reshape(n, -1))))


def _affine_steps(scale: F32, minimum: F32) -> Parameters:
    """Scales and minima `[n, groups]`, none below 0, as multiples of what a super-block's share."""
    (small, step), (small_minimum, minimum_step) = (_steps(each, 8, _SIX_BITS) for each in (scale, minimum))
    groups = small.astype(np.uint8), small_minimum.astype(np.uint8), step, minimum_step
    return Parameters(groups)


def _symmetric_steps(scale: F32) -> Parameters:
    small, step = _steps(scale, 16, 127)
    return Parameters((small.astype(np.int8), step))


def _steps(values: F32, groups: int, most: int) -> tuple[F32, NDArray[np.float16]]:
    """Whole numbers up to `most` `[n, all groups]` and what they are multiples of, each super-block's again
    for all its groups.
    """
    by_super = values.reshape(len(values), -1, groups)
    bound = np.finfo(np.float16).max
    step = np.minimum(np.abs(by_super).max(-1, keepdims=True) / np.float32(most), bound).astype(np.float16)
    small = np.clip(np.rint(by_super * inverse(step.astype(np.float32))), -most, most)
    return small.reshape(values.shape), np.repeat(step, groups, -1).reshape(values.shape)
