"""Core AI assets that edgekit wrote, through Apple's coreai-core: its runtime on the CPU, on Linux too, which
is slow: it checks what devices will run. The oldest tokens are let go when the cache is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgekit.engines import coreml
from edgekit.engines.coreml import Arrays
from edgekit.errors import InvalidFile, UnsupportedModel

BACKENDS = ("coreai",)
OPTIONS = ()
AUTOMATIC = True
T = TypeVar("T")


def opens(path: Path) -> bool:
    if not path.is_dir():
        return False
    from edgekit.converters.formats import coreai

    return coreai.holds(path)


def open(path: Path, threads: int | None, backend: str) -> Engine:
    return Engine(path)


class Engine(coreml.Engine):
    """Raises UnsupportedModel where coreai-core is not installed, InvalidFile for a damaged asset."""

    NAME = "Core AI"
    ISA = "coreai"

    @staticmethod
    def format() -> Any:
        from edgekit.converters.formats import coreai

        return coreai

    def program(self, package: Path) -> coreml.Program:
        return Asset(package)


def _check(path: Path) -> None:
    """A damaged program ends the process in Apple's compiler. Raises InvalidFile."""
    from edgekit.converters.formats.coreai import PROGRAM

    try:
        program, digest = (path / PROGRAM).read_bytes(), (path / "main.hash").read_bytes()
    except OSError as error:
        raise InvalidFile(f"{path}: no Core AI asset, or a damaged one: {error}") from None
    if hashlib.sha256(program).digest() != digest:
        raise InvalidFile(
            f"{path / PROGRAM} is not what main.hash is the sum of", hint="copy it again, or convert again"
        )


class Asset:
    """An asset in Apple's runtime, whose calls are awaited in a thread of its own."""

    def __init__(self, path: Path) -> None:
        try:
            from coreai.authoring import AIModelAsset
            from coreai.runtime import NDArray
        except ImportError:
            raise UnsupportedModel(
                f"{path}: Core AI assets need coreai-core, which is not installed",
                hint="pip install 'edgekit[coreai]'",
            ) from None
        _check(path)
        self._array = NDArray
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._open = contextlib.AsyncExitStack()
        try:
            asset = AIModelAsset.load(path)
            self._model = self._wait(self._open.enter_async_context(asset.executable()))
        except RuntimeError as error:
            raise InvalidFile(f"{path}: no Core AI asset, or a damaged one: {error}") from None
        self._functions: dict[str, Any] = {}

    def new_state(self, function: str) -> Any:
        known = self._function(function).desc
        described = {name: known.state_descriptor(name) for name in known.state_names}
        return {name: self._array(np.zeros(each.shape, each.dtype)) for name, each in described.items()}

    def predict(self, function: str, given: Arrays, state: Any) -> Arrays:
        run = self._function(function)
        inputs = {
            name: self._array(np.ascontiguousarray(values, run.desc.input_descriptor(name).dtype))
            for name, values in given.items()
        }
        found = self._wait(run(inputs=inputs, state=state))
        return {name: values.numpy() for name, values in found.items()}

    def _function(self, name: str) -> Any:
        if name not in self._functions:
            self._functions[name] = self._model.load_function(name)
        return self._functions[name]

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()
