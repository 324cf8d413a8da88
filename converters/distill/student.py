"""A student: a model made of parts of its teacher, written as an ordinary Hugging Face checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import models
from edgekit.converters.checkpoint import MAPS, stored_rows
from edgekit.converters.checkpoint_files import COPIED, flat_config, write_json
from edgekit.converters.checkpoint_writer import TORCH_TYPES, Tensor, bits, write
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.distill.vocabulary import Vocabulary, numbering, renumbered
from edgekit.converters.models import Family, Stored
from edgekit.converters.spec import Layer, ModelSpec, Source
from edgekit.converters.text.json_file import read_json
from edgekit.converters.text.tokenizer import read_definition
from edgekit.errors import UnsupportedModel, UsageError

Array = NDArray[np.float32]
Load = Callable[[str], "Array | None"]

# A config's word for what a student may have fewer of.
WORDS = {"d_ff": "intermediate_size", "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads"}
WIDTH = "hidden_size"
# Tokenizer files that name ids, or tokens, and are written anew when the vocabulary changes.
NUMBERED = ("tokenizer_config.json", "generation_config.json")
REPLACED = ("tokenizer.model", "added_tokens.json", "vocab.json", "merges.txt", *NUMBERED)


@dataclass(frozen=True)
class Parts:
    """What a student takes over from its teacher, by the teacher's numbers and in their order; what is not
    named is taken whole.
    """

    tokens: Sequence[int] | None = None
    layers: Sequence[int] | None = None
    channels: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Of a layer's dense feed-forward part."""
    groups: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Key/value heads of a layer, each with the query heads that share it."""
    width: Sequence[int] | None = None
    """Channels of the residual."""

    def spec(self, teacher: ModelSpec) -> ModelSpec:
        """The student's."""
        return dataclasses.replace(
            teacher,
            vocab_size=teacher.vocab_size if self.tokens is None else len(self.tokens),
            d_model=teacher.d_model if self.width is None else len(self.width),
            layers=tuple(self._layer(number, teacher.layers[number]) for number in self._layers(teacher)),
        )

    def load(self, teacher: ModelSpec, load: Load, name: str) -> Array | None:
        """The student's tensor `name`, out of the teacher's that `load` gives."""
        number = None
        if name.startswith("layers."):
            _, ours, part = name.split(".", 2)
            number = self._layers(teacher)[int(ours)]
            name = f"layers.{number}.{part}"
        values = load(name)
        if values is None:
            return None
        for wider, kept in self._cuts(teacher, number):
            for axis, unit in units(teacher, wider, name).items():
                index = np.asarray(kept)[:, None] * unit + np.arange(unit)
                values = values.take(index.ravel(), axis)
        return np.ascontiguousarray(values)

    def _cuts(self, teacher: ModelSpec, number: int | None) -> Iterator[tuple[ModelSpec, Sequence[int]]]:
        """Teachers with one more of what the student has fewer of, in a layer or outside; what it keeps."""
        if self.tokens is not None:
            yield dataclasses.replace(teacher, vocab_size=teacher.vocab_size + 1), self.tokens
        if self.width is not None:
            yield dataclasses.replace(teacher, d_model=teacher.d_model + 1), self.width
        if number is None:
            return
        layer = teacher.layers[number]
        share = layer.n_heads // max(1, layer.n_kv_heads)
        wider = dataclasses.replace(layer, d_ff=layer.d_ff + 1)
        more = dataclasses.replace(layer, n_heads=layer.n_heads + share, n_kv_heads=layer.n_kv_heads + 1)
        for kept, larger in ((self.channels, wider), (self.groups, more)):
            if number in kept:
                layers = (*teacher.layers[:number], larger, *teacher.layers[number + 1 :])
                yield dataclasses.replace(teacher, layers=layers), kept[number]

    def _layers(self, teacher: ModelSpec) -> Sequence[int]:
        return range(len(teacher.layers)) if self.layers is None else self.layers

    def _layer(self, number: int, layer: Layer) -> Layer:
        if number in self.channels:
            layer = dataclasses.replace(layer, d_ff=len(self.channels[number]))
        if number in self.groups:
            kept = len(self.groups[number])
            share = layer.n_heads // layer.n_kv_heads
            layer = dataclasses.replace(layer, n_heads=kept * share, n_kv_heads=kept)
        return layer


