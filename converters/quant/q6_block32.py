"""q6_block32: 6.25 bits per weight; the layout is in cpp/src/quant/q6_block32.h."""

from __future__ import annotations

from .block32 import Block32


class Q6Block32(Block32):
    def __init__(self) -> None:
        super().__init__("q6_block32", range(-32, 32), (4, 2), (-32, 31))
