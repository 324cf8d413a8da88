"""What an engine that gives logits, and no more, lacks: prompts, chat, sampling, stops, events.

LogitsEngine     a model: its tokenizer, its chat template, what a session takes
LogitsSession    a text: an engine's own class computes steps and takes tokens back, the rest is here
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgekit.engines import Facts, Prompt
from edgekit.engines._sampler import Sampler
from edgekit.engines._text_stream import TextStream
from edgekit.errors import Cancelled, ContextFull, OutOfBudget, UnsupportedModel, UsageError
from edgekit.events import DoneEvent, Event, EvictedEvent, Finish, KvType, MemoryPlan, Statistics, TextEvent

if TYPE_CHECKING:
    from edgekit.text import ChatTemplate, Tokenizer

DEFAULT_WINDOW = 4096
CHUNK = 256  # prompt tokens in one step
MAX_RECENT = 4096  # tokens that penalties can see
OWN = "edgekit's own engine can: convert the checkpoint to .edge"
Ids = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]


class LogitsEngine(ABC):
    NAME: ClassVar[str]
    ALL_LOGITS: ClassVar[bool] = True
    path: Path

    @property
    @abstractmethod
    def facts(self) -> Facts: ...

    @property
    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """`eos_ids`, `special_tokens` and `generation`, as in a package."""

    @property
    @abstractmethod
    def directory(self) -> Path:
        """Where the files of the tokenizer and the chat template lie."""

    @functools.cached_property
    def tokenizer(self) -> Tokenizer | None:
        from edgekit.converters.text.tokenizer import compile_tokenizer
        from edgekit.text import Tokenizer

        compiled = compile_tokenizer(self.directory)
        return None if compiled is None else Tokenizer.from_bytes(compiled.blob)

    @functools.cached_property
    def template(self) -> ChatTemplate | None:
        from edgekit.converters.text.chat_template import compile_template, find_chat_template
        from edgekit.text import ChatTemplate

        found = find_chat_template(self.directory)
        text = found.get("default") or next(iter(found.values()), None)
        return None if text is None else ChatTemplate.from_bytes(compile_template(text))

    def render_chat(self, context: Mapping[str, Any]) -> str:
        return self._chat_template().render({**self._chat_variables(), **context})

    def encode_chat(self, context: Mapping[str, Any]) -> list[int]:
        return self._chat_template().encode(self.words(), context, self._chat_variables())

    def words(self) -> Tokenizer:
        """The tokenizer. Raises UnsupportedModel when there is none."""
        if self.tokenizer is None:
            raise UnsupportedModel(f"{self.path} has no tokenizer; give prompts as token ids")
        return self.tokenizer

    def _chat_template(self) -> ChatTemplate:
        if self.template is None:
            raise UnsupportedModel(f"{self.path} has no chat template; give the prompt as text")
        return self.template

    def _chat_variables(self) -> dict[str, Any]:
        return {"add_generation_prompt": True, **self.metadata["special_tokens"]}

    @abstractmethod
    def kv_type(self, wanted: str) -> KvType:
        """Of keys and values, for "auto" or what is wanted. Raises UsageError for what the engine has not."""

    @abstractmethod
    def cache_bytes(self, window: int, kv: KvType) -> int:
        """Of the keys and values of so many tokens, of a type that `kv_type` gave."""

    def plan(
        self,
        window: int | None = None,
        sinks: int | None = None,
        kv: str = "auto",
        memory_budget: int | None = None,
    ) -> MemoryPlan:
        """What a session allocates; activations are the engine's own business, and 0 here."""
        kept, limit = self.kv_type(kv), self.facts.context or DEFAULT_WINDOW
        wanted = window or min(limit, DEFAULT_WINDOW)
        if sinks:
            raise UsageError(f"sinks is {sinks}; in {self.NAME} this model's cache ends when it is full")
        if wanted > limit:
            raise UsageError(f"window is {wanted}; this model's context is {limit}")
        if memory_budget is not None and window is None:
            wanted = min(wanted, memory_budget // max(1, self.cache_bytes(1, kept)))
        return self.planned(wanted, 0, CHUNK, kept, memory_budget)

    def planned(
        self, window: int, sinks: int, chunk: int, kv: KvType, memory_budget: int | None
    ) -> MemoryPlan:
        """Raises OutOfBudget."""
        cache = self.cache_bytes(window, kv)
        if memory_budget is not None and (cache > memory_budget or window < 1):
            raise OutOfBudget(
                f"a cache of {cache} bytes does not fit a budget of {memory_budget}",
                needed_bytes=self.cache_bytes(max(1, window), kv),
            )
        return MemoryPlan(
            weight_bytes=self.facts.file_bytes,
            tokenizer_bytes=0,
            cache_bytes=cache,
            activation_bytes=0,
            model_bytes=0,
            total_bytes=cache,
            window=window,
            sinks=sinks,
            chunk=chunk,
            kv=kv,
        )


class LogitsSession(ABC):
    evicts = False
    """Whether a full cache lets the oldest tokens go; else a text ends there."""
    position: int

    def __init__(self, model: Any, plan: MemoryPlan, on_full: str) -> None:
        if on_full not in ("evict", "stop", "error"):
            raise UsageError(f"on_full is {on_full!r}; choose one of: evict, stop, error")
        self.model, self.plan, self.on_full = model, plan, on_full
        self._cancelled = False
        self._running: Iterator[Event] = iter(())
        self._forget()

    # ---- what an engine does

    @property
    def rewinds(self) -> bool:
        """Whether the last tokens can be taken back."""
        return True

    @abstractmethod
    def step(self, ids: list[int], all_logits: bool) -> Logits:
        """Logits of the tokens that follow those `position` that the cache has, or of the last alone."""

    @abstractmethod
    def keep(self, count: int) -> None:
        """Lets the cache go of all but its first `count` tokens."""

    # ---- the session

    def forward(self, ids: Ids, all_logits: bool = True) -> Logits:
        self._cancelled = False
        return self._forward(ids.tolist(), all_logits)

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 0,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        seed: int | None = None,
        ignore_eos: bool = False,
        append: bool = False,
        add_special_tokens: bool = True,
        parse_special: bool = True,
        logit_bias: Sequence[tuple[int, float]] = (),
        speculation: int = 0,
        **sampling: float,
    ) -> None:
        """`speculation` changes nothing here."""
        names = {name for name in Sampler.__dataclass_fields__ if name not in ("seed", "bias")}
        advised = {name: v for name, v in self.model.metadata["generation"].items() if name in names}
        sampler = Sampler(
            seed=secrets.randbits(63) if seed is None else seed,
            bias=dict(logit_bias),
            **{**advised, **sampling},
        )
        stream = TextStream(stop)
        limit = max_tokens or self.plan.window + self.plan.sinks
        ends = frozenset(stop_ids), frozenset() if ignore_eos else frozenset(self.model.metadata["eos_ids"])
        if prompt.chat is not None:
            ids = self.model.encode_chat(prompt.chat)
        elif prompt.text is not None:
            begins = not append or self.position == 0
            ids = self._encode(prompt.text, add_special_tokens and begins, parse_special)
        else:
            assert prompt.ids is not None
            ids = prompt.ids.tolist()
        if not ids:
            raise UsageError(
                "the prompt has no tokens: give text, or a model whose tokenizer adds a first token"
            )
        self._check([*ids, *stop_ids, *(id for id, _ in logit_bias)])
        if not append:
            ids = self._keep_common(ids)
        self._cancelled = False
        self._running = self._events(ids, sampler, stream, limit, *ends)

    def next(self) -> Event:
        event = next(self._running, None)
        if event is None:
            raise UsageError("no generation runs")
        return event

    def cancel(self) -> None:
        self._cancelled = True

    def reset(self) -> None:
        self._keep_first(0)

    def rewind(self, count: int) -> None:
        if count > self.position or (count and not self.rewinds):
            raise UsageError(f"{count} of {self.position} tokens cannot be taken back from this cache")
        self._keep_first(self.position - count)

    def fork(self) -> Any:
        raise UnsupportedModel(f"{self.model.path}: the caches of {self.model.NAME} are not copied; {OWN}")

    def save(self, path: str) -> None:
        raise UnsupportedModel(f"{self.model.path}: the caches of {self.model.NAME} are not saved; {OWN}")

    def restore(self, path: str) -> None:
        raise UnsupportedModel(f"{self.model.path}: the caches of {self.model.NAME} are not restored; {OWN}")

    # ---- a generation

    def _events(
        self,
        ids: list[int],
        sampler: Sampler,
        stream: TextStream,
        max_tokens: int,
        stop_ids: frozenset[int],
        eos_ids: frozenset[int],
    ) -> Iterator[Event]:
        model, cached = self.model, self.position
        started = time.monotonic()
        reported = self._evicted()
        finish: Finish | None = None
        first_ms = 0.0
        generated = 0
        recent = deque((*self._recent, *ids), MAX_RECENT)
        start = model.tokenizer is not None and not model.tokenizer.decode(
            list(recent)[-8:], skip_special_tokens=True
        )
        room = len(ids) if self.evicts else self.plan.window - self.position
        try:
            logits = self._forward(ids[:room], False)[-1] if room > 0 else None
        except Cancelled:
            logits, finish = None, "cancelled"
        prefill_ms = 1e3 * (time.monotonic() - started)
        if len(ids) > room:
            finish = self._full()
        while finish is None:
            if self._cancelled:
                finish = "cancelled"
                break
            assert logits is not None
            id = sampler.sample(logits, list(recent), generated)
            if id in stop_ids or id in eos_ids:
                finish = "stop" if id in stop_ids else "eos"
                break
            generated += 1
            recent.append(id)
            if generated == 1:
                first_ms = 1e3 * (time.monotonic() - started)
            text = stream.push(self._bytes_of(id, first=start and generated == 1))
            if stream.stopped:
                finish = "stop"
            elif generated >= max_tokens:
                finish = "length"
            elif not self.evicts and self.position >= self.plan.window:
                finish = self._full()
            if finish in ("length", "context_full"):
                text += stream.push(b"", last=True)
            yield TextEvent(text, (id,))
            if finish is None:
                logits = self._advance([id], False)[-1]
            evicted = self._evicted()
            if evicted > reported:
                yield EvictedEvent(self.plan.sinks + reported, evicted - reported)
                reported = evicted
        if not stream.stopped and (rest := stream.push(b"", last=True)):
            yield TextEvent(rest, ())
        yield DoneEvent(
            finish,
            Statistics(
                prompt_tokens=cached + len(ids),
                cached_tokens=cached,
                generated_tokens=generated,
                drafted_tokens=0,
                accepted_tokens=0,
                prefill_ms=prefill_ms,
                first_token_ms=first_ms,
                decode_ms=1e3 * (time.monotonic() - started) - first_ms if generated else 0.0,
            ),
            sampler.seed,
        )

    def _forward(self, tokens: list[int], all_logits: bool = True) -> Logits:
        if not tokens:
            return np.empty((0, self.model.facts.vocab_size), np.float32)
        self._check(tokens)
        if not self.evicts and self.position + len(tokens) > self.plan.window:
            raise ContextFull(
                f"{self.position} tokens are in the cache, {len(tokens)} more do not fit {self.plan.window}"
            )
        found = []
        for begin in range(0, len(tokens), self.plan.chunk):
            if self._cancelled:
                raise Cancelled("the session was cancelled")
            found.append(self._advance(tokens[begin : begin + self.plan.chunk], all_logits))
        return np.concatenate(found if all_logits else found[-1:])

    def _advance(self, ids: list[int], all_logits: bool) -> Logits:
        logits = self.step(ids, all_logits)
        self.position += len(ids)
        self._recent.extend(ids)
        if self.rewinds:
            self._tokens += ids
        else:
            self._digest.update(np.array(ids, "<i4").tobytes())
        return logits

    def _check(self, ids: Sequence[int]) -> None:
        most = self.model.facts.vocab_size - 1
        if wrong := [id for id in ids if not 0 <= id <= most]:
            raise UsageError(f"a token id is {wrong[0]}; ids lie from 0 to {most}")

    def _full(self) -> Finish:
        if self.on_full == "error":
            raise ContextFull(
                f"the window of {self.plan.window} tokens is full", hint="give a larger --window"
            )
        return "context_full"

    def _evicted(self) -> int:
        """Positions that no later token sees."""
        if not self.evicts:
            return 0
        return max(0, self.position - self.plan.sinks - self.plan.window)

    def _bytes_of(self, id: int, *, first: bool) -> bytes:
        tokenizer = self.model.tokenizer
        if tokenizer is None:
            return b""
        data = tokenizer.token_bytes(id)
        # Special tokens are no text. Twice, because a single space may be stripped.
        if not tokenizer.decode([id, id], skip_special_tokens=True):
            return b""
        # At the start of a text SentencePiece's first space is no part of it.
        stripped = first and data[:1] == b" " and not tokenizer.decode([id]).startswith(" ")
        return data[1:] if stripped else data

    def _encode(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Text that spells BOS itself gets no second one."""
        tokenizer = self.model.words()
        ids = tokenizer.encode(text, add_special, parse_special)
        bare = tokenizer.encode(text, False, parse_special)
        return bare if bare and bare[0] == tokenizer.bos_id else ids

    def _keep_common(self, ids: list[int]) -> list[int]:
        """What of a whole text is not in the cache yet; at least its last token, whose logits are needed."""
        common = 0
        if self.rewinds:
            pairs = zip(self._tokens, ids, strict=False)
            common = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self._tokens), len(ids)))
            common = min(common, len(ids) - 1)
        elif self.position < len(ids) and self._digest.digest() == _digest(ids[: self.position]).digest():
            common = self.position
        self._keep_first(common)
        return ids[common:]

    def _keep_first(self, count: int) -> None:
        """Takes back all but the first tokens."""
        if count < self.position or not count:
            self.keep(count)
        if not count:
            self._forget()
        elif self.rewinds:
            self.position = count
            del self._tokens[count:]
            self._recent = deque(self._tokens, MAX_RECENT)

    def _forget(self) -> None:
        self.position = 0
        # Of sessions that can take tokens back; a text of any length is a digest.
        self._tokens: list[int] = []
        self._digest = _digest([])
        self._recent = deque[int](maxlen=MAX_RECENT)


def _digest(ids: Sequence[int]) -> hashlib.blake2b:
    return hashlib.blake2b(np.array(ids, "<i4").tobytes())