@dataclass(frozen=True)
class Student:
    """A config that its family reads, and a tensor of its spec for each name, or None."""

    config: dict[str, Any]
    family: Family
    load: Load

    @property
    def spec(self) -> ModelSpec:
        return self.family.spec

    @functools.cached_property
    def n_parameters(self) -> int:
        return self.spec.parameters(self.family.tensors)


def units(spec: ModelSpec, wider: ModelSpec, name: str) -> dict[int, int]:
    """The axes of a tensor along which `wider`, which has one more of something, is larger, and by how much.
    Raises UnsupportedModel for one that has channels of the residual several times side by side.
    """
    found = {
        axis: more - n
        for axis, (n, more) in enumerate(zip(spec.shape(name), wider.shape(name), strict=True))
        if more != n
    }
    if wider.d_model != spec.d_model and max(found.values(), default=1) > 1:
        raise UnsupportedModel(
            f"{name} has channels of the residual side by side", hint="make the student smaller otherwise"
        )
    return found


def of(teacher: ConvertInput, parts: Parts) -> Student:
    """The student that has these parts of its teacher. Raises UnsupportedModel when configs of the family
    cannot say what it is.
    """
    if parts != Parts() and not teacher.spec.layers_stand_alone:
        raise UnsupportedModel(
            f"layers of {teacher.spec.model_type!r} share more than the residual: such a model is not cut",
            hint="train it as it is, or choose another teacher",
        )
    spec = parts.spec(teacher.spec)
    config = flat_config(teacher)
    if parts.tokens is not None:
        config = renumbered(config, numbering(parts.tokens)) | {"vocab_size": spec.vocab_size}
    if parts.layers is not None:
        config = _of_layers(config, parts.layers, len(teacher.spec.layers))
    for ours, theirs in WORDS.items():
        changed = {getattr(layer, ours) for layer in spec.layers if getattr(layer, ours)}
        if changed != {getattr(layer, ours) for layer in teacher.spec.layers if getattr(layer, ours)}:
            config[theirs] = next(iter(changed))
            if ours != "d_ff":
                config["head_dim"] = max(layer.head_dim for layer in spec.layers)
    if parts.width is not None:
        config[WIDTH] = spec.d_model
        config["head_dim"] = max(layer.head_dim for layer in spec.layers)
    load = functools.partial(parts.load, teacher.spec, teacher.load)
    for spelling in _spellings(config, spec):
        family = models.load(spelling)
        if family.spec == spec:
            return Student(spelling, family, load)
    raise UnsupportedModel(
        f"a config of model type {teacher.spec.model_type!r} cannot say what layers such a student has",
        hint="choose whole periods of the layers, or another way to make it smaller",
    )


def _of_layers(config: dict[str, Any], layers: Sequence[int], n: int) -> dict[str, Any]:
    """Lists with a member for each of the `n` layers keep those of `layers`."""
    kept = {
        key: [value[number] for number in layers] if isinstance(value, list) and len(value) == n else value
        for key, value in config.items()
    }
    return {key: len(layers) if key.endswith(("_hidden_layers", "_transformer_layers")) else value
            for key, value in kept.items()}  # fmt: skip


def _spellings(config: dict[str, Any], spec: ModelSpec) -> Iterable[dict[str, Any]]:
    """The config, and with what its family may take from the number of a layer said layer by layer."""
    windows = ["full_attention" if layer.window is None else "sliding_attention" for layer in spec.layers]
    rotated = [int(layer.rope is not None) for layer in spec.layers]
    yield config
    yield config | {"layer_types": windows}
    yield config | {"no_rope_layers": rotated}
    yield config | {"layer_types": windows, "no_rope_layers": rotated}


