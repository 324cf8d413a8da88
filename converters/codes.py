"""The integers of quantized checkpoints: a format that can hold them as they are quantizes nothing anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """How a matrix is stored: codes of `bits`, a scale for each `group` inputs of a row.

    `zero`: the code that stands for 0 is the "middle" one, 2 ** (bits - 1); a "whole" number of each group's
    own; any number ("free"); or the matrix is stored in a way that `Codes` cannot express ("other").
    `shared`: of how many inputs the scales and offsets are small whole multiples of numbers that their groups
    share; 0: each has its own.
    """

    bits: int
    group: int
    zero: Literal["middle", "whole", "free", "other"]
    shared: int = 0

    def __str__(self) -> str:
        return f"{self.bits} bits" + (f" in groups of {self.group}" if self.zero != "other" else "")


@dataclass(frozen=True)
class Codes:
    """Rows of a matrix: weight = scale * code + offset.

    `codes` is `[n, k]`, the others `[n, k / group]`; `zero` is -offset / scale where that is whole.
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    zero: NDArray[np.uint8] | None = None

    def rows(self, numbers: NDArray[np.int64]) -> Codes:
        """Those of these numbers."""
        zero = None if self.zero is None else self.zero[numbers]
        return Codes(self.codes[numbers], self.scale[numbers], self.offset[numbers], zero)

    def regrouped(self, group: int) -> Codes:
        """The same with groups of a divisor of the present size."""
        times = self.codes.shape[1] // self.scale.shape[1] // group
        scale, offset = (np.repeat(values, times, axis=1) for values in (self.scale, self.offset))
        zero = None if self.zero is None else np.repeat(self.zero, times, axis=1)
        return Codes(self.codes, scale, offset, zero)
