"""q4_block32: 4.25 bits per weight; the layout and the reason for the levels are in
cpp/src/quant/q4_block32.h.
"""

from __future__ import annotations

from .block32 import Block32

LEVELS = (-31, -24, -18, -14, -11, -8, -5, -2, 0, 3, 6, 9, 12, 16, 21, 30)


class Q4Block32(Block32):
    def __init__(self) -> None:
        # Steps of 1 / 3.4: finer ones would clip the largest weight, coarser ones cost accuracy.
        super().__init__("q4_block32", LEVELS, (4,), (-31, 30, -31 / 0.92, 30 / 0.92), 3.4)
