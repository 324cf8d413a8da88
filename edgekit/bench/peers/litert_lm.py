"""LiteRT-LM on the processor, where XNNPACK computes.

Its sessions take text and give text, so tools/litert_model.py gives the model a tokenizer whose words are the
ids ("17 4 2093"): a token is then what the protocol says it is. Reading the
words of a prompt is timed with it.

A session cannot take tokens back, nor go on after a generation that was stopped: another one is opened then,
and computes again what is kept, outside what is timed.

XNNPACK's packed weights are kept in a file beside the model, as they are by default: the first of all
loads writes it, and it stays in the page cache when a load is "cold".
"""

from __future__ import annotations

import importlib.metadata
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

MODULE = "litert_lm"
INSTALL = "pip install litert-lm-api==0.18.1"
SUFFIX = ".litertlm"
CONVERT = "python tools/litert_model.py CHECKPOINT MODEL"
SETTINGS: tuple[dict[str, Any], ...] = ({},)


def prepare() -> None:
    """Loads the library."""
    import litert_lm

    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)


class Engine:
    def __init__(self, path: str, threads: int, positions: int) -> None:
        import litert_lm

        with litert_lm.ModelInfo(path) as info:
            limit = info.max_context_tokens
        if positions > limit:
            raise RuntimeError(f"exported for {limit} positions, {positions} are needed: use --context")
        backend = litert_lm.Backend.CPU(thread_count=threads)
        self._engine = litert_lm.Engine(path, backend, max_num_tokens=positions)
        self._greedy = litert_lm.SamplerConfig(top_k=1)
        self._open()
        self.version = importlib.metadata.version("litert-lm-api")
        ((self.vocab_size,),) = self._engine.eos_token_ids  # the id after the last: no text ends
        self.facts = {"isa": "XNNPACK", "threads": threads}

    def truncate(self, count: int) -> None:
        kept = self._ids[:count]
        self._session.close()
        self._open()
        if kept:
            self.append(kept)

    def append(self, ids: Sequence[int]) -> None:
        if self._stopped:
            self.truncate(len(self._ids))
        self._session.run_prefill([" ".join(map(str, ids))])
        self._ids += ids

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        for _ in self.tokens(ids, count):
            yield None

    def tokens(self, ids: Sequence[int], count: int) -> Iterator[int]:
        """What `generate` generates."""
        self.append(ids)
        responses = self._session.run_decode_async()
        for response in islice(responses, count):
            (word,) = response.texts
            self._ids.append(int(word))
            yield self._ids[-1]
        self._session.cancel_process()
        deque(responses, maxlen=0)  # until it has stopped
        self._stopped = True

    def _open(self) -> None:
        self._session = self._engine.create_session(apply_prompt_template=False, sampler_config=self._greedy)
        self._ids: list[int] = []  # what it knows
        self._stopped = False
