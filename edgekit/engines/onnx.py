"""ONNX directories, through ONNX Runtime.

Keys and values lie in buffers that are inputs and outputs of a step at once, allocated with the session;
those of an exporter's directory grow with the text instead. A directory with GroupQueryAttention ends at its
window ("context_full"), as does an exporter's; one of standard operators alone lets the oldest tokens go, as
edgekit's own engine does.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.engines import Facts, Prompt
from edgekit.engines._sampler import Sampler
from edgekit.engines._text_stream import TextStream
from edgekit.errors import (
    Cancelled,
    ContextFull,
    InvalidFile,
    OutOfBudget,
    OutOfMemory,
    UnsupportedModel,
    UsageError,
)
from edgekit.events import DoneEvent, Event, EvictedEvent, Finish, MemoryPlan, Statistics, TextEvent
from edgekit.text import ChatTemplate, Tokenizer

BACKENDS = ("onnx",)
OPTIONS = ()
DEFAULT_WINDOW = 4096
CHUNK = 256  # prompt tokens in one step
OWN = "edgekit's own engine can: convert the checkpoint to .edge"
MAX_RECENT = 4096  # tokens that penalties can see
# Which of their dimensions a graph must fix.
SIZES = {"past_key_values": (0, 1, 0, 1), "past_conv": (0, 1, 1), "logits": (0, 0, 1)}
Ids = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]


def opens(path: Path) -> bool:
    """A directory with a graph in it; one in the folder `onnx` of a checkpoint is not the checkpoint."""
    beside = any(path.glob("onnx/*.onnx")) and not any(path.glob("*.safetensors"))
    return path.is_dir() and (beside or any(path.glob("*.onnx")))


def open(path: Path, threads: int | None, backend: str) -> Engine:
    return Engine(path, threads)


class Engine:
    """An ONNX directory: one that `edgekit convert --format onnx` wrote, or another with the same inputs.

    Raises InvalidFile for what is no such directory or damaged, UnsupportedModel for inputs that edgekit does
    not feed.
    """

    def __init__(self, path: Path, threads: int | None) -> None:
        import onnxruntime

        from edgekit.converters.convert import special_tokens
        from edgekit.converters.text.chat_template import compile_template, find_chat_template
        from edgekit.converters.text.tokenizer import compile_tokenizer

        self.path = path
        genai = _read_json(path / "genai_config.json")
        config = _read_json(path / "config.json")
        file = _model_file(path, genai)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self.runtime = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            facts = self.runtime.get_modelmeta().custom_metadata_map
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise InvalidFile(f"{file}: ONNX Runtime cannot open it: {str(error).strip()[:300]}") from None
        self.inputs = {given.name: given for given in self.runtime.get_inputs()}
        self.outputs = {output.name: output for output in self.runtime.get_outputs()}
        self._check(file)
        self.said = {k.removeprefix("edgekit."): v for k, v in facts.items() if k.startswith("edgekit.")}
        self.is_ring = "position" in self.inputs
        self.grows = self.said.get("cache") == "grows"  # keys and values are concatenated, in new buffers
        shares = _members(genai, "search").get("past_present_share_buffer")
        if "scheme" not in self.said and not shares:
            raise UnsupportedModel(
                f"{file}: nothing says that its caches can be input and output at once",
                hint="convert the checkpoint with edgekit, or export it for onnxruntime-genai",
            )
        words = _members(genai, "model")
        context = self._fact("context", words.get("context_length"))
        eos = self._fact("eos_ids", words.get("eos_token_id", config.get("eos_token_id")))
        self.eos_ids = frozenset(id for id in (eos if isinstance(eos, list) else [eos]) if type(id) is int)
        self.metadata: dict[str, Any] = {
            "eos_ids": sorted(self.eos_ids),
            "special_tokens": _members({"": self._fact("special_tokens", special_tokens(path))}, ""),
            "generation": _members({"": self._fact("generation", {})}, ""),
        }
        compiled = compile_tokenizer(path)
        self.tokenizer = None if compiled is None else Tokenizer.from_bytes(compiled.blob)
        found = find_chat_template(path)
        text = found.get("default") or next(iter(found.values()), None)
        self._template = None if text is None else ChatTemplate.from_bytes(compile_template(text))
        size = sum(p.stat().st_size for p in file.parent.glob(f"{file.name}*"))
        self.facts = Facts(
            vocab_size=int(self.outputs["logits"].shape[-1]),
            n_layers=sum(name.endswith((".key", "past_conv")) for name in self.inputs),
            d_model=0,
            context=context if type(context) is int and 0 < context < 1 << 31 else 0,
            threads=threads or os.cpu_count() or 1,
            isa="onnxruntime",
            model_type=self.said.get("model_type") or str(config.get("model_type", "unknown")),
            scheme=self.said.get("scheme", "onnx"),
            file_bytes=size,
            weight_bytes=size,
            n_parameters=0,
            has_chat_template=self._template is not None,
        )

    def render_chat(self, context: Mapping[str, Any]) -> str:
        return self._chat_template().render({**self._chat_variables(), **context})

    def encode_chat(self, context: Mapping[str, Any]) -> list[int]:
        return self._chat_template().encode(self._words(), context, self._chat_variables())

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            raise UnsupportedModel(f"{self.path} has no chat template; give the prompt as text")
        return self._template

    def _chat_variables(self) -> dict[str, Any]:
        return {"add_generation_prompt": True, **self.metadata["special_tokens"]}

    def plan(
        self,
        window: int | None = None,
        sinks: int | None = None,
        kv: str = "auto",
        memory_budget: int | None = None,
        on_full: str = "evict",
    ) -> MemoryPlan:
        """What a session allocates. `activation_bytes` is ONNX Runtime's own business, and 0 here."""
        caches = [given for name, given in self.inputs.items() if name.startswith("past_key_values.")]
        item_bytes = 2 if caches and "float16" in caches[0].type else 4
        if kv not in ("auto", "f16" if item_bytes == 2 else "f32"):
            raise UsageError(f"kv is {kv!r}; this directory keeps keys and values as its graph says")
        fixed = 0
        if self.is_ring:
            window = self._written_for("window", window)
            sinks = self._written_for("sinks", sinks)
            fixed = sum(item_bytes * int(np.prod(given.shape)) for given in caches)
        per_token = 0 if self.is_ring else sum(item_bytes * g.shape[1] * g.shape[3] for g in caches)
        limit = self.facts.context or DEFAULT_WINDOW
        wanted = window or min(limit, DEFAULT_WINDOW)
        if not self.is_ring:
            if sinks:
                raise UsageError(f"sinks is {sinks}; this directory's cache ends when it is full")
            if memory_budget is not None and per_token and window is None:
                wanted = min(wanted, memory_budget // per_token)
        cache = fixed + per_token * wanted
        if memory_budget is not None and (cache > memory_budget or wanted < 1):
            raise OutOfBudget(
                f"a cache of {cache} bytes does not fit a budget of {memory_budget}",
                needed_bytes=fixed + per_token * (window or 1),
            )
        if not self.is_ring and wanted > limit:
            raise UsageError(f"window is {wanted}; this directory's context is {limit}")
        return MemoryPlan(
            weight_bytes=self.facts.file_bytes,
            tokenizer_bytes=0,
            cache_bytes=cache,
            activation_bytes=0,
            model_bytes=0,
            total_bytes=cache,
            window=wanted,
            sinks=sinks or 0,
            chunk=1 if self.is_ring else CHUNK,
            kv="f16" if item_bytes == 2 else "f32",
        )

    def _written_for(self, name: str, wanted: int | None) -> int:
        own = int(self.said.get(name, 0))
        if wanted not in (None, own):
            raise UsageError(f"{name} is {wanted}; this directory was written for {own}")
        return own

    def session(self, on_full: str = "evict", **options: Any) -> Session:
        """Only a ring lets tokens go; others end with "context_full"."""
        if on_full not in ("evict", "stop", "error"):
            raise UsageError(f"on_full is {on_full!r}; choose one of: evict, stop, error")
        return Session(self, self.plan(**options), on_full)

    def _words(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UnsupportedModel(f"{self.path} has no tokenizer; give prompts as token ids")
        return self.tokenizer

    def _fact(self, name: str, default: Any) -> Any:
        """What the graph's metadata says of the model, or `default`."""
        if name not in self.said:
            return default
        try:
            return json.loads(self.said[name])
        except ValueError:
            raise InvalidFile(f"{self.path}: edgekit.{name} is {self.said[name]!r}") from None

    def _check(self, file: Path) -> None:
        known = ("input_ids", "attention_mask", "position_ids", "position")
        strange = [
            n for n in self.inputs if n not in known and not n.startswith(("past_key_values.", "past_conv."))
        ]
        if strange or "input_ids" not in self.inputs or "logits" not in self.outputs:
            raise UnsupportedModel(
                f"{file}: inputs {', '.join(strange) or 'without input_ids'} are not known, or no logits",
                hint="edgekit runs decoders with the inputs of Transformers.js and onnxruntime-genai",
            )
        for name, given in (*self.inputs.items(), ("logits", self.outputs["logits"])):
            kind = name.partition(".")[0]
            if kind in SIZES and (
                len(given.shape) != len(SIZES[kind])
                or any(
                    wanted and type(size) is not int
                    for size, wanted in zip(given.shape, SIZES[kind], strict=True)
                )
            ):
                raise InvalidFile(f"{file}: {name} has the shape {given.shape}")


class Session:
    """Buffers of keys and values, and the sampler's view of the text."""

    def __init__(self, model: Engine, plan: MemoryPlan, on_full: str) -> None:
        self.model, self.plan, self.on_full = model, plan, on_full
        self.position = 0
        self._rewinds = not model.is_ring and not any(name.startswith("past_conv.") for name in model.inputs)
        self._cancelled = False
        self._running: Iterator[Event] = iter(())
        self._allocate()

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
        ends = frozenset(stop_ids), frozenset() if ignore_eos else self.model.eos_ids
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
        self._allocate()

    def rewind(self, count: int) -> None:
        if count > self.position or (count and not self._rewinds):
            raise UsageError(f"{count} of {self.position} tokens cannot be taken back from this cache")
        self._keep_first(self.position - count)

    def fork(self) -> Session:
        raise UnsupportedModel(f"{self.model.path}: ONNX Runtime's caches are not copied; {OWN}")

    def save(self, path: str) -> None:
        raise UnsupportedModel(f"{self.model.path}: ONNX Runtime's caches are not saved; {OWN}")

    def restore(self, path: str) -> None:
        raise UnsupportedModel(f"{self.model.path}: ONNX Runtime's caches are not restored; {OWN}")

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
        room = len(ids) if model.is_ring else self.plan.window - self.position
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
            elif not model.is_ring and self.position >= self.plan.window:
                finish = self._full()
            if finish in ("length", "context_full"):
                text += stream.push(b"", last=True)
            yield TextEvent(text, (id,))
            if finish is None:
                logits = self._step([id])[-1]
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
        if not self.model.is_ring and self.position + len(tokens) > self.plan.window:
            raise ContextFull(
                f"{self.position} tokens are in the cache, {len(tokens)} more do not fit {self.plan.window}"
            )
        found = []
        for begin in range(0, len(tokens), self.plan.chunk):
            if self._cancelled:
                raise Cancelled("the session was cancelled")
            logits = self._step(tokens[begin : begin + self.plan.chunk])
            found.append(logits if all_logits else logits[-1:])
        return np.concatenate(found if all_logits else found[-1:])

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
        if not self.model.is_ring:
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
        tokenizer = self.model._words()
        ids = tokenizer.encode(text, add_special, parse_special)
        bare = tokenizer.encode(text, False, parse_special)
        return bare if bare and bare[0] == tokenizer.bos_id else ids

    def _keep_common(self, ids: list[int]) -> list[int]:
        """What of a whole text is not in the cache yet; at least its last token, whose logits are needed."""
        common = 0
        if self._rewinds:
            pairs = zip(self._tokens, ids, strict=False)
            common = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self._tokens), len(ids)))
            common = min(common, len(ids) - 1)
        elif self.position < len(ids) and self._digest.digest() == _digest(ids[: self.position]).digest():
            common = self.position
        self._keep_first(common)
        return ids[common:]

    def _keep_first(self, count: int) -> None:
        """Takes back all but the first tokens."""
        if count == 0:
            self._allocate()
        elif self.model.grows and count < self.position:
            self._cut(count)
        self.position = count
        del self._tokens[count:]

    def _cut(self, length: int) -> None:
        """Lets go of all but the first positions of caches that grow."""
        import onnxruntime

        for name, value in self._buffers.items():
            axis = list(self.model.inputs[name].shape).index("past_sequence_length")
            kept = np.ascontiguousarray(value.numpy().take(range(length), axis))
            self._keep(name, onnxruntime.OrtValue.ortvalue_from_numpy(kept))

    # ---- a step

    def _allocate(self) -> None:
        import onnxruntime

        self.position = 0
        self._tokens: list[
            int
        ] = []  # of sessions that can take tokens back; a text of any length is a digest
        self._digest = _digest([])
        self._recent: deque[int] = deque(maxlen=MAX_RECENT)
        self._buffers: dict[str, Any] = {}
        self._binding = self.model.runtime.io_binding()
        sizes = {"batch_size": 1, "past_sequence_length": 0 if self.model.grows else self.plan.window}
        for name, given in self.model.inputs.items():
            if name.startswith("past"):
                shape = [sizes.get(d, 0) if isinstance(d, str) else int(d) for d in given.shape]
                if 0 in shape and not self.model.grows:
                    raise UnsupportedModel(f"{self.model.path}: input {name} has the shape {given.shape}")
                try:
                    zeros = np.zeros(shape, np.float16 if "float16" in given.type else np.float32)
                except (MemoryError, ValueError):
                    raise OutOfMemory(f"{self.model.path}: no memory for {name} of shape {shape}") from None
                self._keep(name, onnxruntime.OrtValue.ortvalue_from_numpy(zeros))
        for name in self.model.outputs:
            if name != "logits" and not self.model.grows:
                self._binding.bind_ortvalue_output(name, self._buffers[_past(name)])

    def _keep(self, name: str, value: Any) -> None:
        self._buffers[name] = value
        self._binding.bind_ortvalue_input(name, value)

    def _step(self, ids: list[int]) -> Logits:
        """Logits `[len(ids), vocab_size]`."""
        binding, end = self._binding, self.position + len(ids)
        # A mask is as long as the text: it is made only where it is asked for.
        feed: dict[str, Callable[[], npt.NDArray[np.int64]]] = {
            "input_ids": lambda: np.array([ids], np.int64),
            "attention_mask": lambda: np.ones((1, end), np.int64),
            "position_ids": lambda: np.arange(self.position, end, dtype=np.int64)[None],
            "position": lambda: np.array([self.position], np.int64),
        }
        for name, values in feed.items():
            if name in self.model.inputs:
                binding.bind_cpu_input(name, values())
        for name in self.model.outputs if self.model.grows else ("logits",):
            binding.bind_output(name, "cpu")
        try:
            self.model.runtime.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise InvalidFile(f"{self.model.path}: ONNX Runtime: {str(error).strip()[:300]}") from None
        outputs = dict(zip(self.model.outputs, binding.get_outputs(), strict=True))
        logits = outputs.pop("logits")
        if self.model.grows:
            for name, value in outputs.items():
                self._keep(_past(name), value)
        self.position = end
        self._recent.extend(ids)
        if self._rewinds:
            self._tokens += ids
        else:
            self._digest.update(np.array(ids, "<i4").tobytes())
        return np.asarray(logits.numpy()[0], np.float32)


def _past(output: str) -> str:
    """The input that takes an output at the next step."""
    return output.replace("present_conv", "past_conv").replace("present.", "past_key_values.")


def _digest(ids: Sequence[int]) -> hashlib.blake2b:
    return hashlib.blake2b(np.array(ids, "<i4").tobytes())


def _model_file(directory: Path, genai: dict[str, Any]) -> Path:
    named = _members(_members(genai, "model"), "decoder").get("filename")
    places = [named] if isinstance(named, str) else ["model.onnx", "onnx/model_q4.onnx", "onnx/model.onnx"]
    for place in places:
        file = (directory / place).resolve()
        if file.is_file() and file.is_relative_to(directory.resolve()):
            return file
    raise InvalidFile(
        f"{directory}: no {' or '.join(places)}", hint="edgekit convert CHECKPOINT --format onnx"
    )


def _members(value: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that is an object; empty when it is missing. Raises InvalidFile."""
    found = value.get(name) or {}
    if not isinstance(found, dict):
        raise InvalidFile(f"genai_config.json: {name!r} is {found!r}; an object is expected")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    from edgekit.converters.checkpoint import read_json

    return read_json(path) if path.exists() else {}
