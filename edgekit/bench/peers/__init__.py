"""Engines to measure: each file here is one, and its name is the file's.

A file has

    MODULE      what Python must be able to import, and
    INSTALL     the command that installs it
    SUFFIX      how its model's file or directory is called: m.edge -> m<SUFFIX>
    CONVERT     the command that makes its model, MODEL, of the same checkpoint, CHECKPOINT
    SETTINGS    the settings worth trying: each is measured, and the best counts
    Engine      opens a model; see `Engine` below
    prepare     where that is more than importing MODULE: a function that loads what must be in memory before
                a model is opened
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from edgekit.errors import UsageError
from edgekit.submodules import submodules


class Engine(Protocol):
    """One opened model with room for `positions` tokens. Its constructor takes (path, threads, positions,
    **settings) and its time is the load time.
    """

    version: str
    vocab_size: int

    def truncate(self, count: int) -> None:
        """Keeps the first `count` tokens of the cache."""

    def append(self, ids: Sequence[int]) -> None:
        """Computes tokens into the cache."""

    def generate(self, ids: Sequence[int], count: int) -> Iterator[None]:
        """A prompt after what is in the cache, then greedy tokens: yields once for each of `count`, when it
        is there.
        """


def names() -> list[str]:
    return submodules(__path__)


def load(name: str) -> Any:
    """The module of the engine called `name`. Raises UsageError: there is none, or it is not installed."""
    if name not in names():
        raise UsageError(f"there is no engine {name!r}; there are: {', '.join(names())}")
    module: Any = importlib.import_module(f"{__name__}.{name}")
    if importlib.util.find_spec(module.MODULE) is None:
        raise UsageError(f"{name} is not installed here", hint=f"install it with: {module.INSTALL}")
    return module
