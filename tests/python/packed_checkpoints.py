"""Checkpoints packed as AutoGPTQ, AutoAWQ and compressed-tensors pack them, from known weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import Checkpoint

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word holds column AWQ_ORDER[i]
Tensors = dict[str, NDArray[Any]]


def save(directory: Path, config: dict[str, Any], tensors: Tensors) -> Path:
    kinds = {"float32": "F32", "float16": "F16", "int32": "I32", "int64": "I64", "int8": "I8"}
    header, offset = {}, 0
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    for name, values in ordered:
        span = [offset, offset + values.nbytes]
        header[name] = {"dtype": kinds[str(values.dtype)], "shape": values.shape, "data_offsets": span}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    directory.mkdir()
    data = b"".join(np.ascontiguousarray(values).tobytes() for _, values in ordered)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def codes_of(
    weight: NDArray[np.float32], bits: int, group: int, symmetric: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(codes [in, out], zeros [groups, out], scales [groups, out]) of a weight [out, in]."""
    groups = weight.T.reshape(-1, group, weight.shape[0])
    low, high = groups.min(1), groups.max(1)
    top = (1 << bits) - 1
    if symmetric:
        scale = (np.maximum(-low, high) / (top // 2)).astype(np.float16)
        zero = np.full(scale.shape, 1 << (bits - 1))
    else:
        scale = ((high - low) / top).astype(np.float16)
        zero = np.clip(np.rint(-low / scale.astype(np.float32)), 1, top)
    codes = np.clip(np.rint(groups / scale.astype(np.float32)[:, None] + zero[:, None]), 0, top)
    return codes.reshape(-1, weight.shape[0]).astype(np.int64), zero.astype(np.int64), scale


def stream(codes: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """Along the last axis, low bits first."""
    out = np.zeros((len(codes), codes.shape[1] * bits // 32), np.int32)
    for row, values in zip(out, codes, strict=True):
        number = sum(int(value) << (bits * i) for i, value in enumerate(values))
        row[:] = np.frombuffer(number.to_bytes(row.nbytes, "little"), np.int32)
    return out


def nibbles(codes: NDArray[Any]) -> NDArray[np.int32]:
    parts = codes.reshape(len(codes), -1, 8)[..., AWQ_ORDER].astype(np.uint64)
    words = sum(parts[..., i] << np.uint64(4 * i) for i in range(8))
    return np.asarray(words).astype(np.uint32).view(np.int32)


def quantize(
    source: Path,
    out: Path,
    method: str,
    bits: int = 4,
    *,
    group: int = 16,
    shuffled: bool = False,
    symmetric: bool = False,
) -> tuple[Path, Tensors]:
    """A checkpoint packed as `method`, and the weights its codes stand for.

    `method`: "gptq", "awq", or compressed-tensors' "pack-quantized" and "int-quantized".
    """
    checkpoint = Checkpoint(source)
    tensors: Tensors = {}
    want: Tensors = {}
    for name in checkpoint.names():
        weight = checkpoint.read(name)
        if "_proj.weight" not in name:
            tensors[name] = want[name] = weight
            continue
        path = name.removesuffix(".weight")
        n, k = weight.shape
        order = np.random.default_rng(0).permutation(k) if shuffled else np.arange(k)
        codes, zeros, scales = codes_of(weight[:, order], bits, group, symmetric)
        group_of = np.arange(k) // group
        values = (codes - zeros[group_of]) * scales.astype(np.float32)[group_of]
        back = np.argsort(order)
        want[name] = values[back].T.astype(np.float32)
        if method == "gptq":
            tensors |= {
                f"{path}.qweight": stream(codes[back].T, bits).T.copy(),
                f"{path}.qzeros": stream(zeros - 1, bits),
                f"{path}.scales": scales,
                f"{path}.g_idx": group_of[back].astype(np.int32),
            }
        elif method == "awq":
            tensors |= {
                f"{path}.qweight": nibbles(codes),
                f"{path}.qzeros": nibbles(zeros),
                f"{path}.scales": scales,
            }
        elif method == "pack-quantized":
            tensors |= {
                f"{path}.weight_packed": stream(codes.T, bits),
                f"{path}.weight_scale": scales.T.copy(),
                f"{path}.weight_shape": np.array([n, k]),
            }
            if not symmetric:
                tensors[f"{path}.weight_zero_point"] = stream(zeros, bits).T.copy()
        else:
            tensors |= {
                f"{path}.weight": (codes.T - 128).astype(np.int8),
                f"{path}.weight_scale": scales.T.copy(),
            }
            if not symmetric:
                tensors[f"{path}.weight_zero_point"] = (zeros.T - 128).astype(np.int8)
    quantization: dict[str, Any] = {"quant_method": method, "bits": bits, "group_size": group}
    if method.endswith("-quantized"):
        weights = {"num_bits": bits, "type": "int", "group_size": group, "symmetric": symmetric}
        quantization = {
            "quant_method": "compressed-tensors",
            "format": method,
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        }
    return save(out, checkpoint.config | {"quantization_config": quantization}, tensors), want
