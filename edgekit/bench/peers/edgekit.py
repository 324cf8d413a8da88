"""Our engine through Python, where the native program (cpp/bench/edgekit_bench.cpp) is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

MODULE = "edgekit.model"
INSTALL = "pip install edgekit"
SUFFIX = ".edge"
CONVERT = "edgekit convert CHECKPOINT --format edge -o MODEL"
SETTINGS: tuple[dict[str, Any], ...] = ({},)


class Engine:
    def __init__(self, path: str, threads: int, positions: int, kv: Any = "auto") -> None:
        import edgekit

        self._model = edgekit.Model(path, threads)
        self._session = self._model.session(window=max(1, positions - 4), kv=kv)
        plan = self._session.plan
        self.version = edgekit.__version__
        self.vocab_size = self._model.vocab_size
        self.facts = {
            "isa": self._model.isa,
            "threads": self._model.threads,
            "cache_bytes": plan.cache_bytes,
            "slots": plan.window + plan.sinks,
        }

    def truncate(self, count: int) -> None:
        self._session.rewind(self._session.position - count)

    def append(self, ids: Sequence[int]) -> None:
        self._session.forward(list(ids), all_logits=False)

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        events = self._session.generate(
            list(ids), max_tokens=count, append=True, temperature=0, ignore_eos=True, speculation=0
        )
        for event in events:
            if event.kind == "text":
                yield from (None for _ in event.tokens)
