"""ggml's types by its own words, and the bytes of its blocks of 32 weights that are codes with a scale, low
nibbles first. Those of its super-blocks are in k_quants.py.

Q4_0  float16 scale, 16 bytes                                    weight = scale * (code - 8)
Q4_1  float16 scale and offset, 16 bytes                         weight = scale * code + offset
Q5_0  float16 scale, uint32 of fifth bits, 16 bytes              weight = scale * (code - 16)
Q5_1  float16 scale and offset, uint32 of fifth bits, 16 bytes   weight = scale * code + offset
Q8_0  float16 scale, 32 signed bytes                             weight = scale * code

A byte holds code i in its low nibble and code i + 16 in its high one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.codes import Codes, Layout

from .affine import Affine
from .blocks import Blocks
from .grid import Array, Fitted, Grid, Parameters
from .k_quants import SUPER, AffineSuperBlocks, SymmetricSuperBlocks

U8 = NDArray[np.uint8]

BLOCK = 32
LAYOUTS = {
    "Q4_0": Layout(4, BLOCK, "middle"),
    "Q4_1": Layout(4, BLOCK, "free"),
    "Q5_0": Layout(5, BLOCK, "middle"),
    "Q5_1": Layout(5, BLOCK, "free"),
    "Q8_0": Layout(8, BLOCK, "middle"),
    "Q4_K": Layout(4, BLOCK, "free", SUPER),
    "Q5_K": Layout(5, BLOCK, "free", SUPER),
    "Q6_K": Layout(6, 16, "middle", SUPER),
}


class _Ggml(Grid):
    """What all have: a word, and which codes they hold."""

    kind: str

    def __str__(self) -> str:
        return self.kind

    def keeping(self, layout: Layout) -> Grid | None:
        """The narrowest type that holds these codes as they are."""
        if layout.zero == "other" or layout.bits > self.bits:
            return None
        found = [
            kind
            for kind, own in LAYOUTS.items()
            if own.bits == layout.bits
            and layout.group % own.group == 0
            and own.shared in (0, layout.shared)
            and (own.zero == "free" or layout.zero == "middle")
        ]
        return named(max(found, key=lambda kind: LAYOUTS[kind].shared)) if found else None


class _Blocks(_Ggml):
    """What the two kinds of blocks share: the bytes."""

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        """Blocks `[n, bytes]`."""
        blocks = fitted.codes.reshape(len(fitted.codes), -1, BLOCK)
        parts = [np.stack(fitted.parameters.groups, -1).view(np.uint8)]
        if self.bits == 8:
            parts.append(blocks ^ np.uint8(128))
        else:
            if self.bits == 5:
                parts.append(np.packbits(blocks >> np.uint8(4), axis=-1, bitorder="little"))
            low = blocks & np.uint8(15)
            parts.append(low[..., :16] | low[..., 16:] << np.uint8(4))
        return (np.concatenate(parts, -1).reshape(len(blocks), -1),)

    def unpack(self, data: U8) -> Fitted:
        """Inverse of `pack`."""
        n = len(data)
        floats = 4 if isinstance(self, Affine) else 2
        blocks = data.reshape(n, -1, floats + BLOCK * self.bits // 8)
        lines = np.moveaxis(np.ascontiguousarray(blocks[..., :floats]).view("<f2"), -1, 0)
        if self.bits == 8:
            codes = blocks[..., floats:] ^ np.uint8(128)
        else:
            nibbles = blocks[..., -16:]
            codes = np.concatenate([nibbles & np.uint8(15), nibbles >> np.uint8(4)], -1)
            if self.bits == 5:
                fifth = np.unpackbits(blocks[..., floats : floats + 4], axis=-1, bitorder="little")
                codes = codes | fifth << np.uint8(4)
        return Fitted(codes.reshape(n, -1), Parameters(tuple(lines)))


class _Symmetric(_Blocks, Blocks):
    def __init__(self, kind: str) -> None:
        super().__init__(LAYOUTS[kind].bits, BLOCK, "F16")
        self.kind = kind


class _Affine(_Blocks, Affine):
    def __init__(self, kind: str) -> None:
        super().__init__(LAYOUTS[kind].bits, BLOCK, "F16")
        self.kind = kind


class _SymmetricSuperBlocks(_Ggml, SymmetricSuperBlocks):
    kind = "Q6_K"


class _AffineSuperBlocks(_Ggml, AffineSuperBlocks):
    def __init__(self, kind: str) -> None:
        super().__init__(LAYOUTS[kind].bits)
        self.kind = kind


def named(kind: str) -> _Symmetric | _Affine | _SymmetricSuperBlocks | _AffineSuperBlocks:
    """The grid of a type, in ggml's words."""
    layout = LAYOUTS[kind]
    if layout.shared:
        return _SymmetricSuperBlocks() if layout.zero == "middle" else _AffineSuperBlocks(kind)
    return _Affine(kind) if layout.zero == "free" else _Symmetric(kind)


def codes(kind: str, data: U8) -> Codes:
    """Of rows of blocks `[n, bytes]`."""
    grid = named(kind)
    fitted = grid.unpack(data)
    scale, other = grid.line(fitted.parameters)
    if LAYOUTS[kind].zero == "free":
        return Codes(fitted.codes, scale, other)
    return Codes(fitted.codes, scale, -scale * other, other.astype(np.uint8))
