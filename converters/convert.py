"""What every output format receives: one checkpoint, understood.

`read(path)` opens a checkpoint and refuses, before any work, what would be converted wrongly. What a format
is, says `converters/formats`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import models
from edgekit.converters.checkpoint import TensorSource, source_shape, stored_rows
from edgekit.converters.codes import Codes, Layout
from edgekit.converters.quant.grid import Fitted, Grid
from edgekit.converters.spec import ModelSpec, Source
from edgekit.converters.text.json_file import read_json
from edgekit.errors import UnsupportedModel

TENSOR_ALIGNMENT = 64

# (what is being done, steps done, steps in all)
Progress = Callable[[str, int, int], None]

# What the engine takes as advice. Others mean "off" by what is no value here, such as a top_k of -1.
ADVICE: dict[str, Callable[[float], bool]] = {
    "temperature": lambda value: 0 <= value < math.inf,
    "top_k": lambda value: isinstance(value, int) and value >= 0,
    "top_p": lambda value: 0 < value <= 1,
    "min_p": lambda value: 0 <= value <= 1,
    "repetition_penalty": lambda value: 0 < value < math.inf,
}


def silent(task: str, done: int, total: int) -> None:
    """A `Progress` that says nothing."""


class Calibration(Protocol):
    """What a text told of a model's matrices; None for those it told nothing of."""

    def importance(self, name: str) -> NDArray[np.float32] | None:
        """The second moment of each input of a matrix, `[k]`."""

    def fitted(self, name: str, grid: Grid, rows: tuple[int, int]) -> Fitted | None:
        """Rows of a matrix, where codes have been chosen for them on that grid."""


