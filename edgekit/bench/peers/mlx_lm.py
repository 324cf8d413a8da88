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

        import mlx.core
        from mlx_lm.models import cache
        from mlx_lm.utils import load_model

        self._mx, self._cache_of = mlx.core, cache
        self._model, config = load_model(Path(path))
        self._cache = cache.make_prompt_cache(self._model)
        self.version = importlib.metadata.version("mlx-lm")
        self.vocab_size = int(config["vocab_size"])
        self.facts = {"isa": str(mlx.core.default_device())}

    def truncate(self, count: int) -> None:
        surplus = int(self._cache[0].offset) - count
        if surplus and self._cache_of.trim_prompt_cache(self._cache, surplus) != surplus:
            raise RuntimeError("mlx-lm cannot take tokens of this model back")

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
        tokens = self._mx.array(ids)
        return self._mx.argmax(self._model(tokens.reshape(1, -1), cache=self._cache)[:, -1])
