"""Model and Session: a model by its name, and a text it goes on with, whatever engine runs it.

A `Model` may be shared between threads. A `Session` is one text: a cache of fixed size and a sampler.
Generation is an iterator of events:

    with edgekit.Model("m.edge") as model, model.session() as session:
        for event in session.generate("Once upon a time", max_tokens=64):
            print(event.text, end="", flush=True)
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from edgekit import arguments, engines, hub
from edgekit.arguments import Message, TokenIds
from edgekit.engines import Engine, EngineSession, Prompt, edge
from edgekit.errors import EdgekitError, UnsupportedModel, UsageError
from edgekit.events import DoneEvent, Event, KvType, MemoryPlan
from edgekit.text import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

OnFull: TypeAlias = Literal["evict", "stop", "error"]
UINT32_MAX = 2**32 - 1

_Opened = TypeVar("_Opened")


class Model:
    """A model, opened by the engine that runs it.

    `name` is a `.edge` file, an ONNX directory, a checkpoint (a Hugging Face or MLX directory, a GGUF file),
    or what `edgekit.resolve` fetches: a Hugging Face id, a URL. A checkpoint is packed into the cache first,
    at 8 bits if it is quantized, else at 16: convert it to choose, and to have it verified.

    `threads`: None lets the engine choose. `backend`: "auto", "cpu" or "gpu" (edgekit's own engine),
    "onnx" (ONNX Runtime), or "llama_cpp" and "mlx", which run GGUF files and MLX directories as they are. Of
    edgekit's own engine: `isa`, one of `edgekit.isas()`, None takes EDGEKIT_ISA from the environment, else
    the best; `verify_hashes` reads the whole file and checks its sums first; `in_memory` reads the file into
    memory, so that it may be replaced or cut while the model is open: a mapped one must stay as it is.
    A model with parts that the GPU does not compute yet is computed by the processor: `relayed` says why.
    `progress(task, done, total)` is told of downloads and packing.

    Raises InvalidFile, UnsupportedModel, IoFailure, OutOfMemory, UsageError.
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        threads: int | None = None,
        isa: str | None = None,
        *,
        backend: str = "auto",
        verify_hashes: bool = False,
        in_memory: bool = False,
        progress: hub.Progress | None = None,
    ) -> None:
        if threads is not None and not 1 <= arguments.integer(threads, "threads") <= 64:
            raise UsageError(f"threads is {threads}; give 1 to 64, or None to let the engine choose")
        self.path = arguments.path(name)
        arguments.utf8(backend, "backend")
        if isa is not None:
            arguments.utf8(isa, "isa")
        options = {"isa": isa, "verify_hashes": verify_hashes, "in_memory": in_memory}
        given = {option: value for option, value in options.items() if value}
        module, path = _runnable(self.path, backend, progress)
        if foreign := given.keys() - set(module.OPTIONS):
            raise UsageError(f"{self.path}: {', '.join(sorted(foreign))} is of edgekit's own engine alone")
        opened: Engine = module.open(path, threads, backend, **given)
        self._engine: Engine | None = opened
        facts = opened.facts
        self.vocab_size = facts.vocab_size
        self.n_layers = facts.n_layers
        self.d_model = facts.d_model
        self.context = facts.context
        self.threads = facts.threads
        self.isa = facts.isa
        self.model_type = facts.model_type
        self.scheme = facts.scheme
        self.file_bytes = facts.file_bytes
        self.weight_bytes = facts.weight_bytes
        self.n_parameters = facts.n_parameters
        self.relayed = facts.relayed
        self.has_tokenizer = opened.tokenizer is not None
        self.has_chat_template = facts.has_chat_template
        self.metadata = opened.metadata

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises UnsupportedModel when the package has none (`has_tokenizer` tells)."""
        tokenizer = _open(self._engine, "model").tokenizer
        if tokenizer is None:
            raise UnsupportedModel(f"{self.path} has no tokenizer; give prompts as token ids")
        return tokenizer

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The text that the model's chat template makes of a conversation; `variables` go to the template as
        they are. To look at: give `Session.generate` the messages themselves.

        Raises TemplateError (the template's own message), UnsupportedModel (the package has no template).
        """
        context = arguments.chat_context(messages, tools, variables)
        context["add_generation_prompt"] = bool(add_generation_prompt)
        return _open(self._engine, "model").render_chat(context)

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[int]:
        """The token ids of a conversation, as `render_chat`. Only what the template itself writes becomes
        special tokens: what a message says stays text.
        """
        context = arguments.chat_context(messages, tools, variables)
        context["add_generation_prompt"] = bool(add_generation_prompt)
        return _open(self._engine, "model").encode_chat(context)

    def session(
        self,
        window: int | None = None,
        sinks: int | None = None,
        kv: KvType = "auto",
        memory_budget: int | None = None,
        on_full: OnFull = "evict",
        seed: int | None = None,
    ) -> Session:
        """A new text, with everything it will ever need allocated.

        `window` recent positions are kept and the first `sinks` for ever (None: 4, and the system prompt of a
        conversation); `memory_budget` (bytes) lets the engine choose window and `kv`. `seed` is the default
        of `generate`. Raises OutOfBudget (with `needed_bytes`), OutOfMemory, UsageError.
        """
        options = {**_plan(window, sinks, kv, memory_budget), "on_full": on_full}
        checked = None if seed is None else arguments.count(seed, "seed")
        return Session(self, _open(self._engine, "model").session(**options), checked)

    def plan(
        self,
        window: int | None = None,
        sinks: int | None = None,
        kv: KvType = "auto",
        memory_budget: int | None = None,
    ) -> MemoryPlan:
        """What `session` with the same options would allocate. Raises OutOfBudget, UsageError."""
        return _open(self._engine, "model").plan(**_plan(window, sinks, kv, memory_budget))

    def close(self) -> None:
        """Lets go of the file. Open sessions keep what they need until they close."""
        self._engine = None

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
    sinks: int | None = None,
    kv: KvType = "auto",
    memory_budget: int | None = None,
) -> MemoryPlan:
    """`Model.plan` from a `.edge` file's header alone, before loading anything. Raises OutOfBudget,
    InvalidFile.
    """
    return edge.can_load(path, **_plan(window, sinks, kv, memory_budget))


