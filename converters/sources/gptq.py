"""GPTQ checkpoints (AutoGPTQ, GPTQModel): codes along the inputs, groups possibly in another order (`g_idx`).

qweight int32 [d_in * bits / 32, d_out]      qzeros int32 [groups, d_out * bits / 32]
scales  float [groups, d_out]                g_idx  int32 [d_in]: the group of each input

weight[in, out] = scales[g_idx[in], out] * (code - zero)       zero: qzeros + 1, in "gptq_v2" qzeros
"""

from __future__ import annotations

import numpy as np

from edgekit.converters.checkpoint import FLOAT_TYPES
from edgekit.converters.sources._packed import F32, U8, PackedCheckpoint, Parts, bit_stream
from edgekit.errors import InvalidFile

WIDTHS = (2, 4, 8)


class GptqCheckpoint(PackedCheckpoint):
    """Raises UnsupportedModel for widths other than 2, 4 and 8 bits."""

    WEIGHT, BESIDE = "qweight", ("qzeros", "scales", "g_idx")
    SCALES, ORDER = "scales", "g_idx"

    def bits(self, path: str) -> int:
        bits = self.quantization.get("bits")
        if bits not in WIDTHS:
            raise self.unsupported(f"GPTQ with {bits!r} bits; {', '.join(map(str, WIDTHS))} are read")
        return int(bits)

    def shape(self, path: str) -> tuple[int, int, int]:
        bits = self.bits(path)
        weight, scales = self.entry(path, "qweight", "I32"), self.entry(path, "scales", *FLOAT_TYPES)
        zeros = self.entry(path, "qzeros", "I32")
        n, k = weight.shape[1], weight.shape[0] * 32 // bits
        groups = scales.shape[0]
        if scales.shape[1] != n or zeros.shape != (groups, n * bits // 32) or k % groups:
            raise InvalidFile(
                f"{path}: codes {list(weight.shape)}, scales {list(scales.shape)}, zeros {list(zeros.shape)} "
                f"do not fit together at {bits} bits"
            )
        return n, k, groups

    def unpack(self, path: str, parts: Parts, first: int, last: int) -> U8:
        return bit_stream(parts["qweight"][:, first:last].T, self.bits(path))

    def grid(self, path: str, parts: Parts, first: int, last: int) -> tuple[F32, U8]:
        bits = self.bits(path)
        zeros = bit_stream(parts["qzeros"], bits)[:, first:last]
        if self.quantization.get("checkpoint_format", "gptq") != "gptq_v2":
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << bits) - 1)
        return np.ascontiguousarray(parts["scales"][:, first:last].T), zeros.T
