"""GPTQ checkpoints (AutoGPTQ, GPTQModel): codes along the inputs, groups possibly in another order (`g_idx`).

qweight int32 [d_in * bits / 32, d_out]      qzeros int32 [groups, d_out * bits / 32]
scales  float [groups, d_out]                g_idx  int32 [d_in]: the group of each input

weight[in, out] = scales[g_idx[in], out] * (code - zero)       zero: qzeros + 1, in "gptq_v2" qzeros
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.sources._packed import PackedCheckpoint
from edgekit.errors import InvalidFile

FLOATS = ("F16", "BF16", "F32")


class GptqCheckpoint(PackedCheckpoint):
    """Raises UnsupportedModel for widths other than 2, 4 and 8 bits."""

    def shape(self, path: str) -> tuple[int, int]:
        bits = self.bits(2, 4, 8)
        weight, scales = self.entry(path, "qweight", "I32"), self.entry(path, "scales", *FLOATS)
        zeros = self.entry(path, "qzeros", "I32")
        n, k = weight.shape[1], weight.shape[0] * 32 // bits
        groups = scales.shape[0]
        if scales.shape[1] != n or zeros.shape != (groups, n * bits // 32) or k % groups:
            raise InvalidFile(
                f"{path}: codes {list(weight.shape)}, scales {list(scales.shape)}, zeros {list(zeros.shape)} "
                f"do not fit together at {bits} bits"
            )
        return n, k

    def decode(self, path: str, parts: dict[str, NDArray[Any]], first: int, last: int) -> NDArray[np.float32]:
        bits = self.bits(2, 4, 8)
        _, k = self.shape(path)
        groups = len(parts["scales"])
        group_of = parts.get("g_idx", np.arange(k) // (k // groups))
        if group_of.shape != (k,) or group_of.min() < 0 or group_of.max() >= groups:
            raise InvalidFile(f"{path}.g_idx names groups that do not exist")
        codes = unpack(np.ascontiguousarray(parts["qweight"][:, first:last].T), bits).T
        zeros = unpack(parts["qzeros"], bits)[:, first:last].astype(np.int32)
        if self.quantization.get("checkpoint_format", "gptq") != "gptq_v2":
            zeros = (zeros + 1) & ((1 << bits) - 1)
        scales = parts["scales"][:, first:last]
        shifted: NDArray[np.float32] = codes.astype(np.float32) - zeros[group_of].astype(np.float32)
        return shifted * scales[group_of]


def unpack(words: NDArray[np.int32], bits: int) -> NDArray[np.uint8]:
    """`[n, words]` -> codes `[n, words * 32 / bits]`: one stream of bits per row, low bits first."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return np.packbits(stream.reshape(len(words), -1, bits), axis=-1, bitorder="little")[..., 0]
