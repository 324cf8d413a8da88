"""llama.cpp through the functions of its own interface that llama-cpp-python exposes.

Batches are as long as they may be, and every thread serves both prefill and decode. Flash attention is
tried off and on, and on with 8-bit keys and values (the only way it quantizes values). As in llama-bench,
tokens are given, not sampled. LLAMA_CPP_LIB_PATH names a directory with another build of libllama: wheels are
often built for older processors than yours (`isa` says what it uses).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODULE = "llama_cpp"
INSTALL = "CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python"
SUFFIX = ".gguf"
CONVERT = "edgekit convert CHECKPOINT --format gguf --scheme q4_0 -o MODEL"
SETTINGS: tuple[dict[str, Any], ...] = (
    {"flash_attention": "off", "kv": "f16"},
    {"flash_attention": "on", "kv": "f16"},
    {"flash_attention": "on", "kv": "q8_0"},
)
BATCH = 512
SPARE = 64
_silence: list[Any] = []


class Engine:
    def __init__(
        self, path: str, threads: int, positions: int, flash_attention: str = "off", kv: str = "f16"
    ) -> None:
        import llama_cpp

        self._api = api = llama_cpp
        if not _silence:  # llama.cpp calls it long after this engine is gone
            _silence.append(api.llama_log_callback(lambda level, text, data: None))
        api.llama_log_set(_silence[0], None)
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = api.llama_model_load_from_file(path.encode(), options)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        context = api.llama_context_default_params()
        context.n_ctx = positions + SPARE
        context.n_batch = context.n_ubatch = BATCH
        context.n_threads = context.n_threads_batch = threads
        context.flash_attn_type = int(flash_attention == "on")
        context.type_k = context.type_v = api.GGML_TYPE_Q8_0 if kv == "q8_0" else api.GGML_TYPE_F16
        self._context = api.llama_init_from_model(self._model, context)
        if not self._context:
            raise RuntimeError(
                f"llama.cpp refuses a context of {positions} positions with {kv} keys and values"
            )
        self.vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        features = api.llama_print_system_info().decode()
        used = [name.strip() for name, on in _pairs(features) if on == "1"]
        self.version = api.__version__
        self.facts = {"isa": " ".join(used), "threads": threads}

    def truncate(self, count: int) -> None:
        memory = self._api.llama_get_memory(self._context)
        if not self._api.llama_memory_seq_rm(memory, 0, count, -1):
            raise RuntimeError("llama.cpp cannot take tokens of this model back")

    def append(self, ids: Sequence[int]) -> None:
        for first in range(0, len(ids), BATCH):
            part = ids[first : first + BATCH]
            tokens = (self._api.llama_token * len(part))(*part)
            if status := self._api.llama_decode(
                self._context, self._api.llama_batch_get_one(tokens, len(part))
            ):
                raise RuntimeError(f"llama_decode returned {status}")
        self._api.llama_synchronize(self._context)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """`[len(ids), vocab_size]`, from an empty cache; at most `BATCH` ids."""
        api = self._api
        self.truncate(0)
        batch = api.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, id in enumerate(ids):
                batch.token[i], batch.pos[i], batch.logits[i] = id, i, 1
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            if status := api.llama_decode(self._context, batch):
                raise RuntimeError(f"llama_decode returned {status}")
        finally:
            api.llama_batch_free(batch)
        found = np.ctypeslib.as_array(api.llama_get_logits(self._context), (len(ids), self.vocab_size))
        return found.copy()

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        self.append(ids)
        yield None
        for i in range(count - 1):
            self.append([ids[i % len(ids)]])
            yield None


def _pairs(features: str) -> Iterator[tuple[str, str]]:
    """ "CPU : SSE3 = 1 | AVX = 1 | " as pairs of name and value."""
    for part in features.replace("CPU :", "").split("|"):
        name, _, value = part.partition("=")
        if value:
            yield name, value.strip()
