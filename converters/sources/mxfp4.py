"""gpt-oss as it is published: stacks of matrices as 4-bit floats (OCP MX), the rest in bfloat16.

<name>_blocks   uint8 [experts, d_out, d_in / 32, 16]   two e2m1 codes in a byte, the low one first
<name>_scales   uint8 [experts, d_out, d_in / 32]       2 ** (byte - 127)

They are read as Transformers has them once they are unpacked, `<name>` `[experts, d_in, d_out]`.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import Checkpoint, Entry
from edgekit.converters.codes import Codes, Layout
from edgekit.converters.quant.microscaling import E2M1
from edgekit.errors import InvalidFile

GROUP, BIAS = 32, 127
# Twice a code's value is a whole number: so the values are 8-bit codes, with 128 for zero, as they are.
ZERO = 128
TWICE = (ZERO + 2 * np.concatenate((E2M1, -E2M1))).astype(np.uint8)


class Mxfp4Checkpoint(Checkpoint):
    """Raises InvalidFile for sizes that do not fit together."""

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        super().__init__(path, check=check)
        self.config.pop("quantization_config", None)
        blocks = (name.removesuffix("_blocks") for name in self.tensors if name.endswith("_blocks"))
        self._packed = {name: self._shape(name) for name in blocks}

    def _shape(self, name: str) -> tuple[int, int, int]:
        """Experts, d_out, d_in."""
        blocks, scales = (self.tensors.get(f"{name}_{part}") for part in ("blocks", "scales"))
        if not (blocks and scales and blocks.dtype == scales.dtype == "U8" and len(blocks.shape) == 4
                and blocks.shape == (*scales.shape, GROUP // 2)):  # fmt: skip
            seen = [entry and f"{entry.dtype} {list(entry.shape)}" for entry in (blocks, scales)]
            raise InvalidFile(f"{name}: blocks {seen[0]} and scales {seen[1]} do not fit together")
        experts, n, groups = scales.shape
        return experts, n, groups * GROUP

    def names(self) -> list[str]:
        hidden = {f"{name}_{part}" for name in self._packed for part in ("blocks", "scales")}
        return sorted({*self.tensors, *self._packed} - hidden)

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        if name not in self._packed:
            return super().info(name)
        experts, n, k = self._packed[name]
        return "BF16", (experts, k, n)

    def read(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32]:
        if name not in self._packed:
            return super().read(name, rows)
        experts, n, k = self._packed[name]
        first, last = rows or (0, experts)
        own = self.codes(name, (first * n, last * n))
        values = own.codes.astype(np.float32) - ZERO
        values *= np.repeat(own.scale, GROUP, axis=1)
        return values.reshape(-1, n, k).swapaxes(1, 2)

    def layout(self, name: str) -> Layout | None:
        return Layout(8, GROUP, "middle") if name in self._packed else None

    def codes(self, name: str, rows: tuple[int, int]) -> Codes:
        """Rows of all experts, one below another, `[rows, d_in]`."""
        experts, n, k = self._packed[name]
        blocks, scales = (
            self._bits(name, self._flat(self.tensors[f"{name}_{part}"], experts * n), rows)
            for part in ("blocks", "scales")
        )
        nibbles = np.stack((blocks & 15, blocks >> 4), -1).reshape(-1, k)
        scale = np.ldexp(np.float32(0.5), scales.astype(np.int32) - BIAS)
        zero = np.full(scale.shape, ZERO, np.uint8)
        return Codes(TWICE[nibbles], scale, -scale * np.float32(ZERO), zero)

    @staticmethod
    def _flat(entry: Entry, rows: int) -> Entry:
        return Entry(entry.path, entry.dtype, (rows, *entry.shape[2:]), entry.offset_bytes)
