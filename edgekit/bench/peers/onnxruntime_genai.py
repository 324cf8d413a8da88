"""ONNX Runtime GenAI on the processor. Its model is a directory with genai_config.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MODULE = "onnxruntime_genai"
INSTALL = "pip install onnxruntime-genai"
SUFFIX = "-onnx"
CONVERT = "edgekit convert CHECKPOINT --format onnx -o MODEL"
SETTINGS: tuple[dict[str, Any], ...] = ({},)


class Engine:
    def __init__(self, path: str, threads: int, positions: int) -> None:
        import onnxruntime_genai as genai

        config = genai.Config(path)
        sessions = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": sessions}}}))
        self._model = genai.Model(config)
        parameters = genai.GeneratorParams(self._model)
        parameters.set_search_options(do_sample=False, max_length=positions, min_length=positions)
        self._generator = genai.Generator(self._model, parameters)
        self.version = genai.__version__
        self.vocab_size = _vocab_size(path)
        self.facts = {"threads": threads}

    def truncate(self, count: int) -> None:
        self._generator.rewind_to(count)

    def append(self, ids: Sequence[int]) -> None:
        import numpy as np

        self._generator.append_tokens(np.asarray(ids, np.int32))

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        self.append(ids)
        for _ in range(count):
            self._generator.generate_next_token()
            yield None


def _vocab_size(path: str) -> int:
    return int(json.loads((Path(path) / "genai_config.json").read_text())["model"]["vocab_size"])
