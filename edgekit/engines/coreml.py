"""Core ML packages that edgekit wrote: on Apple through Core ML, elsewhere by their program's operators in
numpy, a slow reference. The oldest tokens are let go when the cache is full.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.engines import Facts
from edgekit.engines._logits import Logits, LogitsEngine, LogitsSession
from edgekit.errors import UsageError
from edgekit.events import KvType, MemoryPlan
from edgekit.files import bytes_of

BACKENDS = ("coreml",)
OPTIONS = ()
AUTOMATIC = True
KEPT_BYTES = 1 << 30  # of weights that stay decompressed between steps, where numpy computes


def opens(path: Path) -> bool:
    if not path.is_dir():
        return False
    from edgekit.converters.formats import coreml

    return coreml.holds(path)


def open(path: Path, threads: int | None, backend: str) -> Engine:
    return Engine(path)


class Engine(LogitsEngine):
    """Raises UsageError where coremltools are not installed, InvalidFile for a damaged package."""

    NAME = "Core ML" if sys.platform == "darwin" else "Core ML's program in numpy"
    ALL_LOGITS = False

    def __init__(self, path: Path) -> None:
        from edgekit.converters.formats import coreml

        self.path = path
        self.said, self.inputs = coreml.described(path)
        package = path / coreml.PACKAGE
        if sys.platform == "darwin":
            import coremltools

            self._functions = {
                name: coremltools.models.MLModel(str(package), function_name=name)
                for name in ("decode", "prefill")
            }
        else:
            from edgekit.converters.interpreters.mil import MilProgram

            size = (package / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
            self._program = MilProgram(package, exact=False, keep=size <= KEPT_BYTES)

    def predictor(self) -> Callable[[str, dict[str, npt.NDArray[Any]]], npt.NDArray[Any]]:
        """The logits of a function of the package, for the inputs of a step; its states are a new text's."""
        if sys.platform == "darwin":
            state = self._functions["decode"].make_state()
            return lambda function, given: self._functions[function].predict(given, state)["logits"]
        values = self._program.make_state("decode")
        return lambda function, given: self._program.predict(function, given, values)["logits"]

    @property
    def directory(self) -> Path:
        return self.path

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        from edgekit.converters.checkpoint import read_json

        return read_json(self.path / "config.json")

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        from edgekit.converters.convert import describe

        return {"generation": {}, **describe(self.path, self._config, self.said["vocab_size"])}

    @functools.cached_property
    def facts(self) -> Facts:
        from edgekit.converters.models import load

        spec = load(self._config).spec
        size = bytes_of(self.path)
        return Facts(
            vocab_size=self.said["vocab_size"],
            n_layers=len(spec.layers),
            d_model=spec.d_model,
            context=spec.context,
            threads=1,
            isa="coreml" if sys.platform == "darwin" else "numpy",
            model_type=spec.model_type,
            scheme=self.said["scheme"],
            file_bytes=size,
            weight_bytes=size,
            n_parameters=0,
            has_chat_template=self.template is not None,
        )

    def kv_type(self, wanted: str) -> KvType:
        if wanted not in ("auto", "f16"):
            raise UsageError(f"kv is {wanted!r}; a Core ML package keeps keys and values in f16")
        return "f16"

    def cache_bytes(self, window: int, kv: KvType) -> int:
        return 0  # Core ML's own business

    def plan(
        self,
        window: int | None = None,
        sinks: int | None = None,
        kv: str = "auto",
        memory_budget: int | None = None,
    ) -> MemoryPlan:
        for name, wanted in (("window", window), ("sinks", sinks)):
            if wanted not in (None, self.said[name]):
                raise UsageError(f"{name} is {wanted}; this package was written for {self.said[name]}")
        fixed = self.said["window"], self.said["sinks"], self.said["chunk"]
        return self.planned(*fixed, self.kv_type(kv), memory_budget)

    def session(self, on_full: str = "evict", **options: Any) -> Session:
        return Session(self, self.plan(**options), on_full)

    def exact_session(self, tokens: int) -> Session:
        return self.session()


class Session(LogitsSession):
    evicts = True

    def __init__(self, model: Engine, plan: MemoryPlan, on_full: str) -> None:
        super().__init__(model, plan, on_full)
        self.keep(0)

    @property
    def rewinds(self) -> bool:
        return False

    def keep(self, count: int) -> None:
        from edgekit.converters.formats._coreml_session import Session as Steps

        if not count:
            self._steps = Steps(self.model.said, self.model.inputs, self.model.predictor())

    def step(self, ids: list[int], all_logits: bool) -> Logits:
        parts = [[id] for id in ids] if all_logits else [ids]
        return np.stack([np.asarray(self._steps.feed(part), np.float32) for part in parts])
