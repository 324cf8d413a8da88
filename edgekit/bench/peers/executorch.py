"""ExecuTorch: its XNNPACK delegate, and its own operators for attention over a cache.

A program takes at most so many tokens at once, and has a cache of so many positions: what it was exported
with. Every call says where its tokens belong, so taking tokens back costs nothing. The program returns the
last token's logits; the greedy choice is made here, as ExecuTorch's runner makes it after each call.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MODULE = "executorch"
INSTALL = "pip install executorch==1.5.1 torch==2.13.0"
SUFFIX = ".pte"
CONVERT = "python tools/executorch_model.py CHECKPOINT MODEL"
SETTINGS: tuple[dict[str, Any], ...] = ({},)


def prepare() -> None:
    """Loads libtorch, the runtime, and the operators that tools/executorch_model.py exports to."""
    import torch
    from executorch.extension.pybindings import _C  # portable_lib is the same, and loads the exporter

    root = Path(_C.__file__).parents[2]
    for place in ("extension/llm/custom_ops", "kernels/quantized"):
        torch.ops.load_library(next((root / place).glob("*_ops_aot_lib.*")))


class Engine:
    def __init__(self, path: str, threads: int, positions: int) -> None:
        import torch
        from executorch.extension.pybindings import _C

        self._tensor = torch.tensor
        _C._unsafe_reset_threadpool(threads)
        self._program = _C._load_program(path)
        limit = self._constant("get_max_context_len")
        if positions > limit:
            raise RuntimeError(f"exported for {limit} positions, {positions} are needed: use --context")
        self._forward = self._program.load_method("forward")
        self._chunk = self._constant("get_max_seq_len") - 1  # it is exported for tokens below that
        self._position = 0
        self.version = importlib.metadata.version("executorch")
        self.vocab_size = self._constant("get_vocab_size")
        self.facts = {"isa": "XNNPACK", "threads": _C._threadpool_get_thread_count()}

    def truncate(self, count: int) -> None:
        self._position = count

    def append(self, ids: Sequence[int]) -> None:
        self._next(ids)

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        for _ in self.tokens(ids, count):
            yield None

    def tokens(self, ids: Sequence[int], count: int) -> Iterator[int]:
        """What `generate` generates."""
        for _ in range(count):
            ids = [self._next(ids)]
            yield ids[0]

    def _next(self, ids: Sequence[int]) -> int:
        """The greedy token after `ids`, which the cache has from now on."""
        for first in range(0, len(ids), self._chunk):
            part = ids[first : first + self._chunk]
            inputs = (self._tensor([part]), self._tensor([self._position]))
            (logits,) = self._forward.call(inputs, clone_outputs=False)
            self._position += len(part)
        return int(logits.argmax())

    def _constant(self, name: str) -> int:
        (value,) = self._program.load_method(name).call(())
        return int(value)
