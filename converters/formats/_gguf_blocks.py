"""ggml's blocks of 32 weights that are codes with a scale: their bytes, low nibbles first.

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

BLOCK = 32
LAYOUTS = {
    "Q4_0": Layout(4, BLOCK, "middle"),
    "Q4_1": Layout(4, BLOCK, "free"),
    "Q5_0": Layout(5, BLOCK, "middle"),
    "Q5_1": Layout(5, BLOCK, "free"),
    "Q8_0": Layout(8, BLOCK, "middle"),
}


def type_for(layout: Layout) -> str | None:
    """The narrowest type that holds these codes as they are."""
    if layout.group % BLOCK or layout.zero == "other":
        return None
    for kind, own in LAYOUTS.items():
        if own.bits == layout.bits and (own.zero == "free" or layout.zero == "middle"):
            return kind
    return None


def unpack(kind: str, data: NDArray[np.uint8]) -> Codes:
    """Codes of rows of blocks `[n, bytes]`."""
    layout, n = LAYOUTS[kind], len(data)
    blocks = data.reshape(n, -1, _block_bytes(kind))
    floats = 4 if layout.zero == "free" else 2
    scale, *rest = np.moveaxis(
        np.ascontiguousarray(blocks[..., :floats]).view("<f2").astype(np.float32), -1, 0
    )
    if layout.bits == 8:
        codes = blocks[..., floats:] ^ np.uint8(128)
    else:
        nibbles = blocks[..., -16:]
        codes = np.concatenate([nibbles & np.uint8(15), nibbles >> np.uint8(4)], -1)
        if layout.bits == 5:
            fifth = np.unpackbits(blocks[..., floats : floats + 4], axis=-1, bitorder="little")
            codes = codes | fifth << np.uint8(4)
    offset = rest[0] if rest else scale * np.float32(-(1 << (layout.bits - 1)))
    zero = None if rest else np.full(scale.shape, 1 << (layout.bits - 1), np.uint8)
    return Codes(codes.reshape(n, -1), scale, offset, zero)


def pack(kind: str, given: Codes) -> NDArray[np.uint8]:
    """Inverse of `unpack`, `[n, bytes]`; groups of a multiple of 32 are repeated."""
    layout, codes = LAYOUTS[kind], given.regrouped(BLOCK)
    blocks = codes.codes.reshape(len(codes.codes), -1, BLOCK)
    floats = [codes.scale, codes.offset] if layout.zero == "free" else [codes.scale]
    parts = [np.stack(floats, -1).astype("<f2").view(np.uint8)]
    if layout.bits == 8:
        parts.append(blocks ^ np.uint8(128))
    else:
        if layout.bits == 5:
            parts.append(np.packbits(blocks >> np.uint8(4), axis=-1, bitorder="little"))
        parts.append((blocks[..., :16] & np.uint8(15)) | (blocks[..., 16:] & np.uint8(15)) << np.uint8(4))
    return np.concatenate(parts, -1).reshape(len(blocks), -1)


def _block_bytes(kind: str) -> int:
    layout = LAYOUTS[kind]
    return (4 if layout.zero == "free" else 2) + {4: 16, 5: 20, 8: 32}[layout.bits]
