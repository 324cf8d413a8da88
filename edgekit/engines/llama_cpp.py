"""GGUF files, through llama.cpp: the functions of its own interface that llama-cpp-python exposes.

It computes on the processor. Batches are as long as they may be, and every thread serves both prefill and
decode. LLAMA_CPP_LIB_PATH names a directory with another build of libllama: wheels are often built for older
processors than yours (`Engine.facts.isa` says what it uses).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.engines import Facts
from edgekit.engines._logits import CHUNK, Logits, LogitsEngine, LogitsSession
from edgekit.errors import InvalidFile, OutOfMemory, UnsupportedModel, UsageError
from edgekit.events import KvType, MemoryPlan

BACKENDS = ("llama_cpp",)
OPTIONS = ()
AUTOMATIC = False
INSTALL = "CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python"
BATCH = 512
ITEM_BYTES: dict[KvType, float] = {"f32": 4, "f16": 2, "int8": 34 / 32}
_silence: list[Any] = []


def opens(path: Path) -> bool:
    return path.suffix == ".gguf"


def open(path: Path, threads: int | None, backend: str) -> Engine:
    return Engine(path, threads)


class Engine(LogitsEngine):
    """Raises UnsupportedModel where llama.cpp is not installed, InvalidFile for what it cannot load."""

    NAME = "llama.cpp"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import llama_cpp
        except ImportError:
            raise UnsupportedModel(
                f"{path}: a GGUF file runs in llama.cpp, whose Python bindings are not installed",
                hint=f"install them: {INSTALL}",
            ) from None
        self.api = api = llama_cpp
        if not _silence:  # llama.cpp calls it long after this engine is gone
            _silence.append(api.llama_log_callback(lambda level, text, data: None))
        api.llama_log_set(_silence[0], None)
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self.path, self.threads = path, threads or os.cpu_count() or 1
        self.model = api.llama_model_load_from_file(os.fsencode(path), options)
        if not self.model:
            raise InvalidFile(f"llama.cpp cannot load {path}")
        self.vocab_size = int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model)))
        features = api.llama_print_system_info().decode()
        self.isa = " ".join(name.strip() for name, on in _pairs(features) if on == "1")

    @functools.cached_property
    def source(self) -> Any:
        """The file as a checkpoint, for what llama.cpp does not tell."""
        from edgekit.converters.sources.gguf import GgufCheckpoint

        return GgufCheckpoint(self.path)

    @property
    def directory(self) -> Path:
        return Path(self.source.path)

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        from edgekit.converters.convert import describe

        return {"generation": {}, **describe(self.directory, self.source.config, self.vocab_size)}

    @functools.cached_property
    def facts(self) -> Facts:
        spec, size = self.source.spec, self.path.stat().st_size
        return Facts(
            vocab_size=self.vocab_size,
            n_layers=len(spec.layers),
            d_model=spec.d_model,
            context=spec.context,
            threads=self.threads,
            isa=self.isa,
            model_type=spec.model_type,
            scheme="gguf",
            file_bytes=size,
            weight_bytes=size,
            n_parameters=int(self.api.llama_model_n_params(self.model)),
            has_chat_template=self.template is not None,
        )

    def kv_type(self, wanted: str) -> KvType:
        for name in ITEM_BYTES:
            if name == wanted or (name, wanted) == ("f16", "auto"):
                return name
        raise UsageError(f"kv is {wanted!r}; llama.cpp keeps keys and values in {', '.join(ITEM_BYTES)}")

    def cache_bytes(self, window: int, kv: KvType) -> int:
        return int(self.source.spec.cache_numbers(window) * ITEM_BYTES[kv])

    def session(self, on_full: str = "evict", **options: Any) -> Session:
        return Session(self, self.plan(**options), on_full)

    def exact_session(self, tokens: int) -> Session:
        return Session(self, self.planned(tokens, 0, CHUNK, "f32", None), "error")


class Context:
    """A text in llama.cpp, with room for so many tokens."""

    def __init__(self, engine: Engine, positions: int, kv: KvType, *, flash_attention: bool) -> None:
        self._engine, self._api = engine, engine.api
        api = self._api
        kinds = {"f32": api.GGML_TYPE_F32, "f16": api.GGML_TYPE_F16, "int8": api.GGML_TYPE_Q8_0}
        options = api.llama_context_default_params()
        options.n_ctx = positions
        options.n_batch = options.n_ubatch = BATCH
        options.n_threads = options.n_threads_batch = engine.threads
        options.flash_attn_type = int(flash_attention)
        options.type_k = options.type_v = kinds[kv]
        self._context = api.llama_init_from_model(engine.model, options)
        if not self._context:
            raise OutOfMemory(
                f"llama.cpp refuses a context of {positions} positions with {kv} keys and values"
            )

    def keep(self, count: int) -> None:
        """The first `count` tokens; the others are let go."""
        if not self._api.llama_memory_seq_rm(self._api.llama_get_memory(self._context), 0, count, -1):
            raise UnsupportedModel("llama.cpp cannot take tokens of this model back")

    def append(self, ids: Sequence[int]) -> None:
        """As fast as llama.cpp can: it computes the logits of the last token alone, and nobody reads them."""
        api = self._api
        for first in range(0, len(ids), BATCH):
            part = ids[first : first + BATCH]
            tokens = (api.llama_token * len(part))(*part)  # the batch points to it
            self._decode(api.llama_batch_get_one(tokens, len(part)))
        api.llama_synchronize(self._context)

    def logits(self, ids: Sequence[int], position: int, rows: int) -> Logits:
        """Of the last `rows` of tokens at `position`: `[rows, vocab_size]`."""
        api, vocab_size = self._api, self._engine.vocab_size
        batch = api.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, id in enumerate(ids):
                batch.token[i], batch.pos[i], batch.logits[i] = id, position + i, i >= len(ids) - rows
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            self._decode(batch)
        finally:
            api.llama_batch_free(batch)
        return np.array(np.ctypeslib.as_array(api.llama_get_logits(self._context), (rows, vocab_size)))

    def _decode(self, batch: Any) -> None:
        if status := self._api.llama_decode(self._context, batch):
            raise UnsupportedModel(f"{self._engine.path}: llama_decode returned {status}")


class Session(LogitsSession):
    def __init__(self, model: Engine, plan: MemoryPlan, on_full: str) -> None:
        super().__init__(model, plan, on_full)
        # 8-bit values exist for flash attention alone
        self._context = Context(model, plan.window, plan.kv, flash_attention=plan.kv == "int8")

    def keep(self, count: int) -> None:
        self._context.keep(count)

    def step(self, ids: list[int], all_logits: bool) -> Logits:
        return self._context.logits(ids, self.position, len(ids) if all_logits else 1)


def _pairs(features: str) -> Iterator[tuple[str, str]]:
    """ "CPU : SSE3 = 1 | AVX = 1 | " as pairs of name and value."""
    for part in features.replace("CPU :", "").split("|"):
        name, _, value = part.partition("=")
        if value:
            yield name, value.strip()
