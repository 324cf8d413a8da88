"""What the matrices of a Core ML package become: codes with a scale for a block or a row, or indices into
palettes. Codes are signed; of a byte the low bits count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.converters.codes import Layout
from edgekit.converters.quant import palette
from edgekit.converters.quant.blocks import Blocks
from edgekit.converters.quant.dense import Dense
from edgekit.converters.quant.grid import Array, Fitted, Grid
from edgekit.converters.quant.palette import Palette

BLOCK = 32  # weights that share a scale, in block codes
BUILTIN = {"F16": "fp16", "F32": "fp32"}  # Core ML's words for types of floats


@dataclass(frozen=True)
class Scheme:
    """Codes of `bits`, or with `bits` 0 plain `type`, which is also that of activations and scales."""

    neural_engine: bool = False
    bits: int = 0
    codes: str = ""  # block | row | palette
    type: str = "F16"

    def grid(self, rows: int) -> Grid:
        """That of a matrix: one whose rows are no whole number of palettes gets 8 bits in place of them."""
        if not self.bits:
            return Dense(self.type)
        if self.codes == "palette":
            return SignedBlocks(8, 0, self.type) if rows % palette.ROWS else Palette(self.bits, self.type)
        return SignedBlocks(self.bits, BLOCK if self.codes == "block" else 0, self.type)


SCHEME_OF_NAME = {
    "q4": Scheme(bits=4, codes="block"),
    "q8": Scheme(bits=8, codes="block"),
    "f16": Scheme(),
    "f32": Scheme(type="F32"),
    "neural_engine_q8": Scheme(neural_engine=True, bits=8, codes="row"),
    "neural_engine_q6": Scheme(neural_engine=True, bits=6, codes="palette"),
    "neural_engine_q4": Scheme(neural_engine=True, bits=4, codes="palette"),
    "neural_engine_f16": Scheme(neural_engine=True),
}


class SignedBlocks(Blocks):
    """Codes around 0, in integers of 4 or 8 bits."""

    @property
    def integer(self) -> str:
        return "int4" if self.bits <= 4 else "int8"

    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        middle = np.uint8(self.half)
        scale, *zeros = fitted.parameters.groups
        return fitted.codes - middle, scale, *(each - middle for each in zeros)

    def keeping(self, layout: Layout) -> Grid | None:
        """Codes of any width and group, in place of blocks."""
        if not self.group or layout.bits > self.bits or layout.zero not in ("middle", "whole"):
            return None
        return SignedBlocks(layout.bits, layout.group, self.dtype, zeros=layout.zero == "whole")