def save(
    student: Student,
    teacher: ConvertInput,
    directory: Path,
    *,
    kept: Sequence[int] | None = None,
    dtype: str | None = None,
    what: str = "",
    progress: Progress = silent,
) -> None:
    """Into a directory that is there: the weights as `dtype`, by default the type of the teacher's (float32
    when that is quantized), its tokenizer with the tokens `kept` alone, and what else lies beside them.
    `what` is said in the card.
    """
    given = dtype or teacher.checkpoint.info(teacher.tensors["embed"].name)[0]
    dtype = given if given in TORCH_TYPES else "F32"
    tensors = {
        name: Tensor(dtype, stored.shape, functools.partial(_blocks, stored, name, student.load, dtype))
        for name, stored in models.stored(student.family).items()
    }
    source = teacher.checkpoint.path
    for name in COPIED:
        if (source / name).is_file() and (kept is None or name not in REPLACED):
            shutil.copyfile(source / name, directory / name)
    if kept is not None:
        _save_tokenizer(teacher, kept, directory)
    _save_card(teacher, student, directory, what)
    write(directory, student.config, tensors, progress)


def _blocks(stored: Stored, name: str, load: Load, dtype: str) -> Iterable[NDArray[Any]]:
    if any(where.order or where.columns or where.index is not None for _, where in stored.parts):
        whole = np.empty(stored.shape, np.float32)
        for ours, where in stored.parts:
            values, there = _stored(load, ours, where), whole if where.index is None else whole[where.index]
            there = there.swapaxes(-1, -2) if where.transpose else there
            there = there[:, slice(*where.columns)] if where.columns else there
            there = there if where.rows is None else there[slice(*where.rows)]
            there[stored_rows(where, 0, len(values)) if where.order else slice(None)] = values
        yield bits(whole, dtype)
        return
    for ours, where in stored.parts:
        values = _stored(load, ours, where)
        yield bits(values if stored.row is None else values[stored.row], dtype)


def _stored(load: Load, name: str, where: Source) -> NDArray[np.float32]:
    """A tensor as its checkpoint has it: what its source does, undone."""
    values = load(name)
    if values is None:
        raise UnsupportedModel(f"the student has no tensor {name!r}, which its config needs")
    values = values - np.float32(where.add) if where.add else values
    values = values / np.float32(where.scale) if where.scale != 1 else values
    return MAPS[where.map].inverse(values) if where.map else values


def definition_of(teacher: ConvertInput) -> dict[str, Any]:
    """The teacher's tokenizer in the words of a tokenizer.json. Raises UsageError when it has none."""
    definition = read_definition(teacher.checkpoint.path)
    if definition is None:
        raise UsageError("the teacher has no tokenizer that edgekit reads", hint="give a checkpoint with one")
    return definition


def _save_tokenizer(teacher: ConvertInput, kept: Sequence[int], directory: Path) -> None:
    source, new = teacher.checkpoint.path, numbering(kept)
    definition = Vocabulary(definition_of(teacher), teacher.spec.vocab_size).trimmed(kept)
    roles = renumbered({f"{role}_token_ids": ids for role, ids in definition.pop("roles", {}).items()}, new)
    written = {"version": "1.0", "truncation": None, "padding": None}
    write_json(directory / "tokenizer.json", written | definition)
    text_of = {token["id"]: token["content"] for token in definition["added_tokens"]}
    for name in NUMBERED:
        members = renumbered(read_json(source / name), new)
        if name == "tokenizer_config.json":
            for role, ids in roles.items():  # of a file that no longer lies there
                if ids and ids[0] in text_of:
                    members.setdefault(role.removesuffix("_ids"), text_of[ids[0]])
            members.pop("added_tokens_decoder", None)  # tokenizer.json says it
        if members:
            write_json(directory / name, members)


def _save_card(teacher: ConvertInput, student: Student, directory: Path, what: str) -> None:
    source = teacher.metadata.get("source", {})
    name = source.get("name", teacher.spec.model_type)
    front = [f"base_model: {name}", "pipeline_tag: text-generation"]
    if source.get("license"):
        front.append(f"license: {source['license']}")
    front_matter = "\n".join(["---", *front, "---"])
    text = f"{front_matter}\n\n# A student of {name}\n\nMade by `edgekit distill`: {what}.\n"
    (directory / "README.md").write_text(text, "utf-8")
