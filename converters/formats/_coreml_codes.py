"""What the matrices of a Core ML package become: codes with a scale for a block or a row, or indices into
palettes. Codes are signed; of a byte the low bits count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.codes import Codes, Layout
from edgekit.converters.formats import _block_codes, _coreml_palettes

F32 = NDArray[np.float32]
Block = NDArray[Any]

BLOCK = 32  # weights that share a scale, in block codes
PALETTE_ROWS = 16  # rows that share a palette


@dataclass(frozen=True)
class Scheme:
    """Codes of `bits`, or with `bits` 0 plain `type`, which is also that of activations and scales."""

    neural_engine: bool = False
    bits: int = 0
    codes: str = ""  # block | row | palette
    type: str = "fp16"

    @property
    def float(self) -> Any:
        return np.float16 if self.type == "fp16" else np.float32

    def keeps(self, layout: Layout) -> bool:
        """Whether a checkpoint's codes are taken over: no wider than asked for, with a zero among them."""
        return self.codes == "block" and layout.bits <= self.bits and layout.zero in ("middle", "whole")

    def of(self, rows: int) -> Scheme:
        """That of a matrix: one whose rows are no whole number of groups gets 8 bits in place of palettes."""
        ragged = self.codes == "palette" and rows % PALETTE_ROWS
        return replace(self, bits=8, codes="row") if ragged else self

    def block(self, k: int) -> int:
        """Weights of a row of `k` that share a scale."""
        return BLOCK if self.codes == "block" else k


def encode(rows: F32, scheme: Scheme) -> tuple[Block, Block]:
    """Codes and scales of `rows[n, k]`."""
    block = scheme.block(rows.shape[1])
    scale = _block_codes.fit(rows, scheme.bits, block).astype(scheme.float)
    codes = _block_codes.encode(rows, scale.astype(np.float32), scheme.bits, block)
    return codes - np.uint8(1 << (scheme.bits - 1)), scale


def taken_over(given: Codes, layout: Layout, scheme: Scheme) -> tuple[Block, ...]:
    """Codes, scales and, where groups have zeros of their own, those."""
    middle = np.uint8(1 << (layout.bits - 1))
    parts = given.codes - middle, given.scale.astype(scheme.float)
    return parts if layout.zero == "middle" or given.zero is None else (*parts, given.zero - middle)


def indices(rows: F32, scheme: Scheme) -> tuple[Block, Block]:
    """Indices and palettes of `rows[n, k]`, n a multiple of 16."""
    groups = rows.reshape(rows.shape[0] // PALETTE_ROWS, -1)
    values = _coreml_palettes.fit(groups, scheme.bits)
    return _coreml_palettes.encode(groups, values), values.astype(scheme.float)


def restored(rows: F32, scheme: Scheme) -> F32:
    """`rows[n, k]` of a larger matrix as they will stand in the package."""
    n, k = rows.shape
    if not scheme.bits or k % scheme.block(k):
        return rows.astype(scheme.float).astype(np.float32)
    if scheme.codes != "palette":
        codes, scale = encode(rows, scheme)
        half = np.uint8(1 << (scheme.bits - 1))
        return _block_codes.decode(codes + half, scale.astype(np.float32), scheme.bits, k)
    codes, values = indices(np.pad(rows, ((0, -n % PALETTE_ROWS), (0, 0)), "edge"), scheme)
    return _coreml_palettes.decode(codes, values.astype(np.float32)).reshape(-1, k)[:n]
