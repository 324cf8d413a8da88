"""Families of models: `converters/models/<model_type>.py` turns a Hugging Face config into a ModelSpec.

A family file has `spec(config) -> ModelSpec`, `tensors(config, spec) -> dict[str, Source]`, where its
configs leave members out, `DEFAULTS`, and where its checkpoints hold tensors that its model does not read,
`unused(spec) -> Iterable[str]`. Adding a family is adding its file: it is found by name.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import TensorSource, source_shape
from edgekit.converters.models._config import Config, unread_warnings
from edgekit.converters.models._standard import TAPS
from edgekit.converters.spec import ModelSpec, Source
from edgekit.errors import InvalidFile, UnsupportedModel
from edgekit.submodules import submodules

ROWS_COMPARED = 4096  # of an output matrix and its embedding at once


@dataclass(frozen=True)
class Family:
    """A config, understood: what the model computes, and where checkpoints of its family keep each tensor.
    `warnings` names members that the family does not have, `unused` tensors that are left out in silence.
    """

    spec: ModelSpec
    tensors: dict[str, Source]
    warnings: tuple[str, ...] = ()
    unused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Model:
    """A checkpoint, understood: every tensor of `spec` is there, in its shape."""

    source: TensorSource
    spec: ModelSpec
    tensors: dict[str, Source]
    warnings: tuple[str, ...] = ()

    def load(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        """The tensor called `name` in the spec, or its rows `[rows[0], rows[1])`; None when there is none."""
        where = self.tensors.get(name)
        if where is None:
            return None
        if rows is not None and (where.shape is not None or where.stack):  # a small tensor
            return self.source.source(where)[slice(*rows)]
        if rows is not None:
            first = where.rows[0] if where.rows else 0
            where = dataclasses.replace(where, rows=(first + rows[0], first + rows[1]))
        return self.source.source(where)


@dataclass(frozen=True)
class Stored:
    """A tensor as checkpoints of a family have it. Its rows are those of `parts`, tensors of the spec, one
    below another; or it is one row of the only part.
    """

    shape: tuple[int, ...]
    parts: tuple[tuple[str, Source], ...]
    row: int | None = None


def stored(family: Family) -> dict[str, Stored]:
    """What a checkpoint of the family holds, by Hugging Face's names: the inverse of `Family.tensors`."""
    found: dict[str, Stored] = {}
    for name, where in family.tensors.items():
        if not where.name:
            continue
        rows, *rest = family.spec.shape(name)
        if where.columns:
            rows, rest = rest[0], [rows]
        if where.shape and (where.stack or name.endswith("norm")):  # a tensor for each row, as of heads
            for row, theirs in enumerate((where.name, *where.stack)):
                found[theirs] = Stored((*rest,), ((name, where),), row)
            continue
        if name.rpartition(".")[2] in TAPS:
            rest.insert(0, 1)
        above = found.get(where.name, Stored((0,), ()))
        found[where.name] = Stored((above.shape[0] + rows, *rest), (*above.parts, (name, where)))
    return {theirs: _stacked(tensor) for theirs, tensor in found.items()}


