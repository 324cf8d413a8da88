"""Output formats: a module `converters/formats/<format>.py`, found by name, is a `Format`.

Where it can it also has

    OPTIONS: tuple[str, ...]        flags that `write` and those below take as keywords
    size_bytes(model, scheme) -> int                what `write` will write; raises what `write` raises before
                                                    any work
    cache_bytes(model, scheme, tokens) -> int       keys and values in the engine; without it 16-bit floats
    grids(model, scheme) -> {matrix: Grid}          what each matrix of the spec becomes (converters/quant)
    default_scheme(model) -> str                    where that depends on the checkpoint
    mixed(model) -> tuple[Grid, ...]                of which a mix for a number of bytes is made, scheme "mix"

`edgekit.verification` holds an output's engine against the numpy reference on what `read_back` gives, and
that against the checkpoint. The edge format is run by edgekit's own engine, which converters know nothing
of; it has `attach(path, metadata, tensors)`, which adds what that measured to a written package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.interpreters.numpy import Loader, Reference
from edgekit.converters.spec import ModelSpec
from edgekit.errors import InvalidFile, UnsupportedModel
from edgekit.submodules import submodules


@dataclass(frozen=True)
class Output:
    """A written output, read back: what its engine is to compute, and the weights it has for that.

    `spec` is what the engine should compute, of the checkpoint where that is known; `told` the same by what
    the output says of itself. `load` gives its weights as float32 under the spec's names, `layout` how it
    holds one: "f32", "f16", "bf16", or "q4" for codes of 4 bits, whatever their grid. `cache` and `context`
    are `Reference`'s, `tokenizer` is the compiled one, `exact`: its engine computes in float32 throughout;
    otherwise it rounds activations, or keys and values.
    """

    scheme: str
    spec: ModelSpec
    told: ModelSpec
    load: Loader
    layout: Callable[[str], str]
    exact: bool
    tokenizer: bytes | None = None
    cache: tuple[int, int] | None = None
    context: int | None = None
    twice: bool = False
    """Whether a tied matrix is there as "embed" and, on another grid, as "head"."""

    def reference(self, load: Loader | None = None) -> Reference:
        """numpy on these weights, or on others."""
        spec, load = self.spec, load or self.load
        if self.twice:
            spec, load = replace(spec, tied=False), untied(load)
        return Reference(spec, load, cache=self.cache, context=self.context)


def untied(load: Loader) -> Loader:
    """With the embedding as "head" where there is none."""

    def both(name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        values = load(name, rows)
        return load("embed", rows) if values is None and name == "head" else values

    return both


class Format(Protocol):
    SUFFIX: str
    """".edge", or "" for a directory"""
    SCHEMES: tuple[str, ...]
    """What `--scheme` takes, the default first."""
    BACKEND: str
    """Which of `edgekit.engines` runs it."""

    def write(self, model: ConvertInput, path: Path, scheme: str = ..., progress: Progress = silent) -> None:
        """Creates `path` and touches nothing else: the caller gives it a temporary name and renames."""

    def read_back(self, path: Path, spec: ModelSpec | None = None) -> Output:
        """`spec` is the checkpoint's. Raises InvalidFile, UnsupportedModel for what says too little of
        itself.
        """

    def holds(self, path: Path) -> bool:
        """Whether what lies there looks like this format's."""


def known() -> list[str]:
    return submodules(__path__)


def named(name: str) -> Any:
    """The module of a format, a `Format`."""
    return importlib.import_module(f"{__name__}.{name}")


def read_back(name: str, path: Path, spec: ModelSpec | None = None) -> Output:
    """An output of a format, from whoever has it: what nobody foresaw of a damaged one is InvalidFile too."""
    with _as_written(path):
        output = named(name).read_back(path, spec)
    load, layout = (_as_written(path)(read) for read in (output.load, output.layout))
    return replace(output, load=load, layout=layout)


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    try:
        yield
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is damaged, or not as edgekit writes it: {error!r}") from error


def format_of(path: Path) -> str:
    """What an output is, by its name and the files in it. Raises InvalidFile, UnsupportedModel."""
    if not path.exists():
        raise InvalidFile(f"{path}: there is no such file")
    found = next((name for name in known() if named(name).holds(path)), None)
    if found is None:
        raise UnsupportedModel(
            f"{path} is no output of `edgekit convert`: its formats are {', '.join(known())}"
        )
    return found
