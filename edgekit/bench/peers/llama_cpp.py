"""llama.cpp (edgekit/engines/llama_cpp.py). Flash attention is tried off and on, and on with 8-bit keys and
values (the only way it quantizes values). As in llama-bench, tokens are given, not sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MODULE = "llama_cpp"
INSTALL = "CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python"
SUFFIX = ".gguf"
CONVERT = "edgekit convert CHECKPOINT --format gguf --scheme q4_0 -o MODEL"
SETTINGS: tuple[dict[str, Any], ...] = (
    {"flash_attention": "off", "kv": "f16"},
    {"flash_attention": "on", "kv": "f16"},
    {"flash_attention": "on", "kv": "q8_0"},
)
SPARE = 64


class Engine:
    def __init__(
        self, path: str, threads: int, positions: int, flash_attention: str = "off", kv: str = "f16"
    ) -> None:
        from edgekit.engines import llama_cpp

        engine = llama_cpp.Engine(Path(path), threads)
        kept = engine.kv_type({"q8_0": "int8"}.get(kv, kv))
        self._context = llama_cpp.Context(
            engine, positions + SPARE, kept, flash_attention=flash_attention == "on"
        )
        self.vocab_size = engine.vocab_size
        self.version = engine.api.__version__
        self.facts = {"isa": engine.isa, "threads": threads}

    def truncate(self, count: int) -> None:
        self._context.keep(count)

    def append(self, ids: Sequence[int]) -> None:
        self._context.append(ids)

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        self.append(ids)
        yield None
        for i in range(count - 1):
            self.append([ids[i % len(ids)]])
            yield None