def _stacked(tensor: Stored) -> Stored:
    """A stack's matrices along an axis of their own."""
    (_, where), count = tensor.parts[0], len({where.index for _, where in tensor.parts})
    if where.index is None:
        return tensor
    one = (tensor.shape[0] // count, *tensor.shape[1:])
    return dataclasses.replace(tensor, shape=(count, *(one[::-1] if where.transpose else one)))


def known() -> list[str]:
    """The model types edgekit converts, sorted."""
    return submodules(__path__)


def load(config: dict[str, Any]) -> Family:
    """The family of a config, by its `model_type`, or by that of its `text_config`.

    Raises UnsupportedModel for unknown families and for values that may change the maths in unknown ways;
    InvalidFile for missing members and wrong types.
    """
    families = known()
    text = config.get("text_config")
    if config.get("model_type") not in families and isinstance(text, dict):
        outer = {key: config[key] for key in ("tie_word_embeddings", "quantization_config") if key in config}
        config = {"model_type": config.get("model_type")} | outer | text
    given = config.get("model_type")
    if not isinstance(given, str):
        raise InvalidFile(f"config: 'model_type' is {given!r}; the name of a family is expected")
    kind = next((name for name in (given, f"{given}_text") if name in families), None)
    if kind is None:
        raise UnsupportedModel(
            f"model type {given!r} is not supported; known: {', '.join(families)}",
            hint="--format onnx --exporter optimum converts others",
        )
    module = importlib.import_module(f"{__name__}.{kind}")
    read = Config(config | {"model_type": kind}, getattr(module, "DEFAULTS", {}))
    spec = module.spec(read)
    tensors = module.tensors(read, spec)
    unused = frozenset(module.unused(spec)) if hasattr(module, "unused") else frozenset()
    return Family(spec, tensors, unread_warnings(read), unused)


def open_model(source: TensorSource) -> Model:
    """A checkpoint as a model: its family, with each tensor found and its shape checked.

    Raises what `load` raises; InvalidFile when tensors are missing or have other shapes, UnsupportedModel
    when there are tensors the family does not have.
    """
    family = load(source.config)
    names = set(source.names())
    tensors, root = _locate(family.tensors, names)
    missing = {name for where in tensors.values() for name in where.names} - names
    if missing:
        raise InvalidFile(
            f"the checkpoint lacks {len(missing)} tensors of its model: {_some(missing)}",
            hint="if the output matrix is the embedding, set tie_word_embeddings to true in config.json"
            if all(name.endswith("lm_head.weight") for name in missing)
            else "download the missing files",
        )
    rows_used = _check_shapes(source, family.spec, tensors)
    inside = {name for name in names if name.startswith(root)}
    unused = {root + name.removeprefix("model.") for name in family.unused} if root else family.unused
    unexpected = {name for name in inside - set(rows_used) - unused if not _is_buffer(name)}
    if family.spec.tied:
        heads = {name for name in names if name.endswith("lm_head.weight")}
        _check_tied(source, tensors["embed"].name, heads)
        unexpected -= heads
        inside |= heads
    if unexpected:
        raise UnsupportedModel(
            f"{family.spec.model_type} does not use {len(unexpected)} of the checkpoint's tensors: "
            + _some(unexpected)
        )
    return Model(source, family.spec, tensors, (*family.warnings, *_left_out(names - inside)))


def _left_out(names: set[str]) -> tuple[str, ...]:
    """What to say of the other parts of a checkpoint that does not hold text models alone."""
    parts = {name.removeprefix("model.").split(".")[0] for name in names} - {"lm_head"}
    if not parts:
        return ()
    return (f"the text model alone is converted; left out of the checkpoint: {', '.join(sorted(parts))}",)


def _check_shapes(source: TensorSource, spec: ModelSpec, tensors: dict[str, Source]) -> Counter[str]:
    """Each tensor used -> how many of its rows: all of them, or InvalidFile is raised."""
    rows_used: Counter[str] = Counter()
    in_all: dict[str, int] = {}
    for name, where in tensors.items():
        stacked = where.names
        if not stacked:
            continue
        shape = source_shape(source, where)
        rows = shape[0] if shape else 0
        whole = source.info(where.name)[1][0] if where.columns else rows * _stack(source, where, name)
        in_all |= dict.fromkeys(stacked, whole)
        if where.order:
            rows = rows // where.period * len(where.order)
        if where.rows:
            rows = where.rows[1] - where.rows[0]
        used = where.columns[1] - where.columns[0] if where.columns else rows
        rows_used.update(dict.fromkeys(stacked, used))
        seen, expected = (rows * len(stacked), *shape[1:]), spec.shape(name)
        fits = seen == expected if where.shape is None else math.prod(seen) == math.prod(expected)
        if not fits or any(source.info(other)[1] != shape for other in where.stack):
            raise InvalidFile(
                f"tensor {where.name!r} has shape {list(shape)}; {name} should have {list(expected)}"
            )
    for theirs, used in rows_used.items():
        rows = in_all[theirs]
        if used != rows:
            raise InvalidFile(f"tensor {theirs!r} has {rows} rows; the config asks for {used}")
    return rows_used


def _stack(source: TensorSource, where: Source, name: str) -> int:
    """Tensors along the first axis of the one that is named, of which `where` takes one."""
    count = 1 if where.index is None else source.info(where.name)[1][0]
    if (where.index or 0) >= count:
        raise InvalidFile(f"tensor {where.name!r} is a stack of {count}; {name} is number {where.index}")
    return count


def _check_tied(source: TensorSource, embed: str, heads: Iterable[str]) -> None:
    """Tied checkpoints may store the output matrix too; Transformers 4 and 5 disagree on one that differs."""
    shape = source.info(embed)[1]
    for head in heads:
        slices = ((i, min(i + ROWS_COMPARED, shape[0])) for i in range(0, shape[0], ROWS_COMPARED))
        if source.info(head)[1] == shape and all(
            np.array_equal(source.read(head, rows), source.read(embed, rows)) for rows in slices
        ):
            continue
        raise UnsupportedModel(
            f"tie_word_embeddings is true, but {head!r} differs from {embed!r}",
            hint="if the output matrix was trained apart, set tie_word_embeddings to false in config.json",
        )


def _locate(tensors: dict[str, Source], names: set[str]) -> tuple[dict[str, Source], str]:
    """The sources as this checkpoint names them, and the prefix of the text model in it ("": no prefix).

    Wrappers (image and text models) put the text model's tensors under a prefix of their own; some
    checkpoints leave the usual prefix out.
    """
    embed = tensors["embed"].name
    if embed in names:
        return tensors, ""
    tail = ".".join(embed.split(".")[-2:])
    candidates = [name for name in names if name == tail or name.endswith(f".{tail}")]
    if len(candidates) != 1:
        return tensors, ""
    ours, theirs = embed.removesuffix(tail), candidates[0].removesuffix(tail)
    outer = [name.removesuffix("lm_head.weight") for name in names if name.endswith("lm_head.weight")]

    def rename(name: str) -> str:
        if name.startswith("lm_head."):
            return (outer[0] if outer else "") + name
        return theirs + name.removeprefix(ours)

    located = {
        name: dataclasses.replace(where, name=rename(where.name), stack=tuple(map(rename, where.stack)))
        if where.name
        else where
        for name, where in tensors.items()
    }
    return located, theirs


def _is_buffer(name: str) -> bool:
    """Saved by Transformers, but the same in every checkpoint, or computed from the config."""
    return name.endswith(("rotary_emb.inv_freq", "act_fn.beta", "act_fn.eps"))


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
