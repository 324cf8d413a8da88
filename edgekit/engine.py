"""Model and Session: the Python face of the runtime.

A `Model` is mapped from its file and may be shared between threads. A `Session` is one conversation: a cache
of fixed size and a sampler. Generation is an iterator of events:

    with edgekit.Model("m.edge") as model, model.session() as session:
        for event in session.generate("Once upon a time", max_tokens=64):
            print(event.text, end="", flush=True)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np

from edgekit.errors import EdgekitError, UnsupportedModel, UsageError
from edgekit.runtimes import _edgekit

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer, Self

KvType: TypeAlias = Literal["auto", "f32", "f16", "int8", "int4"]
OnFull: TypeAlias = Literal["evict", "stop", "error"]
Finish: TypeAlias = Literal["eos", "length", "stop", "cancelled", "context_full"]
Message: TypeAlias = Mapping[str, Any]

_Native = TypeVar("_Native")


def isas() -> tuple[str, ...]:
    """Instruction sets this build has and this processor runs, best first."""
    return tuple(_edgekit.isas().split(","))


def encode_q4_block32(rows: npt.NDArray[np.float32], starts: bytes, codes: bytes) -> npt.NDArray[np.uint8]:
    """Tiles `[n / 16, tile_bytes]` of rows `[n, k]`, n a multiple of 16, by the tables of
    `edgekit.converters.quant.q4_block32`, and as it does.
    """
    return _edgekit.encode_q4_block32(rows, starts, codes)


# ---- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a generation did. Times in milliseconds; `first_token_ms` counts from the call of `generate`."""

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    prefill_ms: float
    first_token_ms: float
    decode_ms: float

    @property
    def prefill_tok_s(self) -> float:
        """Prompt tokens computed (not found in the cache) per second; 0 when there were none."""
        computed = self.prompt_tokens - self.cached_tokens
        return 1e3 * computed / self.prefill_ms if computed > 0 and self.prefill_ms > 0 else 0.0

    @property
    def decode_tok_s(self) -> float:
        """Tokens per second after the first, which prefill pays for; 0 when there was one at most."""
        decoded = self.generated_tokens - 1
        return 1e3 * decoded / self.decode_ms if decoded > 0 and self.decode_ms > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TextEvent:
    """Whole code points (possibly none yet), and the tokens sampled since the last event."""

    text: str
    tokens: tuple[int, ...]
    kind: ClassVar[Literal["text"]] = "text"


@dataclass(frozen=True, slots=True)
class EvictedEvent:
    """Positions [first, first + count) left the cache: the model no longer sees them."""

    first: int
    count: int
    kind: ClassVar[Literal["evicted"]] = "evicted"
    text: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The last event of a generation: why it ended, and what it did."""

    finish: Finish
    stats: Statistics
    kind: ClassVar[Literal["done"]] = "done"
    text: ClassVar[str] = ""


Event: TypeAlias = TextEvent | EvictedEvent | DoneEvent


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a session allocates, to the byte (`total_bytes` = cache + activations + model), and what is
    mapped.
    """

    weight_bytes: int
    tokenizer_bytes: int
    cache_bytes: int
    activation_bytes: int
    model_bytes: int
    total_bytes: int
    window: int
    sinks: int
    chunk: int
    kv: KvType


class RenderedChat(str):
    """A prompt that holds its special tokens already, so that `generate` adds none."""


# ---- tokenizer and chat template ---------------------------------------------------------------------------


