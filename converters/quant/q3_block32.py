"""q3_block32: 3.25 bits per weight; the layout is in cpp/src/quant/q3_block32.h."""

from __future__ import annotations

from .block32 import Block32

# Lloyd and Max's for groups of SmolLM2's, Gemma's and of Gaussian weights under a scale of either sign.
LEVELS = (-31, -18, -10, -4, 2, 8, 15, 25)


class Q3Block32(Block32):
    def __init__(self) -> None:
        ends = tuple(end / share for share in (1, 0.9, 0.8) for end in (-31, 25))
        super().__init__("q3_block32", LEVELS, (2, 1), ends, 3.2)
