"""Models to be asked for logits, each in the engine that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edgekit import engines
from edgekit.converters import convert
from edgekit.converters.interpreters.numpy import Reference
from edgekit.errors import InvalidFile, UsageError
from edgekit.files import bytes_of
from edgekit.text import Tokenizer

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """A model with one text. `feed(ids, last)` appends `ids` to it and gives the logits of the last `last` of
    them, float32 `[last, vocab_size]`; `reset` begins the text anew.

    `engine` is its name; `context` and `parameters` are 0 where the model's files do not tell them.
    """

    engine: str
    feed: Callable[[Sequence[int], int], F32]
    reset: Callable[[], None]
    size_bytes: int
    tokenizer: Tokenizer | None = None
    eos_ids: frozenset[int] = frozenset()
    context: int = 0
    parameters: int = 0


def opened(path: Path, tokens: int, threads: int | None = None) -> Scorer:
    """A package, an output of another format, or a checkpoint, which is computed in numpy; for a text of at
    most `tokens` tokens.

    Raises UnsupportedModel where nothing here runs it, InvalidFile.
    """
    if not path.exists():
        raise InvalidFile(f"{path}: there is no such file")
    module = engines.of(path)
    return _in_numpy(path) if module is None else _in_engine(module, path, tokens, threads)


def _in_engine(module: ModuleType, path: Path, tokens: int, threads: int | None) -> Scorer:
    engine: engines.Engine = module.open(path, threads, module.BACKENDS[0])
    session = engine.exact_session(min(tokens, engine.facts.context or tokens))

    def feed(ids: Sequence[int], last: int) -> F32:
        """What is not wanted is computed without the output matrix."""
        given = np.array(ids, np.int32)
        if before := len(ids) - last:
            session.forward(given[:before], False)
        return session.forward(given[before:], True)

    return Scorer(
        module.__name__.rpartition(".")[2],
        feed,
        session.reset,
        bytes_of(path),
        engine.tokenizer,
        frozenset(engine.metadata["eos_ids"]),
        engine.facts.context,
        engine.facts.n_parameters,
    )


def vocabulary(paths: Sequence[Path], threads: int | None) -> tuple[Tokenizer, frozenset[int]]:
    """Tokenizer and ends of text of the first model that has them. Raises UsageError when none has."""
    for path in paths:
        scorer = opened(path, 1, threads)
        if scorer.tokenizer is not None:
            return scorer.tokenizer, scorer.eos_ids
    raise UsageError("neither the reference nor a model has a tokenizer to read text with")


def _in_numpy(path: Path) -> Scorer:
    source = convert.read(path, str(path))
    reference = Reference(source.spec, source.load)
    text: list[int] = []

    def feed(ids: Sequence[int], last: int) -> F32:
        text.extend(ids)
        hidden = reference.hidden(text)[len(text) - last :]
        return np.concatenate([part for _, part in reference.logit_slices(hidden)], axis=1)

    return Scorer(
        "numpy",
        feed,
        text.clear,
        bytes_of(path),
        None if source.tokenizer is None else Tokenizer.from_bytes(source.tokenizer),
        frozenset(source.metadata["eos_ids"]),
        source.spec.context or 0,
        source.spec.parameters(source.tensors),
    )