class Tokenizer:
    """Text to token ids and back. Safe to share between threads."""

    def __init__(self, native: _edgekit.Tokenizer) -> None:
        self._native = native
        info = native.info()
        self.vocab_size: int = info["vocab_size"]
        self.bos_id: int | None = _id(info["bos_id"])
        self.eos_id: int | None = _id(info["eos_id"])
        self.pad_id: int | None = _id(info["pad_id"])

    @classmethod
    def from_bytes(cls, blob: Buffer) -> Tokenizer:
        """Opens a compiled tokenizer (a copy is kept). Raises InvalidFile."""
        return cls(_edgekit.Tokenizer(blob))

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids. `add_special_tokens`: add BOS and the like; `parse_special`: recognise "<|eot|>" in the
        text.
        """
        return self._native.encode(_utf8(text), add_special_tokens, parse_special)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Text; bytes that are not UTF-8 become U+FFFD, ids outside the vocabulary nothing."""
        return self._native.decode(_ids(ids).tolist(), skip_special_tokens)

    def token_bytes(self, id: int) -> bytes:
        """The bytes one token stands for; they may be a part of a code point."""
        return self._native.token_bytes(id)

    def token_to_id(self, text: str) -> int | None:
        """The id of a token's exact text, or None."""
        return _id(self._native.token_to_id(_utf8(text)))


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, native: _edgekit.ChatTemplate) -> None:
        self._native = native

    @classmethod
    def from_bytes(cls, blob: Buffer) -> ChatTemplate:
        """Opens a compiled template (a copy is kept). Raises InvalidFile."""
        return cls(_edgekit.ChatTemplate(blob))

    def render(self, context: Mapping[str, Any]) -> str:
        """The text for `context` ("messages", "tools", "bos_token", …). Raises TemplateError."""
        return self._native.render(_json(context))


# ---- model -------------------------------------------------------------------------------------------------


class Model:
    """A package, mapped from its file.

    `threads`: None lets the engine choose. `isa`: one of `edgekit.engine.isas()`; None takes EDGEKIT_ISA from
    the environment, else the best. `verify_hashes` reads the whole file and checks its sums first.
    Raises InvalidFile, UnsupportedModel, IoFailure, OutOfMemory, UsageError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int | None = None,
        isa: str | None = None,
        *,
        verify_hashes: bool = False,
    ) -> None:
        if threads is not None and not 1 <= threads <= 64:
            raise UsageError(f"threads is {threads}; give 1 to 64, or None to let the engine choose")
        self.path = os.fspath(path)
        self._native: _edgekit.Model | None = _edgekit.Model(
            _utf8(self.path), threads or 0, isa, verify_hashes
        )
        info = self._native.info()
        self.vocab_size: int = info["vocab_size"]
        self.n_layers: int = info["n_layers"]
        self.d_model: int = info["d_model"]
        self.context: int = info["context"]
        self.threads: int = info["n_threads"]
        self.isa: str = info["isa"]
        self.model_type: str = info["model_type"]
        self.scheme: str = info["scheme"]
        self.file_bytes: int = info["file_bytes"]
        self.weight_bytes: int = info["weight_bytes"]
        self.n_parameters: int = info["n_parameters"]
        self.has_chat_template: bool = info["has_chat_template"]
        self.metadata: dict[str, Any] = json.loads(self._native.metadata())
        tokenizer = self._native.tokenizer()
        self._tokenizer = None if tokenizer is None else Tokenizer(tokenizer)

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises UnsupportedModel when the package has none (`has_tokenizer` tells)."""
        if self._tokenizer is None:
            raise UnsupportedModel(f"{self.path} has no tokenizer; give prompts as token ids")
        return self._tokenizer

    @property
    def has_tokenizer(self) -> bool:
        return self._tokenizer is not None

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> RenderedChat:
        """The prompt the model's chat template makes of a conversation; `variables` go to the template as
        they are.

        Raises TemplateError (the template's own message), UnsupportedModel (the package has no template).
        """
        context = {"messages": list(messages), "add_generation_prompt": add_generation_prompt, **variables}
        if tools is not None:
            context["tools"] = list(tools)
        return RenderedChat(_open(self._native, "model").render_chat(_json(context)))

    def session(
        self,
        window: int | None = None,
        sinks: int = 4,
        kv: KvType = "auto",
        memory_budget: int | None = None,
        on_full: OnFull = "evict",
        seed: int = 0,
    ) -> Session:
        """A new conversation, with everything it will ever need allocated.

        `window` recent positions are kept and the first `sinks` for ever; `memory_budget` (bytes) lets the
        engine choose window and `kv`. `seed` is the default of `generate`. Raises OutOfBudget (with
        `needed_bytes`), OutOfMemory, UsageError.
        """
        options = _session_options(window, sinks, kv, memory_budget, on_full)
        return Session(self, _edgekit.Session(_open(self._native, "model"), **options), seed)

    def plan(
        self,
        window: int | None = None,
        sinks: int = 4,
        kv: KvType = "auto",
        memory_budget: int | None = None,
    ) -> MemoryPlan:
        """What `session` with the same options would allocate. Raises OutOfBudget, UsageError."""
        options = _session_options(window, sinks, kv, memory_budget, "evict")
        return MemoryPlan(**_open(self._native, "model").plan(**options))

    def close(self) -> None:
        """Lets go of the file. Open sessions keep it mapped until they close."""
        self._native = self._tokenizer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<edgekit.Model {self.path!r}: {self.model_type}, {self.scheme}>"