class Session:
    """One text. A call from a second thread while another thread's runs raises UsageError, except `cancel`;
    a generation runs until its iterator is exhausted or closed, or another call of its own thread ends it. A
    refused call changes nothing.
    """

    def __init__(self, model: Model, engine: EngineSession, seed: int | None) -> None:
        self.model = model
        self.seed = seed
        self.last_done: DoneEvent | None = None  # how the last generation ended, also one that was dropped
        self._engine: EngineSession | None = engine
        self._calling = threading.Lock()
        self._generation = 0  # counts what ended a generation: the iterator of an older one ends
        self._owner: threading.Thread | None = None  # who began the generation that has events to give

    @property
    def position(self) -> int:
        """Tokens processed since the start, evicted ones included."""
        return _open(self._engine, "session").position

    @property
    def plan(self) -> MemoryPlan:
        """What this session allocated."""
        return _open(self._engine, "session").plan

    def forward(self, ids: TokenIds, all_logits: bool = True) -> npt.NDArray[np.float32]:
        """Appends tokens to the cache; float32 logits [len(ids), vocab_size], or [1, vocab_size] of the last
        alone.
        """
        tokens = arguments.token_ids(ids)
        with self._alone() as engine:
            logits = engine.forward(tokens, bool(all_logits))
            self._ended(None)
        return logits

    def generate(
        self,
        prompt: str | TokenIds | Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_variables: Mapping[str, Any] | None = None,
        max_tokens: float | None = None,
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
        stop: str | Sequence[str] | None = None,
        stop_ids: TokenIds | None = None,
        seed: int | None = None,
        ignore_eos: bool | None = None,
        append: bool | None = None,
        add_special_tokens: bool | None = None,
        parse_special: bool | None = None,
        speculation: int | None = None,
    ) -> Generator[Event, None, None]:
        """Begins a generation; iterate to run it. The last event is a `DoneEvent`.

        `prompt` is text, token ids, or messages for the chat template, with `tools` and `template_variables`
        for it. It is the whole text so far, and what the cache shares with its beginning is not computed
        again; with `append` it follows what is in the cache.

        None leaves an option to the engine: sampling to what the model's makers advise, `max_tokens` to what
        the window and sinks hold (`math.inf`: until the model ends), `seed` to chance (the last event
        tells it). `temperature` 0 is greedy; `logit_bias` adds to logits by id, -inf forbids; the text ends
        before the first of `stop`, and at any of `stop_ids`; `speculation` is the draft length of prompt
        lookup (0 off). `edgekit.h` documents each.

        Dropping or closing the iterator ends the generation and leaves the session usable. Raises UsageError,
        ContextFull, TemplateError; then nothing has changed.
        """
        given = _prompt(prompt, tools, template_variables or {})
        if given.ids is not None and not given.ids.size and not append:
            raise UsageError("the prompt is an empty list; give text, messages or token ids")
        options = _given(
            arguments.number,
            temperature=temperature,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
        )
        options |= _given(
            arguments.count,
            max_tokens=UINT32_MAX if max_tokens == math.inf else max_tokens,
            top_k=top_k,
            penalty_window=penalty_window,
            seed=self.seed if seed is None else seed,
            speculation=speculation,
        )
        options |= _given(
            arguments.switch,
            ignore_eos=ignore_eos,
            append=append,
            add_special_tokens=add_special_tokens,
            parse_special=parse_special,
        )
        lists = {
            "logit_bias": arguments.logit_bias(logit_bias),
            "stop": arguments.texts(stop, "a stop"),
            "stop_ids": [] if stop_ids is None else arguments.token_ids(stop_ids).tolist(),
        }
        with self._alone() as engine:
            engine.generate(given, **lists, **options)
            self._ended(None)
            self._owner = threading.current_thread()
            return self._events(engine, self._generation)

    def cancel(self) -> None:
        """From any thread: what runs ends soon, as finish "cancelled" or the error Cancelled. Nothing runs:
        nothing happens.
        """
        engine = self._engine
        if engine is not None:
            engine.cancel()

    def reset(self) -> None:
        """Forgets everything; the next prompt starts anew."""
        with self._alone() as engine:
            engine.reset()
            self._ended(None)

    def rewind(self, count: int) -> None:
        """Takes the last `count` tokens back. Raises UsageError when the cache no longer holds what would
        come into view.
        """
        tokens = arguments.count(count, "count")
        with self._alone() as engine:
            engine.rewind(tokens)
            self._ended(None)

    def fork(self) -> Session:
        """A second session with the same contents, to try another continuation."""
        with self._alone() as engine:
            return Session(self.model, engine.fork(), self.seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state to a file; portable between machines, bound to the model's weights. Atomic."""
        with self._alone() as engine:
            engine.save(arguments.path(path))

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Takes a saved state. Raises InvalidFile for a corrupt file or another model's, and keeps the state
        it had.
        """
        with self._alone() as engine:
            engine.restore(arguments.path(path))
            self._ended(None)

    def close(self) -> None:
        """Ends what it generates, and frees the memory."""
        self._generation += 1
        self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _events(self, engine: EngineSession, generation: int) -> Generator[Event, None, None]:
        """A generator that has begun, so that dropping it ends the generation even before its first event."""
        events = self._run(engine, generation)
        next(events)
        return events  # type: ignore[return-value]  # its None was taken just now

    def _run(self, engine: EngineSession, generation: int) -> Generator[Event | None, None, None]:
        try:
            yield None
            while self._generation == generation:
                with self._alone(iterating=True):
                    try:
                        event = engine.next()
                    except EdgekitError:
                        self._ended(None)
                        raise
                    if isinstance(event, DoneEvent):
                        self._ended(event)
                yield event
        finally:
            if self._generation == generation:
                with suppress(EdgekitError), self._alone(iterating=True):  # who is in a call ends it
                    self._ended(None)
                    engine.cancel()
                    while not isinstance(event := engine.next(), DoneEvent):
                        pass
                    self.last_done = event

    @contextmanager
    def _alone(self, *, iterating: bool = False) -> Iterator[EngineSession]:
        """The engine's session for one call. A generation belongs to the thread that began it, its iterator
        to whoever has that. Raises UsageError.
        """
        engine = _open(self._engine, "session")
        if not self._calling.acquire(blocking=False):
            raise UsageError(_BUSY)
        try:
            owner = None if iterating else self._owner
            if owner is not None and owner is not threading.current_thread() and owner.is_alive():
                raise UsageError(_BUSY)
            yield engine
        finally:
            self._calling.release()

    def _ended(self, event: DoneEvent | None) -> None:
        """What ran does no more: its iterator ends."""
        self._generation += 1
        self._owner = None
        self.last_done = event


_BUSY = (
    "this session is at work for another thread or call; give each thread a session of its own "
    "(model.session()), or end the other's generation first (close its iterator)"
)


def _runnable(name: str, backend: str, progress: hub.Progress | None) -> tuple[ModuleType, Path]:
    """The engine for a model of this name, and the path of what it opens."""
    path = hub.resolve(name, progress)
    own = engines.of(path)
    module = engines.called(backend) if backend != "auto" else own if own and own.AUTOMATIC else edge
    if module is not edge or edge.opens(path):
        return module, path
    if path.is_dir() and not (path / "config.json").exists():
        raise UsageError(
            f"{name} is a directory without config.json, so no checkpoint",
            hint="give a .edge file, or the directory that has config.json",
        )
    from edgekit.conversion import packed

    return edge, packed(path, progress or (lambda task, done, total: None))


def _prompt(
    prompt: str | TokenIds | Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    variables: Mapping[str, Any],
) -> Prompt:
    if arguments.is_messages(prompt):
        return Prompt(chat=arguments.chat_context(prompt, tools, variables))  # type: ignore[arg-type]
    if tools is not None or variables:
        raise UsageError("tools and template_variables go to a chat template: give messages as the prompt")
    if isinstance(prompt, str):
        return Prompt(text=prompt)
    wanted = "the prompt is text, messages or token ids"
    return Prompt(ids=arguments.token_ids(prompt, wanted))  # type: ignore[arg-type]


def _plan(
    window: int | None, sinks: int | None, kv: KvType, memory_budget: int | None
) -> dict[str, int | str]:
    return {"kv": kv} | _given(arguments.count, window=window, sinks=sinks, memory_budget=memory_budget)


def _given(checked: Callable[[Any, str], Any], **options: Any) -> dict[str, Any]:
    """Options that are not None. Raises UsageError for one that is not as it should be."""
    return {name: checked(value, name) for name, value in options.items() if value is not None}


def _open(opened: _Opened | None, what: str) -> _Opened:
    if opened is None:
        raise UsageError(f"this {what} is closed")
    return opened
