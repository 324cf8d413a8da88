"""edgekit's own engine, through its native module: `.edge` packages."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import arguments
from edgekit.engines import Facts, Prompt
from edgekit.events import DoneEvent, Event, EvictedEvent, MemoryPlan, Statistics, TextEvent
from edgekit.runtimes import _edgekit
from edgekit.text import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BACKENDS = ("cpu", "gpu")
OPTIONS = ("isa", "verify_hashes", "in_memory")
AUTOMATIC = True


def opens(path: Path) -> bool:
    """Any file but a checkpoint's: the core says what is wrong with one that is no package. Or a folder with
    one and its companion, which is for Apple's systems.
    """
    if path.is_dir():
        return (path / "companion.json").is_file()
    return path.suffix not in (".gguf", ".safetensors")


def open(path: Path, threads: int | None, backend: str, **options: Any) -> Engine:
    return Engine(path / "model.edge" if path.is_dir() else path, threads, backend, **options)


def isas() -> tuple[str, ...]:
    """Instruction sets this build has and this processor runs, best first."""
    return tuple(_edgekit.isas().split(","))


def webgpu_library() -> str | None:
    """The library of the `wgpu` package, where it is installed; `EDGEKIT_WEBGPU` names another."""
    if given := os.environ.get("EDGEKIT_WEBGPU"):
        return given
    found = importlib.util.find_spec("wgpu")  # which is not imported
    if found is None or found.origin is None:
        return None
    return next((str(file) for file in Path(found.origin).parent.glob("resources/*wgpu_native*")), None)


def can_load(path: str | os.PathLike[str], **options: Any) -> MemoryPlan:
    """`Engine.plan` from the file's header alone."""
    return MemoryPlan(**_edgekit.can_load(arguments.path(path), **options))


def encode_block32(
    rows: npt.NDArray[np.float32],
    importance: npt.NDArray[np.float32] | None,
    starts: bytes,
    codes: bytes,
    steps: float,
    fields: tuple[int, ...],
) -> npt.NDArray[np.uint8]:
    """Tiles `[n / 16, tile_bytes]` of rows `[n, k]`, n a multiple of 16, by the tables of a
    `edgekit.converters.quant.block32.Block32`, and as it does.
    """
    return _edgekit.encode_block32(rows, importance, starts, codes, steps, fields)


class Engine:
    """A package, mapped from its file or, `in_memory`, read from it."""

    NAME = "edgekit"
    ALL_LOGITS = True

    def __init__(
        self,
        path: Path,
        threads: int | None,
        backend: str = "cpu",
        isa: str | None = None,
        verify_hashes: bool = False,
        in_memory: bool = False,
    ) -> None:
        backend = "gpu" if backend == "gpu" else "cpu"
        self._native = _edgekit.Model(
            arguments.path(path), threads or 0, isa, verify_hashes, in_memory, backend, webgpu_library()
        )
        self.facts = Facts(**self._native.info())
        self.metadata: dict[str, Any] = json.loads(self._native.metadata())
        tokenizer = self._native.tokenizer()
        self.tokenizer = None if tokenizer is None else Tokenizer(tokenizer)

    def render_chat(self, context: Mapping[str, Any]) -> str:
        return self._native.render_chat(arguments.json_utf8(context))

    def encode_chat(self, context: Mapping[str, Any]) -> list[int]:
        return self._native.encode_chat(arguments.json_utf8(context))

    def plan(self, **options: Any) -> MemoryPlan:
        return MemoryPlan(**self._native.plan(**options))

    def session(self, **options: Any) -> Session:
        return Session(_edgekit.Session(self._native, **options))

    def exact_session(self, tokens: int) -> Session:
        return self.session(window=tokens, sinks=0, kv="f32")


class Session:
    def __init__(self, native: _edgekit.Session) -> None:
        self._native = native
        self.forward = native.forward
        self.cancel = native.cancel
        self.reset = native.reset
        self.rewind = native.rewind
        self.save = native.save
        self.restore = native.restore

    @property
    def position(self) -> int:
        return self._native.position()

    @property
    def plan(self) -> MemoryPlan:
        return MemoryPlan(**self._native.plan())

    def generate(
        self,
        prompt: Prompt,
        *,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        logit_bias: Sequence[tuple[int, float]] = (),
        **options: Any,
    ) -> None:
        self._native.generate(
            None if prompt.text is None else arguments.utf8(prompt.text, "the prompt"),
            [] if prompt.ids is None else prompt.ids.tolist(),
            None if prompt.chat is None else arguments.json_utf8(prompt.chat),
            stop,
            stop_ids,
            logit_bias,
            **options,
        )

    def next(self) -> Event:
        event = self._native.next()
        if event[0] == "text":
            return TextEvent(event[1], event[2])
        if event[0] == "evicted":
            return EvictedEvent(event[1], event[2])
        _, facts, statistics = event
        return DoneEvent(**facts, stats=Statistics(**statistics))

    def fork(self) -> Session:
        return Session(self._native.fork())
