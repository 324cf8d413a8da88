"""Signed blocks, ONNX Runtime's MatMulNBits: `weight = scale * (code - 2 ** (bits - 1))`, one scale for each
block.

Scales may be negative. Low bits come first; a row is padded to whole blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

BITS = (2, 4, 8)
# Shares of the peak at which a scale is tried, followed by a least-squares fit: clipping the largest weight a
# little costs less than coarser steps for the others.
_SHARES = {2: (1.0, 0.8, 0.6), 4: (1.0, 0.9), 8: (1.0,)}


def blocks(k: int, block: int) -> int:
    return -(-k // block)


def fit(rows: F32, bits: int, block: int) -> F32:
    """Scales `[n, blocks]` for `rows[n, k]`, of small squared error."""
    w = _blocked(rows, block)
    half = 1 << (bits - 1)
    peak = np.take_along_axis(w, np.abs(w).argmax(-1)[..., None], -1)[..., 0]
    best_gain = np.full_like(peak, -1)
    best = np.zeros_like(peak)
    for end in (-half, half - 1):
        for share in _SHARES[bits]:
            codes = _nearest(w, peak * np.float32(share / end), half)
            cross = np.einsum("nbk,nbk->nb", w, codes)
            square = np.einsum("nbk,nbk->nb", codes, codes)
            scale = np.divide(cross, square, out=np.zeros_like(cross), where=square > 0)
            better = cross * scale > best_gain
            np.copyto(best_gain, cross * scale, where=better)
            np.copyto(best, scale, where=better)
    return best


def encode(rows: F32, scale: F32, bits: int, block: int) -> U8:
    """Codes `[n, blocks * block]`, for scales as they will be stored."""
    half = 1 << (bits - 1)
    codes = _nearest(_blocked(rows, block), scale, half) + np.float32(half)
    return codes.astype(np.uint8).reshape(rows.shape[0], -1)


def decode(codes: U8, scale: F32, bits: int, k: int) -> F32:
    """Weights `[n, k]`."""
    n = codes.shape[0]
    values = codes.reshape(n, scale.shape[1], -1).astype(np.float32) - np.float32(1 << (bits - 1))
    return (values * scale[..., None]).reshape(n, -1)[:, :k]


def pack(codes: U8, bits: int) -> U8:
    """`[n, k]` codes -> `[n, k * bits / 8]`."""
    per_byte = 8 // bits
    parts = codes.reshape(codes.shape[0], -1, per_byte)
    packed = parts[..., 0].copy()
    for i in range(1, per_byte):
        packed |= parts[..., i] << np.uint8(i * bits)
    return packed


def unpack(packed: U8, bits: int) -> U8:
    """Inverse of `pack`."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(packed.shape[0], -1)


def _blocked(rows: F32, block: int) -> F32:
    n, k = rows.shape
    if k % block:
        rows = np.pad(rows, ((0, 0), (0, -k % block)))
    return rows.reshape(n, -1, block)


def _nearest(w: F32, scale: F32, half: int) -> F32:
    codes: F32 = w * np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)[..., None]
    np.rint(codes, out=codes)
    return np.clip(codes, -half, half - 1, out=codes)
