"""What runs a model: one file for each engine, found by its name.

An engine's module has

    BACKENDS                          what `Model(…, backend=)` calls it, and what in it computes
    OPTIONS                           what else `open` takes
    AUTOMATIC                         whether "auto" takes it; packages of others are packed for edgekit's own
    opens(path) -> bool               whether this is a package of the engine's own
    open(path, threads, backend, **options) -> Engine

Whoever calls an engine has checked what it passes (`edgekit.model` does).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgekit.errors import UsageError
from edgekit.events import Event, MemoryPlan
from edgekit.submodules import submodules

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from edgekit.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine knows of a model; 0 for a number that its files do not tell."""

    vocab_size: int
    n_layers: int
    d_model: int
    context: int
    threads: int
    isa: str
    model_type: str
    scheme: str
    file_bytes: int
    weight_bytes: int
    n_parameters: int
    has_chat_template: bool
    relayed: str = ""
    """Why another backend computes than the one that was asked for; "" when that one does."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text, token ids or what a chat template reads: one of them is not None."""

    text: str | None = None
    ids: npt.NDArray[np.int32] | None = None
    chat: Mapping[str, Any] | None = None


class Engine(Protocol):
    """A model, opened. `plan` and `session` take what was given of window, sinks, kv, memory_budget and
    on_full.
    """

    NAME: ClassVar[str]
    """What its users call it."""
    ALL_LOGITS: ClassVar[bool]
    """Whether a step gives the logits of all its tokens; else every token whose logits are asked for is a
    step.
    """
    facts: Facts
    metadata: dict[str, Any]
    tokenizer: Tokenizer | None

    def render_chat(self, context: Mapping[str, Any]) -> str: ...
    def encode_chat(self, context: Mapping[str, Any]) -> list[int]: ...
    def plan(self, **options: Any) -> MemoryPlan: ...
    def session(self, **options: Any) -> EngineSession: ...

    def exact_session(self, tokens: int) -> EngineSession:
        """For a text of so many tokens, rounding as little as the engine can: to be measured."""


class EngineSession(Protocol):
    """A text's cache and sampler. One call at a time, except `cancel`."""

    @property
    def position(self) -> int: ...
    @property
    def plan(self) -> MemoryPlan: ...
    def forward(self, ids: npt.NDArray[np.int32], all_logits: bool) -> npt.NDArray[np.float32]: ...

    def generate(self, prompt: Prompt, **options: Any) -> None:
        """Begins; `options` are what was given of `Session.generate`'s."""

    def next(self) -> Event: ...
    def cancel(self) -> None: ...
    def reset(self) -> None: ...
    def rewind(self, count: int) -> None: ...
    def fork(self) -> Self: ...
    def save(self, path: str) -> None: ...
    def restore(self, path: str) -> None: ...


def modules() -> list[ModuleType]:
    """Every engine's."""
    return [importlib.import_module(f"{__name__}.{name}") for name in submodules(__path__)]


def of(path: Path) -> ModuleType | None:
    """The engine whose package this is; None when it is no engine's, but perhaps a checkpoint."""
    return next((module for module in modules() if module.opens(path)), None)


def called(backend: str) -> ModuleType:
    """The engine with this backend. Raises UsageError."""
    known = {name: module for module in modules() for name in module.BACKENDS}
    if backend not in known:
        raise UsageError(f"backend is {backend!r}; choose one of: auto, {', '.join(sorted(known))}")
    return known[backend]
