"""mlx-lm. On Apple it computes on the GPU; elsewhere it is slow, and a reference only."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MODULE = "mlx_lm"
INSTALL = "pip install mlx-lm"
SUFFIX = "-mlx"
CONVERT = "edgekit convert CHECKPOINT --format mlx -o MODEL"
SETTINGS: tuple[dict[str, Any], ...] = ({},)
CHUNK = 512


class Engine:
    def __init__(self, path: str, threads: int, positions: int) -> None:
        from edgekit.engines import mlx

        engine = mlx.Engine(Path(path))
        self._mx = engine.mx
        self._context = mlx.Context(engine)
        self.version = importlib.metadata.version("mlx-lm")
        self.vocab_size = engine.vocab_size
        self.facts = {"isa": engine.isa}

    def truncate(self, count: int) -> None:
        self._context.keep(count)

    def append(self, ids: Sequence[int]) -> None:
        for first in range(0, len(ids), CHUNK):
            self._mx.eval(self._next(ids[first : first + CHUNK]))

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        last = (len(ids) - 1) // CHUNK * CHUNK
        self.append(ids[:last])
        token = self._next(ids[last:])
        for _ in range(count):
            self._mx.async_eval(token)
            following = self._next(token)  # computed while the token is fetched
            token.item()
            yield None
            token = following

    def _next(self, ids: Any) -> Any:
        return self._mx.argmax(self._context.logits(ids)[-1])
