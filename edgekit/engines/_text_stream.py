"""Text from tokens as it comes: whole code points, held back while it could still become a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from edgekit.errors import UsageError


class TextStream:
    """`push` gives the text that is certain; `stopped` tells that a stop string was completed."""

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise UsageError("a stop string is empty")
        self.stops = tuple(stops)
        self.stopped = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, data: bytes, *, last: bool = False) -> str:
        """Text that is certainly before any stop string; with `last`, all that is left."""
        self._held += self._decoder.decode(data, last)
        found = [at for at in (self._held.find(stop) for stop in self.stops) if at >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
            return text
        keep = 0 if last else max((self._overlap(stop) for stop in self.stops), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def _overlap(self, stop: str) -> int:
        """How much of `stop` the held text ends with."""
        sizes = range(min(len(stop) - 1, len(self._held)), 0, -1)
        return next((size for size in sizes if self._held.endswith(stop[:size])), 0)