def can_load(
    path: str | os.PathLike[str],
    window: int | None = None,
    sinks: int = 4,
    kv: KvType = "auto",
    memory_budget: int | None = None,
) -> MemoryPlan:
    """`Model.plan` from the file's header alone, before loading anything. Raises OutOfBudget, InvalidFile."""
    options = _session_options(window, sinks, kv, memory_budget, "evict")
    return MemoryPlan(**_edgekit.can_load(os.fspath(path), **options))


# ---- session -----------------------------------------------------------------------------------------------


class Session:
    """One conversation. One thread at a time, except `cancel`."""

    def __init__(self, model: Model, native: _edgekit.Session, seed: int) -> None:
        self.model = model
        self.seed = seed
        self._native: _edgekit.Session | None = native
        self._generation = 0  # counts `generate` calls: the iterator of an older one ends
        self._running = False  # the engine has events to give

    @property
    def position(self) -> int:
        """Tokens processed since the start, evicted ones included."""
        return _open(self._native, "session").position()

    @property
    def plan(self) -> MemoryPlan:
        """What this session allocated."""
        return MemoryPlan(**_open(self._native, "session").plan())

    def forward(
        self, ids: Iterable[int] | npt.NDArray[np.integer[Any]], all_logits: bool = True
    ) -> npt.NDArray[np.float32]:
        """Appends tokens to the cache; float32 logits [len(ids), vocab_size], or [1, vocab_size] of the last
        alone.
        """
        native = _open(self._native, "session")
        self._end_generation()
        return native.forward(_ids(ids), all_logits)

    def generate(
        self,
        prompt: str | Sequence[int] | npt.NDArray[np.integer[Any]] | Sequence[Message],
        *,
        max_tokens: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        penalty_window: int | None = None,
        logit_bias: Mapping[int, float] | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        ignore_eos: bool = False,
        append: bool = False,
        add_special_tokens: bool | None = None,
        parse_special: bool | None = None,
        speculation: int | None = None,
    ) -> Iterator[Event]:
        """Begins a generation; iterate to run it. The last event is a `DoneEvent`.

        `prompt` is text, token ids, or messages for the chat template. It is the whole text so far, and what
        the cache shares with its beginning is not computed again; with `append` it follows what is in the
        cache.

        None leaves an option to the engine (`edgekit.h` documents each); `max_tokens` 0 means until the model
        ends; `temperature` 0 is greedy; `logit_bias` adds to logits by id, -inf forbids; the text ends before
        the first of `stop`; `speculation` is the draft length of prompt lookup (0 off). `add_special_tokens`
        is true by default, false for rendered chats.

        Dropping or closing the iterator ends the generation and leaves the session usable. Raises UsageError,
        ContextFull.
        """
        native = _open(self._native, "session")
        self._end_generation()
        text: bytes | None = None
        ids: list[int] = []
        if not isinstance(prompt, str) and len(prompt) > 0 and isinstance(prompt[0], Mapping):
            prompt = self.model.render_chat(prompt)  # type: ignore[arg-type]
        if isinstance(prompt, str):
            text = _utf8(prompt)
            if add_special_tokens is None:
                add_special_tokens = not isinstance(prompt, RenderedChat)
        else:
            ids = _ids(prompt).tolist()  # type: ignore[arg-type]
        options = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "typical_p": typical_p,
            "repetition_penalty": repetition_penalty,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
            "penalty_window": penalty_window,
            "seed": self.seed if seed is None else seed,
            "ignore_eos": ignore_eos,
            "append": append,
            "add_special_tokens": add_special_tokens,
            "parse_special": parse_special,
            "speculation": speculation,
        }
        native.generate(
            text,
            ids,
            [stop] if isinstance(stop, str) else list(stop),
            list((logit_bias or {}).items()),
            **{name: value for name, value in options.items() if value is not None},
        )
        self._running = True
        return self._events(native, self._generation)

    def cancel(self) -> None:
        """From any thread: what runs ends soon, as finish "cancelled" or the error Cancelled. Nothing runs:
        nothing happens.
        """
        native = self._native
        if native is not None:
            native.cancel()

    def reset(self) -> None:
        """Forgets everything; the next prompt starts anew."""
        native = _open(self._native, "session")
        self._end_generation()
        native.reset()

    def rewind(self, count: int) -> None:
        """Takes the last `count` tokens back. Raises UsageError when the cache no longer holds what would
        come into view.
        """
        native = _open(self._native, "session")
        self._end_generation()
        native.rewind(count)

    def fork(self) -> Session:
        """A second session with the same contents, to try another continuation."""
        return Session(self.model, _open(self._native, "session").fork(), self.seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state to a file; portable between machines, bound to the model's weights. Atomic."""
        _open(self._native, "session").save(os.fspath(path))

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Takes a saved state. Raises InvalidFile for a corrupt file or another model's, and keeps the state
        it had.
        """
        native = _open(self._native, "session")
        self._end_generation()
        native.restore(os.fspath(path))

    def close(self) -> None:
        """Frees the memory."""
        self._native = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _events(self, native: _edgekit.Session, generation: int) -> Iterator[Event]:
        try:
            while self._running and self._generation == generation:
                try:
                    event = _event(native.next())
                except EdgekitError:
                    self._running = False
                    raise
                self._running = not isinstance(event, DoneEvent)
                yield event
        finally:
            if self._generation == generation:
                self._end_generation()

    def _end_generation(self) -> None:
        """Ends what runs, so that nothing of it is left in the session's next call."""
        self._generation += 1
        if not self._running or self._native is None:
            return
        self._running = False
        self._native.cancel()
        with suppress(EdgekitError):
            while self._native.next()[0] != "done":
                pass


def _event(native: _edgekit._Event) -> Event:
    if native[0] == "text":
        return TextEvent(native[1], native[2])
    if native[0] == "evicted":
        return EvictedEvent(native[1], native[2])
    return DoneEvent(native[1], Statistics(**native[2]))  # type: ignore[arg-type]


def _session_options(
    window: int | None, sinks: int, kv: str, memory_budget: int | None, on_full: str
) -> dict[str, int | str]:
    return {
        "window": window or 0,
        "sinks": sinks,
        "kv": kv,
        "memory_budget_bytes": memory_budget or 0,
        "on_full": on_full,
    }


def _open(native: _Native | None, what: str) -> _Native:
    if native is None:
        raise UsageError(f"this {what} is closed")
    return native


def _id(value: int) -> int | None:
    return None if value < 0 else value


def _ids(ids: Iterable[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """Token ids as int32 [n]. Raises UsageError for anything else."""
    array = np.asarray(ids if isinstance(ids, (np.ndarray, list, tuple)) else list(ids))
    if array.size == 0:
        return np.empty(0, np.int32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UsageError(
            f"token ids are {array.dtype} of shape {list(array.shape)}; give one list of integers"
        )
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        raise UsageError(
            f"a token id is {array.min() if array.min() < 0 else array.max()}; ids lie in the vocabulary"
        )
    return np.ascontiguousarray(array, dtype=np.int32)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the text is not valid Unicode: a lone surrogate at character {error.start}"
        ) from None


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"the conversation cannot be written as JSON: {error}") from None
