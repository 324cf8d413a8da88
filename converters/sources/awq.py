"""AWQ checkpoints (AutoAWQ, "gemm" layout): 4-bit codes along the outputs, eight to a word in an order of
their own.

    qweight int32 [d_in, d_out / 8]      qzeros int32 [groups, d_out / 8]      scales float [groups, d_out]

    weight[in, out] = scales[in / group, out] * (code - zero)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.sources._packed import PackedCheckpoint
from edgekit.errors import InvalidFile, UnsupportedModel

# Column 8 i + j lies in nibble NIBBLE[j] of word i.
NIBBLE = np.array([0, 4, 1, 5, 2, 6, 3, 7])


class AwqCheckpoint(PackedCheckpoint):
    """Raises UnsupportedModel for layouts other than "gemm" at 4 bits."""

    def shape(self, path: str) -> tuple[int, int]:
        self.bits(4)
        version = str(self.quantization.get("version", "gemm")).lower()
        if version != "gemm":
            raise UnsupportedModel(f"AWQ layout {version!r} is not read; 'gemm' is")
        weight, scales = self.entry(path, "qweight", "I32"), self.entry(path, "scales", "F16", "BF16", "F32")
        zeros = self.entry(path, "qzeros", "I32")
        k, n, groups = weight.shape[0], weight.shape[1] * 8, scales.shape[0]
        if scales.shape[1] != n or zeros.shape != (groups, n // 8) or k % groups:
            raise InvalidFile(
                f"{path}: codes {list(weight.shape)}, scales {list(scales.shape)}, zeros {list(zeros.shape)} "
                "do not fit together"
            )
        return n, k

    def decode(self, path: str, parts: dict[str, NDArray[Any]], first: int, last: int) -> NDArray[np.float32]:
        _, k = self.shape(path)
        size = k // len(parts["scales"])
        begin = first // 8 * 8
        words = slice(begin // 8, -(-last // 8))
        here = slice(first - begin, last - begin)
        codes = unpack(parts["qweight"][:, words])[:, here].astype(np.float32)
        zeros = unpack(parts["qzeros"][:, words])[:, here].astype(np.float32)
        codes -= np.repeat(zeros, size, axis=0)
        weights: NDArray[np.float32] = codes * np.repeat(parts["scales"][:, first:last], size, axis=0)
        return weights


def unpack(words: NDArray[np.int32]) -> NDArray[np.uint32]:
    """`[n, words]` -> codes `[n, words * 8]`."""
    nibbles = (words.view(np.uint32)[..., None] >> (4 * NIBBLE).astype(np.uint32)) & np.uint32(15)
    return nibbles.reshape(len(words), -1)
