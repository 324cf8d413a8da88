"""Affine groups, MLX's quantization: `weight = scale * code + bias`, one scale and bias for each group of a
row.

Codes of any width lie in one stream of bits per row, low bits first, cut into uint32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)

# Least-squares refits by bits: the error of Gaussian weights falls by 26, 14, 8, 5 and 5 percent. 8 bits need
# none.
_REFITS = {2: 5, 3: 3, 4: 2, 5: 1, 6: 1, 8: 0}


def fit(rows: F32, bits: int, group: int) -> tuple[F32, F32]:
    """Scales and biases `[n, k / group]` for `rows[n, k]`, of small squared error.

    Starts at the group's range and alternates between the nearest codes and the least-squares line through
    them. A group's largest weight is a code's value at the start, as in MLX, so that zeros stay zeros.
    """
    w = rows.reshape(rows.shape[0], -1, group)
    low, high = w.min(-1), w.max(-1)
    scale = np.maximum((high - low) / np.float32((1 << bits) - 1), np.float32(1e-7))
    from_low = np.abs(low) > np.abs(high)
    scale = np.where(from_low, scale, -scale)
    edge = np.where(from_low, low, high)
    steps = np.rint(edge / scale)
    scale = np.where(steps != 0, edge / np.where(steps != 0, steps, 1), scale)
    bias = np.where(steps != 0, edge, np.float32(0))
    for _ in range(_REFITS[bits]):
        scale, bias = _line(w, _nearest(w, scale, bias, bits), scale, bias)
    return scale, bias


def encode(rows: F32, scale: F32, bias: F32, bits: int) -> U8:
    """The nearest codes `[n, k]`, for scales and biases `[n, k / group]` as they will be stored."""
    n, k = rows.shape
    w = rows.reshape(n, scale.shape[1], -1)
    return _nearest(w, scale, bias, bits).astype(np.uint8).reshape(n, k)


def decode(codes: U8, scale: F32, bias: F32) -> F32:
    """Weights `[n, k]` of codes `[n, k]`."""
    n, k = codes.shape
    values = codes.reshape(n, scale.shape[1], -1) * scale[..., None]
    values += bias[..., None]
    return np.asarray(values.reshape(n, k), np.float32)


def pack(codes: U8, bits: int) -> U32:
    """`[n, k]` codes -> `[n, k * bits / 32]`."""
    n, k = codes.shape
    if 8 % bits == 0:
        per_byte = 8 // bits
        parts = codes.reshape(n, k // per_byte, per_byte)
        packed = parts[..., 0].copy()
        for i in range(1, per_byte):
            packed |= parts[..., i] << np.uint8(i * bits)
    else:
        stream = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little").reshape(n, k * bits)
        packed = np.packbits(stream, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4")


def unpack(packed: U32, bits: int) -> U8:
    """Inverse of `pack`."""
    n = packed.shape[0]
    stream = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=-1, bitorder="little")
    return np.packbits(stream.reshape(n, -1, bits), axis=-1, bitorder="little")[..., 0]


def _nearest(w: F32, scale: F32, bias: F32, bits: int) -> F32:
    codes = w - bias[..., None]
    codes *= np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)[..., None]
    np.rint(codes, out=codes)
    return np.clip(codes, 0, (1 << bits) - 1, out=codes)


def _line(w: F32, codes: F32, scale: F32, bias: F32) -> tuple[F32, F32]:
    """The least-squares line through (code, weight); what was given where all codes are equal."""
    size = np.float32(w.shape[-1])
    sum_codes, sum_w = codes.sum(-1), w.sum(-1)
    square = np.einsum("ngk,ngk->ng", codes, codes) - sum_codes * sum_codes / size
    cross = np.einsum("ngk,ngk->ng", codes, w) - sum_codes * sum_w / size
    spread = square > 0.5
    slope = np.divide(cross, square, out=scale.copy(), where=spread)
    return slope, np.where(spread, (sum_w - slope * sum_codes) / size, bias)