@dataclass(frozen=True)
class ConvertInput:
    """A checkpoint with its family's description, compiled tokenizer and compiled chat template.

    `metadata` goes into a package as it is:

        source          {"name", "sha256": of the weights, "license": from the model card, or absent}
        eos_ids         every token that ends a text
        special_tokens  {"bos_token": "<s>", …}: what chat templates read
        generation      the checkpoint's own sampling defaults (temperature, top_k, top_p), or absent
        calibration     {"algorithm", "texts": their names, "tokens", "seed"}, once there has been one

    `warnings` says what the package will lack. `bos_id` and `pad_id` are the tokenizer's, where it has them.
    `calibration` has a say in which codes matrices get, `mix` in which grids, whatever the scheme.
    """

    spec: ModelSpec
    checkpoint: TensorSource
    tensors: dict[str, Source]
    tokenizer: bytes | None = None
    chat_template: bytes | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    bos_id: int | None = None
    pad_id: int | None = None
    calibration: Calibration | None = None
    mix: Mapping[str, Grid] = field(default_factory=dict)

    def load(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        """A tensor of the spec (or some of its rows) as float32; None when this model has none of that
        name.
        """
        return models.Model(self.checkpoint, self.spec, self.tensors).load(name, rows)

    def layout(self, name: str) -> Layout | None:
        """How a quantized checkpoint holds a matrix; None when as floats."""
        where = self.tensors.get(name)
        if where is None or where.stack or where.shape is not None:
            return None
        return self.checkpoint.layout(where.name)

    def codes(self, name: str, rows: tuple[int, int]) -> Codes:
        """Rows `[rows[0], rows[1])` of a matrix as the checkpoint holds them, where its layout is not
        "other".
        """
        where = self.tensors[name]
        above = 0 if where.index is None else where.index * source_shape(self.checkpoint, where)[0]
        if where.order:
            stored = above + stored_rows(where, *rows)
            begin = int(stored.min())
            found = self.checkpoint.codes(where.name, (begin, int(stored.max()) + 1))
            return found.rows(stored - begin)
        first = above + (where.rows[0] if where.rows else 0)
        return self.checkpoint.codes(where.name, (first + rows[0], first + rows[1]))

    def grid(self, name: str, wanted: Grid) -> Grid:
        """The grid of a matrix that a scheme would put on `wanted`: that of its own codes where they can
        stay.
        """
        wanted = self.mix.get(name, wanted)
        layout = self.layout(name)
        return (wanted.keeping(layout) if layout else None) or wanted

    def grid_of_all(self, names: Sequence[str], wanted: Grid) -> Grid:
        """The one grid of matrices that lie in one tensor: of a mix the narrowest that one of them has."""
        own = {self.grid(name, wanted) for name in names}
        return min(own, key=lambda grid: grid.bits) if len(own) == 1 or self.mix else wanted

    def keeps(self, name: str, grid: Grid) -> bool:
        """Whether the checkpoint's own codes of a matrix lie on that grid."""
        layout = self.layout(name)
        return layout is not None and grid.keeping(layout) == grid

    def given(self, name: str, grid: Grid, rows: tuple[int, int]) -> Fitted | None:
        """Rows `[rows[0], rows[1])` of a matrix on a grid, where their codes are known: the checkpoint's own
        if the grid holds them, else those of a calibration.
        """
        if self.keeps(name, grid):
            return grid.taken(self.codes(name, rows))
        return None if self.calibration is None else self.calibration.fitted(name, grid, rows)

    def importance(self, name: str) -> NDArray[np.float32] | None:
        """Of each input of a matrix, `[k]`, where a calibration told it."""
        return None if self.calibration is None else self.calibration.importance(name)

    def fitted(self, name: str, grid: Grid, rows: tuple[int, int]) -> Fitted:
        """Rows `[rows[0], rows[1])` of a matrix on a grid: the codes that are given, else the nearest."""
        given = self.given(name, grid, rows)
        if given is not None:
            return given
        values = self.load(name, rows)
        assert values is not None
        return grid.quantize(values, self.importance(name))


def read(path: Path, name: str) -> ConvertInput:
    """The checkpoint at `path`; `name` is what the user called it.

    Raises UnsupportedModel, InvalidFile.
    """
    from edgekit.converters.sources import open_source
    from edgekit.converters.text.chat_template import compile_template, find_chat_template
    from edgekit.converters.text.tokenizer import compile_tokenizer

    checkpoint = open_source(path)
    model = models.open_model(checkpoint)
    warnings = [*checkpoint.warnings, *model.warnings]
    tokenizer = compile_tokenizer(checkpoint.path)
    rows = model.spec.vocab_size
    if tokenizer is not None and tokenizer.vocab_size > rows:
        warnings.append(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's embedding {rows} rows: texts with "
            f"tokens {rows} to {tokenizer.vocab_size - 1} cannot be run"
        )
    if tokenizer is None:
        warnings.append(
            "the checkpoint has no tokenizer that edgekit reads: the package will work on token ids only"
        )
    templates = find_chat_template(checkpoint.path)
    template = None
    if templates:
        try:
            program = compile_template(templates.get("default") or next(iter(templates.values())))
            # It is JSON, which may end in spaces; the zero bytes that would fill its tensor up would be an
            # error.
            template = program + b" " * (-len(program) % TENSOR_ALIGNMENT)
        except UnsupportedModel as error:
            warnings.append(f"the package will have no chat template: {error}")
    source = {"name": name, "sha256": checkpoint.sha256(), "license": _license(checkpoint.path)}
    metadata: dict[str, Any] = {
        "source": {key: value for key, value in source.items() if value is not None},
        **describe(checkpoint.path, checkpoint.config, model.spec.vocab_size),
    }
    return ConvertInput(
        model.spec,
        checkpoint,
        model.tensors,
        tokenizer.blob if tokenizer else None,
        template,
        metadata,
        tuple(warnings),
        tokenizer.bos_id if tokenizer else None,
        tokenizer.pad_id if tokenizer else None,
    )


def describe(directory: Path, config: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """`eos_ids`, `special_tokens` and, where the model's makers advise it, `generation`: see ConvertInput."""
    found: dict[str, Any] = {
        "eos_ids": [id for id in _eos_ids(directory, config) if 0 <= id < vocab_size],
        "special_tokens": special_tokens(directory),
    }
    if generation := _generation(directory):
        found["generation"] = generation
    return found


def _eos_ids(directory: Path, config: dict[str, Any]) -> list[int]:
    """Every id that ends a text: the generation config may name more than the config."""
    ids: list[int] = []
    for given in (
        read_json(directory / "generation_config.json").get("eos_token_id"),
        config.get("eos_token_id"),
    ):
        ids += given if isinstance(given, list) else [] if given is None else [given]
    return list(dict.fromkeys(id for id in ids if isinstance(id, int)))


def special_tokens(directory: Path) -> dict[str, str]:
    """{"bos_token": "<s>", …}: what a tokenizer's files say, and chat templates read."""
    members = read_json(directory / "special_tokens_map.json") | read_json(
        directory / "tokenizer_config.json"
    )
    tokens = {}
    for name, value in members.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _generation(directory: Path) -> dict[str, float]:
    """The sampling that the model's makers advise."""
    config = read_json(directory / "generation_config.json")
    if config.get("do_sample") is False:
        return {}
    given = {name: config[name] for name in ADVICE if isinstance(config.get(name), (int, float))}
    return {name: value for name, value in given.items() if ADVICE[name](value)}


def _license(directory: Path) -> str | None:
    """`license:` of the model card's front matter."""
    card = directory / "README.md"
    if not card.exists():
        return None
    front = re.match(r"---\s*\n(.*?)\n---\s*\n", card.read_text("utf-8", "replace"), re.DOTALL)
    found = front and re.search(r"^license(?:_name)?:\s*['\"]?([\w.\- ]+)", front[1], re.MULTILINE)
    return found[1].strip() if found else None
