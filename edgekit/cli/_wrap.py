"""Streamed text on a terminal, whose lines break between words."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO


class Writer:
    """Writes text as it comes. On a terminal a word that meets the screen's edge moves to the next line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._wraps = self._stream.isatty()
        self._column = 0
        self._word = ""  # what the line ends with, since its last space

    def write(self, text: str) -> None:
        self._stream.write("".join(map(self._placed, text)) if self._wraps else text)
        self._stream.flush()

    def _placed(self, char: str) -> str:
        from rich.cells import cell_len

        if char.isspace():
            at_edge = char != "\n" and self._column + 1 > self._width()
            self._column = 0 if char == "\n" or at_edge else self._column + 1
            self._word = ""
            return "\n" if at_edge else char
        wide = cell_len(char)
        if self._column + wide <= self._width():
            self._column += wide
            # between two characters that are two cells wide, as Chinese, a line may break
            self._word = "" if wide == 2 else self._word + char
            return char
        moved = self._word if len(self._word) < self._width() else ""
        back = cell_len(moved)
        self._word = "" if wide == 2 else moved + char
        self._column = back + wide
        return (f"\x1b[{back}D\x1b[K" if back else "") + f"\n{moved}{char}"

    def _width(self) -> int:
        """All but the last column: a cursor beyond it would be nowhere."""
        return max(1, shutil.get_terminal_size().columns - 1)
