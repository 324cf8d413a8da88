"""Small floats with a shared scale for each group (OCP MX, and NVFP4), as MLX stores them.

mxfp4   4-bit e2m1 codes, groups of 32, scale 2^(byte - 127)
mxfp8   8-bit e4m3 codes, groups of 32, scale 2^(byte - 127)
nvfp4   4-bit e2m1 codes, groups of 16, scale an e4m3 byte
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def _e4m3() -> F32:
    """Values of the codes 0 to 126; 127 is not a number."""
    code = np.arange(127)
    exponent, mantissa = code >> 3, code & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    return np.where(exponent > 0, normal, np.ldexp(mantissa / 8, -6)).astype(np.float32)


E4M3 = _e4m3()
LEVELS = {"mxfp4": E2M1, "mxfp8": E4M3, "nvfp4": E2M1}
GROUP = {"mxfp4": 32, "mxfp8": 32, "nvfp4": 16}


def encode(rows: F32, mode: str) -> tuple[U8, U8]:
    """Codes `[n, k]` (sign in the highest bit) and scale bytes `[n, k / group]` for `rows[n, k]`.

    Of the two powers of two around the scale that just avoids clipping, the one with the smaller squared
    error.
    """
    levels = LEVELS[mode]
    w = rows.reshape(rows.shape[0], -1, GROUP[mode])
    wanted = np.abs(w).max(-1) / levels[-1]
    if mode == "nvfp4":
        scale_bytes = _nearest(wanted, E4M3)
        return _codes(w, E4M3[scale_bytes], levels).reshape(rows.shape), scale_bytes
    exponent = np.ceil(np.log2(np.maximum(wanted, np.float32(2.0**-126))))
    tried = [np.clip(exponent - less, -127, 127) for less in (0, 1)]
    scales = [np.exp2(e).astype(np.float32) for e in tried]
    codes = [_codes(w, scale, levels) for scale in scales]
    errors = [np.square(_values(c, s, levels) - w).sum(-1) for c, s in zip(codes, scales, strict=True)]
    lower = errors[1] < errors[0]
    scale_bytes = (np.where(lower, tried[1], tried[0]) + 127).astype(np.uint8)
    return np.where(lower[..., None], codes[1], codes[0]).reshape(rows.shape), scale_bytes


def decode(codes: U8, scale_bytes: U8, mode: str) -> F32:
    """Weights `[n, k]`."""
    n, k = codes.shape
    if mode == "nvfp4":
        scale = E4M3[np.minimum(scale_bytes, 126)]
    else:
        scale = np.exp2(scale_bytes.astype(np.float32) - 127)
    return _values(codes.reshape(n, scale.shape[1], -1), scale, LEVELS[mode]).reshape(n, k)


def _values(codes: U8, scale: F32, levels: F32) -> F32:
    sign_bit = 8 if len(levels) == 8 else 128
    magnitude = levels[np.minimum(codes & (sign_bit - 1), len(levels) - 1)]
    return np.where(codes & sign_bit, -magnitude, magnitude) * scale[..., None]


def _codes(w: F32, scale: F32, levels: F32) -> U8:
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    codes = _nearest(np.abs(w) * inverse[..., None], levels)
    return codes | np.where(w < 0, np.uint8(8 if len(levels) == 8 else 128), np.uint8(0))


def _nearest(values: F32, levels: F32) -> U8:
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values).astype(np.uint8)
