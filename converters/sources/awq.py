"""AWQ checkpoints (AutoAWQ, "gemm" layout): 4-bit codes along the outputs, eight to a word in an order of
their own.

    qweight int32 [d_in, d_out / 8]      qzeros int32 [groups, d_out / 8]      scales float [groups, d_out]

    weight[in, out] = scales[in / group, out] * (code - zero)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import FLOAT_TYPES
from edgekit.converters.sources._packed import F32, U8, PackedCheckpoint, Parts
from edgekit.errors import InvalidFile

# Column 8 i + j lies in nibble NIBBLE[j] of word i.
NIBBLE = np.array([0, 4, 1, 5, 2, 6, 3, 7])


class AwqCheckpoint(PackedCheckpoint):
    """Raises UnsupportedModel for layouts other than "gemm" at 4 bits."""

    WEIGHT, BESIDE = "qweight", ("qzeros", "scales")
    SCALES, ORDER = "scales", "g_idx"

    def bits(self, path: str) -> int:
        bits = self.quantization.get("bits", self.quantization.get("w_bit"))
        version = str(self.quantization.get("version", "gemm")).lower()
        if bits != 4 or version != "gemm":
            raise self.unsupported(f"AWQ layout {version!r} with {bits!r} bits; 'gemm' with 4 bits is read")
        return 4

    def shape(self, path: str) -> tuple[int, int, int]:
        self.bits(path)
        weight, scales = self.entry(path, "qweight", "I32"), self.entry(path, "scales", *FLOAT_TYPES)
        zeros = self.entry(path, "qzeros", "I32")
        k, n, groups = weight.shape[0], weight.shape[1] * 8, scales.shape[0]
        if scales.shape[1] != n or zeros.shape != (groups, n // 8) or k % groups:
            raise InvalidFile(
                f"{path}: codes {list(weight.shape)}, scales {list(scales.shape)}, zeros {list(zeros.shape)} "
                "do not fit together"
            )
        return n, k, groups

    def unpack(self, path: str, parts: Parts, first: int, last: int) -> U8:
        return _columns(parts["qweight"], first, last).T

    def grid(self, path: str, parts: Parts, first: int, last: int) -> tuple[F32, U8]:
        scale = np.ascontiguousarray(parts["scales"][:, first:last].T)
        return scale, _columns(parts["qzeros"], first, last).T


def _columns(words: NDArray[np.int32], first: int, last: int) -> U8:
    begin = first // 8 * 8
    return nibbles(words[:, begin // 8 : -(-last // 8)])[:, first - begin : last - begin]


def nibbles(words: NDArray[np.int32]) -> NDArray[np.uint8]:
    """`[n, words]` -> codes `[n, words * 8]`."""
    found = (words.view(np.uint32)[..., None] >> (4 * NIBBLE).astype(np.uint32)) & np.uint32(15)
    return found.astype(np.uint8).reshape(len(words), -1)
