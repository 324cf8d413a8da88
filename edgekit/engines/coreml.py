"""Core ML packages that edgekit wrote: on Apple through Core ML, elsewhere by their program's operators in
numpy, a slow reference. The oldest tokens are let go when the cache is full.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

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
Arrays = dict[str, npt.NDArray[Any]]
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
    ISA: ClassVar[str] = "coreml" if sys.platform == "darwin" else "numpy"

    def __init__(self, path: Path) -> None:
        from edgekit.converters.formats import _embeddings
        from edgekit.converters.formats._coreml_codes import SCHEME_OF_NAME

        self.path = path
        self.said, self.parts = self.format().described(path)
        self.inputs = {
            name: list(dict.fromkeys(x for part in self.parts for x in part[name] if x != "hidden"))
            for name in self.parts[0]
        }
        scheme = SCHEME_OF_NAME[self.said["scheme"]]
        self.embed = _embeddings.reader(path, scheme, self.said["vocab_size"], self.said["d_model"])
        self.programs = [self.program(path / name) for name in self.said["packages"]]

    @staticmethod
    def format() -> Any:
        """The module that reads its directories."""
        from edgekit.converters.formats import coreml

        return coreml

    def program(self, package: Path) -> Program:
        return (CoreML if sys.platform == "darwin" else Numpy)(package)

    def predictor(self) -> Callable[[str, Arrays], npt.NDArray[Any] | None]:
        """The logits of a function, for the inputs of a step; its states are a new text's. Each part takes
        what the last one gives.
        """
        states = [program.new_state(next(iter(self.inputs))) for program in self.programs]

        def predict(function: str, given: Arrays) -> npt.NDArray[Any] | None:
            found: Arrays = {}
            for program, names, state in zip(self.programs, self.parts, states, strict=True):
                every = given | {"hidden": found["hidden_out"]} if found else given
                found = program.predict(function, {name: every[name] for name in names[function]}, state)
            return found.get("logits")

        return predict

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
            isa=self.ISA,
            model_type=spec.model_type,
            scheme=self.said["scheme"],
            file_bytes=size,
            weight_bytes=size,
            n_parameters=0,
            has_chat_template=self.template is not None,
        )

    def kv_type(self, wanted: str) -> KvType:
        if wanted not in ("auto", "f16"):
            raise UsageError(f"kv is {wanted!r}; {self.NAME} keeps keys and values in f16")
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


class Program(Protocol):
    """A package, loaded; its states belong to one text."""

    def new_state(self, function: str) -> Any: ...
    def predict(self, function: str, given: Arrays, state: Any) -> Arrays: ...


class CoreML:
    """A package in Core ML; its functions are loaded when they are first needed."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self._functions: dict[str, Any] = {}

    def _function(self, name: str) -> Any:
        import coremltools

        if name not in self._functions:
            model = coremltools.models.MLModel(str(self.package), function_name=name)
            self._functions[name] = model
        return self._functions[name]

    def new_state(self, function: str) -> Any:
        return self._function(function).make_state()

    def predict(self, function: str, given: Arrays, state: Any) -> Arrays:
        found: Arrays = self._function(function).predict(given, state)
        return found


class Numpy:
    """A package's operators in numpy."""

    def __init__(self, package: Path) -> None:
        from edgekit.converters.interpreters.mil import DATA, MilProgram

        size = (package / DATA / "weights" / "weight.bin").stat().st_size
        self.program = MilProgram(package, exact=False, keep=size <= KEPT_BYTES)

    def new_state(self, function: str) -> Arrays:
        return self.program.make_state(function)

    def predict(self, function: str, given: Arrays, state: Arrays) -> Arrays:
        return self.program.predict(function, given, state)


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
            model = self.model
            self._steps = Steps(model.said, model.inputs, model.embed, model.predictor())

    def step(self, ids: list[int], all_logits: bool) -> Logits:
        parts = [[id] for id in ids] if all_logits else [ids]
        return np.stack([np.asarray(self._steps.feed(part), np.float32) for part in parts])
