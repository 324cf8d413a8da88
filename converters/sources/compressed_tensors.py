"""compressed-tensors checkpoints (llm-compressor, vLLM): integer weights, a scale for each row or group.

pack-quantized   weight_packed int32 [d_out, d_in * bits / 32], low bits first, codes shifted to start at 0
                 weight_zero_point int32 [d_out * bits / 32, groups], packed down the columns; or absent
int-quantized    weight int8 [d_out, d_in]; weight_zero_point int8 [d_out, groups]; or absent
both             weight_scale float [d_out, groups]; weight_shape [2]; weight_g_idx int32 [d_in] or absent

weight[out, in] = scale[out, g_idx[in]] * (code - zero)
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from edgekit.converters.checkpoint import FLOAT_TYPES
from edgekit.converters.sources._packed import F32, U8, PackedCheckpoint, Parts, bit_stream
from edgekit.errors import InvalidFile, UnsupportedModel


class _CompressedTensorsCheckpoint(PackedCheckpoint):
    BESIDE = ("weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape", "input_scale")
    SCALES, ORDER = "weight_scale", "weight_g_idx"
    WIDTHS: ClassVar[tuple[int, ...]]

    def bits(self, path: str) -> int:
        """One width for all matrices; which rows of the config a matrix belongs to is not looked at."""
        groups = self.quantization.get("config_groups")
        each = groups.values() if isinstance(groups, dict) else []
        given = [g["weights"] for g in each if isinstance(g, dict) and isinstance(g.get("weights"), dict)]
        widths = {(str(words.get("type", "int")), words.get("num_bits")) for words in given}
        if len(widths) != 1 or not widths <= {("int", bits) for bits in self.WIDTHS}:
            seen = ", ".join(sorted(f"{kind} of {bits} bits" for kind, bits in widths))
            raise self.unsupported(
                f"compressed-tensors {self.quantization.get('format')!r} with {seen or 'no groups'}; "
                f"integers of {' or '.join(map(str, self.WIDTHS))} bits, the same everywhere, are read"
            )
        return int(widths.pop()[1])

    def check_zeros(self, path: str, dtype: str, shape: tuple[int, int]) -> None:
        zeros = self.tensors.get(f"{path}.weight_zero_point")
        if zeros is not None and (zeros.dtype != dtype or zeros.shape != shape):
            raise InvalidFile(
                f"{path}.weight_zero_point is {zeros.dtype} {list(zeros.shape)}; {dtype} {list(shape)} is "
                "expected"
            )


class PackQuantizedCheckpoint(_CompressedTensorsCheckpoint):
    """Raises UnsupportedModel for widths other than 4 and 8 bits."""

    WEIGHT, WIDTHS = "weight_packed", (4, 8)

    def shape(self, path: str) -> tuple[int, int, int]:
        bits = self.bits(path)
        weight, scales = (
            self.entry(path, "weight_packed", "I32"),
            self.entry(path, "weight_scale", *FLOAT_TYPES),
        )
        self.entry(path, "weight_shape", "I64", "I32", dims=1)
        stored = self._parts(path)["weight_shape"].tolist()
        n, words, groups = weight.shape[0], weight.shape[1], scales.shape[1]
        k = stored[1] if len(stored) == 2 else 0
        if (
            stored[:1] != [n]
            or -(-k * bits // 32) != words
            or scales.shape[0] != n
            or k % groups
            or k < groups
        ):
            raise InvalidFile(
                f"{path}: shape {stored}, codes {list(weight.shape)} and scales {list(scales.shape)} do not "
                f"fit together at {bits} bits"
            )
        self.check_zeros(path, "I32", (-(-n * bits // 32), groups))
        return n, k, groups

    def unpack(self, path: str, parts: Parts, first: int, last: int) -> U8:
        _, k, _ = self.shape(path)
        return bit_stream(parts["weight_packed"][first:last], self.bits(path))[:, :k]

    def grid(self, path: str, parts: Parts, first: int, last: int) -> tuple[F32, U8]:
        bits, scale = self.bits(path), parts["weight_scale"][first:last]
        if "weight_zero_point" in parts:
            return scale, bit_stream(parts["weight_zero_point"].T, bits).T[first:last]
        return scale, np.full(scale.shape, 1 << (bits - 1), np.uint8)


class IntQuantizedCheckpoint(_CompressedTensorsCheckpoint):
    """Raises UnsupportedModel for widths other than 8 bits."""

    WEIGHT, WIDTHS = "weight", (8,)

    def shape(self, path: str) -> tuple[int, int, int]:
        self.bits(path)
        weight, scales = self.entry(path, "weight", "I8"), self.entry(path, "weight_scale", *FLOAT_TYPES)
        (n, k), groups = weight.shape, scales.shape[1]
        if scales.shape[0] != n or k % groups:
            raise InvalidFile(
                f"{path}: codes {list(weight.shape)} and scales {list(scales.shape)} do not fit together"
            )
        self.check_zeros(path, "I8", (n, groups))
        return n, k, groups

    def unpack(self, path: str, parts: Parts, first: int, last: int) -> U8:
        return parts["weight"][first:last].view(np.uint8) ^ np.uint8(128)

    def grid(self, path: str, parts: Parts, first: int, last: int) -> tuple[F32, U8]:
        scale = parts["weight_scale"][first:last]
        zero = parts.get("weight_zero_point", np.zeros((last, scale.shape[1]), np.int8))[first:last]
        return scale, zero.view(np.uint8) ^ np.uint8(128)


FORMATS = {"pack-quantized": PackQuantizedCheckpoint, "int-quantized": IntQuantizedCheckpoint}


def reader(quantization: dict[str, Any], where: str) -> type[PackedCheckpoint]:
    """The class for a `quantization_config`. Raises UnsupportedModel."""
    kind, sparsity = quantization.get("format"), quantization.get("sparsity_config")
    sparse = sparsity.get("format", "dense") if isinstance(sparsity, dict) else "dense"
    if kind not in FORMATS or sparse != "dense" or quantization.get("transform_config"):
        raise UnsupportedModel(
            f"{where}: compressed-tensors of format {kind!r} ({sparse}); {' and '.join(FORMATS)} are read, "
            "dense and without transforms",
            hint="take the unquantized checkpoint",
        )
    return FORMATS[kind]
