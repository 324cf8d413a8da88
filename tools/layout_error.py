"""Squared error of the 4-bit layouts on Gaussian and Laplacian weights, relative to the weights' own square.

python tools/layout_error.py
"""

from __future__ import annotations

import numpy as np

from edgekit.converters.quant.q4_block32 import Q4Block32

ROWS, COLUMNS = 512, 2048


def linear_block32(w: np.ndarray) -> np.ndarray:
    """Round-to-nearest with one float16 scale per 32 weights, the largest at -8: the rule of llama.cpp's
    Q4_0.
    """
    groups = w.reshape(-1, 32)
    peak = np.take_along_axis(groups, np.abs(groups).argmax(1)[:, None], 1)
    scale = (peak / -8).astype(np.float16).astype(np.float32)
    codes = np.clip(np.rint(groups / scale), -8, 7)
    return (codes * scale).reshape(w.shape)


def main() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "Gaussian": rng.standard_normal((ROWS, COLUMNS)),
        "Laplacian": rng.laplace(size=(ROWS, COLUMNS)),
    }
    print(f"{'weights':<10} {'linear, 4.5 bits':>17} {'q4_block32, 4.25 bits':>22} {'ratio':>6}")
    for name, values in weights.items():
        w = values.astype(np.float32)
        linear = ((linear_block32(w) - w) ** 2).sum() / (w**2).sum()
        ours = ((Q4Block32().changed(w) - w) ** 2).sum() / (w**2).sum()
        print(f"{name:<10} {linear:>17.5f} {ours:>22.5f} {ours / linear:>6.2f}")


if __name__ == "__main__":
    main()
