"""q5_block32: 5.25 bits per weight; the layout is in cpp/src/quant/q5_block32.h."""

from __future__ import annotations

from .block32 import Block32


class Q5Block32(Block32):
    def __init__(self) -> None:
        super().__init__("q5_block32", range(-16, 16), (4, 1), (-16, 15, -16 / 0.95, 15 / 0.95))
