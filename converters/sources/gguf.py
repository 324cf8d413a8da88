"""GGUF files as checkpoints, under Hugging Face's names (llama.cpp's own types; blocks need the `gguf`
package).

Layout, little-endian: "GGUF", u32 version, u64 tensors, u64 keys; the keys (name, type, value); for each
tensor its name, dimensions (the fastest first), type and offset; then, aligned, the data. A large model may
be split into files `NAME-00001-of-00003.gguf`, each a whole GGUF file with some of the tensors. The
tokenizer's keys become tokenizer.json in a temporary directory, where the rest of the conversion looks.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import models
from edgekit.converters.checkpoint import Checkpoint, Entry
from edgekit.converters.codes import Codes, Layout
from edgekit.converters.formats._gguf_architecture import Architecture, file_name, of
from edgekit.converters.quant import ggml
from edgekit.converters.sources import _gguf_vocabulary
from edgekit.converters.sources._gguf_words import Words, config, scaling
from edgekit.converters.spec import ModelSpec, Source
from edgekit.errors import InvalidFile, UnsupportedModel, UsageError

SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
PLAIN = {
    0: ("F32", "<f4"),
    1: ("F16", "<f2"),
    28: ("F64", "<f8"),
    30: ("BF16", "<u2"),
}  # ggml's types of floats
MAX_DIMS = 4
BIG_ENDIAN_VERSIONS = (2 << 24, 3 << 24)
PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class Tensor:
    """`shape` with the fastest dimension last; `offset` in bytes from the start of `file`."""

    file: Path
    shape: tuple[int, ...]
    type: int
    offset: int
    row_bytes: int


@dataclass(frozen=True)
class Place:
    """A tensor of the file, and the row of it at which one of the spec begins."""

    name: str
    stored: Tensor
    row: int


Rows = Callable[[str, Tensor, int, int], NDArray[Any]]


class GgufCheckpoint(Checkpoint):
    """A GGUF file, or all of the files a model was split into, given one of them. Raises InvalidFile for
    damaged and missing ones, UnsupportedModel for unknown architectures and types.
    """

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        file = Path(path)
        if not file.is_file():
            raise InvalidFile(f"checkpoint not found: {file}")
        self.check = check
        self.files = files_of(file)
        self.keys, self.stored = read_header(self.files[0])
        for other in self.files[1:]:
            self.stored |= read_header(other)[1]
        _check_count(file, self.keys, len(self.files), len(self.stored))
        try:
            beside = self._read_keys()
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InvalidFile(f"{file.name}: its keys are not what they should be: {error!r}") from error
        family = models.load(self.config)
        self.spec: ModelSpec = family.spec
        architecture = of(self.spec)
        assert architecture is not None
        self.architecture: Architecture = architecture
        self._parts: dict[
            str, list[tuple[str, Source]]
        ] = {}  # Hugging Face's name -> the spec's, one below another
        for name, source in family.tensors.items():
            for row, theirs in enumerate((source.name, *source.stack)):  # a stack: one norm for each head
                part = dataclasses.replace(source, rows=(row, row + 1)) if source.stack else source
                self._parts.setdefault(theirs, []).append((name, part))
        self.tensors = {
            theirs: Entry(file, "F32", self._shape(parts), 0) for theirs, parts in self._parts.items()
        }
        self._directory = tempfile.TemporaryDirectory(prefix="edgekit-gguf-")
        self.path = Path(self._directory.name)
        for name, value in beside.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            (self.path / name).write_text(text, "utf-8")

    def _read_keys(self) -> dict[str, Any]:
        """Sets `config` and `warnings`; what lies beside a Hugging Face checkpoint, by name."""
        words = Words(self.keys)
        self.config = config(words, {name: t.shape for name, t in self.stored.items()})
        rope = [name for name in self.stored if name.startswith("rope_f")]
        factors = {name: self._floats(name, self.stored[name], 0, 1)[0].tolist() for name in rope}
        if angles := scaling(words, factors, self.config):
            self.config["rope_scaling"] = angles
        self.warnings = _gguf_vocabulary.warnings(self.keys)
        if unread := words.unread():
            named = ", ".join(f"{words.architecture}.{word} = {value}" for word, value in unread.items())
            self.warnings += (f"keys of the GGUF file that edgekit does not know are left out: {named}",)
        return _gguf_vocabulary.files(self.keys)

    def read(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32]:
        shape = self._entry(name).shape
        part, source = self._parts[name][0]
        if source.stack:
            vector = self._read_part(part, *(source.rows or (0, 1)), self._floats)[0]
            return np.asarray(vector[slice(*rows) if rows else slice(None)], np.float32)
        first, last = rows or (0, shape[0])
        values = self._rows_of_parts(name, first, last, self._floats)
        if source.add:
            values = values - np.float32(source.add)
        if self.check and values.size and not np.isfinite(values).all():
            raise InvalidFile(f"{self.files[0].name}: tensor {name!r} has NaN or infinite values")
        return values.reshape(last - first, *shape[1:])

    def read_raw(self, name: str) -> tuple[str, NDArray[Any]]:
        return "F32", self.read(name)

    def layout(self, name: str) -> Layout | None:
        if len(self._entry(name).shape) != 2:
            return None
        types = {self._find(part).stored.type for part, _ in self._parts[name]}
        if types <= PLAIN.keys():
            return None
        kind = _type_name(types.pop())
        if types or kind not in ggml.LAYOUTS:
            where = self._find(self._parts[name][0][0])
            return Layout(8 * where.stored.row_bytes // where.stored.shape[-1], 0, "other")
        return ggml.LAYOUTS[kind]

    def type_of(self, part: str) -> str:
        """ggml's word for how a tensor of the spec is stored: "F32", "Q4_0", …"""
        kind = self._find(part).stored.type
        return PLAIN[kind][0] if kind in PLAIN else _type_name(kind)

    def codes(self, name: str, rows: tuple[int, int]) -> Codes:
        kind = _type_name(self._find(self._parts[name][0][0]).stored.type)
        found = self._rows_of_parts(name, *rows, self._bytes)
        return ggml.codes(kind, found)

    def _shape(self, parts: list[tuple[str, Source]]) -> tuple[int, ...]:
        shapes = [self.spec.shape(name) for name, _ in parts]
        source = parts[0][1]
        if source.stack:
            return shapes[0][1:]
        if source.shape is not None:  # depthwise taps: Hugging Face has one channel more
            return (sum(shape[0] for shape in shapes), 1, shapes[0][1])
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def _rows_of_parts(self, name: str, first: int, last: int, rows: Rows) -> NDArray[Any]:
        shape = self._entry(name).shape
        if not 0 <= first <= last <= shape[0]:
            raise InvalidFile(f"tensor {name!r}: rows {first}..{last} of shape {list(shape)} do not exist")
        if len(self._parts[name]) > 1 and self._parts[name][0][1].order:  # by turns, as Hugging Face has them
            place = self._find(self._parts[name][0][0])
            return rows(place.name, place.stored, first, last)
        found, begin = [], 0
        for part, _ in self._parts[name]:
            count = self.spec.shape(part)[0]
            a, b = max(first - begin, 0), min(last - begin, count)
            if a < b:
                found.append(self._read_part(part, a, b, rows))
            begin += count
        return np.concatenate(found) if found else np.empty((0, *shape[1:]), np.float32)

    def _find(self, name: str) -> Place:
        """Where a tensor of the spec lies."""
        shape = self.spec.shape(name)
        for theirs, expert, skipped in _candidates(name, self.spec, self.architecture):
            stored = self.stored.get(theirs)
            if stored is None:
                continue
            if len(shape) > 1 and stored.shape[-1] != math.prod(shape[1:]):
                raise InvalidFile(
                    f"{theirs} has shape {list(stored.shape)}; {name} should have {list(shape)}"
                )
            before = 0 if expert is None else expert * stored.shape[-2]
            return Place(theirs, stored, skipped + before)
        raise InvalidFile(f"{self.files[0].name}: no tensor for {name}")

    def _read_part(self, name: str, first: int, last: int, rows: Rows) -> NDArray[Any]:
        """Rows of a tensor of the spec."""
        shape, place = self.spec.shape(name), self._find(name)
        reorder = self.architecture.pairs and name.rsplit(".", 1)[-1] in ("q", "k", "q_bias", "k_bias")
        if len(shape) == 1:
            whole = rows(place.name, place.stored, 0, math.prod(place.stored.shape[:-1]))
            values = whole.reshape(-1)[place.row :][: shape[0]]
            values = np.log(-values) if name.endswith(".state_a") else values
            values = self._unpaired(name, values) if reorder else values
            return values[first:last]
        if reorder:
            whole = rows(place.name, place.stored, place.row, place.row + shape[0])
            return self._unpaired(name, whole)[first:last]
        return rows(place.name, place.stored, place.row + first, place.row + last)

    def _unpaired(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Rows of q or k in llama.cpp's order, back in Hugging Face's."""
        head_dim = self.spec.layers[int(name.split(".")[1])].head_dim
        pairs = values.reshape(-1, head_dim // 2, 2, *values.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)

    def _bytes(self, name: str, stored: Tensor, first: int, last: int) -> NDArray[np.uint8]:
        """Rows, all but the last dimension taken together, `[rows, row_bytes]`."""
        total = math.prod(stored.shape[:-1])
        if not 0 <= first <= last <= total:
            raise InvalidFile(f"{name}: rows {first}..{last} of {total} do not exist")
        with stored.file.open("rb", buffering=0) as file:
            file.seek(stored.offset + first * stored.row_bytes)
            data = np.fromfile(file, np.uint8, (last - first) * stored.row_bytes)
        if data.size != (last - first) * stored.row_bytes:
            raise InvalidFile(f"{stored.file.name}: ends inside tensor {name!r}")
        return data.reshape(last - first, stored.row_bytes)

    def _floats(self, name: str, stored: Tensor, first: int, last: int) -> NDArray[np.float32]:
        """The same as float32 `[rows, columns]`."""
        data = self._bytes(name, stored, first, last)
        if stored.type in PLAIN:
            kind, numpy_kind = PLAIN[stored.type]
            bits = data.view(numpy_kind)
            if kind == "BF16":
                return (bits.astype(np.uint32) << 16).view(np.float32)
            return bits.astype(np.float32)
        quants = _quants()
        return np.asarray(quants.dequantize(data, quants.GGMLQuantizationType(stored.type)), np.float32)


def _type_name(kind: int) -> str:
    return str(_quants().GGMLQuantizationType(kind).name)


def _candidates(name: str, spec: ModelSpec, arch: Architecture) -> Iterator[tuple[str, int | None, int]]:
    """(llama.cpp's name, expert, rows before it) under which a tensor of the spec may lie."""
    kind = "bias" if name.endswith("_bias") else "weight"
    words = name.removesuffix("_bias").split(".")
    if words[0] != "layers":
        yield f"{arch.outer[words[0]]}.{kind}", None, 0
        if words[0] == "final_norm":
            yield f"output_norm.{kind}", None, 0
        return
    at, part = f"blk.{words[1]}", words[-1]
    if "experts" in words:
        yield f"{at}.{file_name(part, kind, arch, True)}", int(words[3]), 0
        return
    for fused, parts in (("attn_qkv", ("q", "k", "v")), *arch.fused.items()):
        if part in parts:
            before = [spec.shape(f"layers.{words[1]}.{p}")[0] for p in parts[: parts.index(part)]]
            if not (fused == "ffn_up" and part not in ("gate", "up")):
                yield f"{at}.{fused}.{kind}", None, sum(before)
    yield f"{at}.{file_name(part, kind, arch)}", None, 0


def _quants() -> Any:
    try:
        from gguf import quants
    except ImportError:
        raise UsageError(
            "a quantized GGUF file needs the gguf package", hint="pip install 'edgekit[gguf]'"
        ) from None
    return quants


def files_of(file: Path) -> list[Path]:
    """The files of the model that `file` belongs to, in order; itself when it was not split."""
    found = PART.fullmatch(file.name)
    if found is None:
        return [file]
    name, count = found[1], int(found[3])
    files = [file.with_name(f"{name}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]
    missing = [part.name for part in files if not part.is_file()]
    if missing:
        raise InvalidFile(
            f"{file.name} is one of {count} parts of a model, and {len(missing)} are missing: {missing[0]}"
            + (", ..." if len(missing) > 1 else ""),
            hint="put all parts into one folder, under the names they were made with",
        )
    return files


def _check_count(file: Path, keys: dict[str, Any], n_files: int, n_tensors: int) -> None:
    count, tensors = keys.get("split.count", n_files), keys.get("split.tensors.count", n_tensors)
    if count != n_files:
        raise InvalidFile(
            f"{file.name} is one of {count} parts of a model",
            hint="name the parts as they were made: NAME-00001-of-00002.gguf, ...",
        )
    if tensors != n_tensors:
        raise InvalidFile(f"{file.name}: the parts of the model have {n_tensors} tensors of {tensors}")


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The keys and tensors of a GGUF file. Every length is checked against the file before it is used."""
    size = path.stat().st_size
    with path.open("rb") as file:

        def take(count: int, what: str) -> bytes:
            if not 0 <= count <= size - file.tell():
                raise InvalidFile(f"{path.name}: {what} of {count} bytes goes beyond the end of the file")
            return file.read(count)

        def number(form: str, what: str) -> Any:
            return struct.unpack(form, take(struct.calcsize(form), what))[0]

        def text(what: str) -> str:
            return take(number("<Q", what), what).decode("utf-8", "replace")

        def value(kind: int, what: str) -> Any:
            if kind in SCALARS:
                return number(SCALARS[kind], what)
            if kind == STRING:
                return text(what)
            if kind != ARRAY:
                raise InvalidFile(f"{path.name}: {what} has the unknown type {kind}")
            inner, count = number("<I", what), number("<Q", what)
            if inner in SCALARS:
                data = take(count * struct.calcsize(SCALARS[inner]), what)
                return np.frombuffer(data, SCALARS[inner]).tolist()
            if inner != STRING or count > size // 8:
                raise InvalidFile(f"{path.name}: {what} is an array of {count} values of type {inner}")
            return [text(what) for _ in range(count)]

        if take(4, "the magic") != b"GGUF":
            raise InvalidFile(f"{path.name}: not a GGUF file")
        version, n_tensors, n_keys = (
            number("<I", "the version"),
            number("<Q", "a count"),
            number("<Q", "a count"),
        )
        if version in BIG_ENDIAN_VERSIONS:
            raise UnsupportedModel(
                f"{path.name}: a big-endian GGUF file; little-endian ones are read",
                hint="convert it with gguf-convert-endian of the gguf package",
            )
        if version not in (2, 3):
            raise UnsupportedModel(f"{path.name}: GGUF version {version}; 2 and 3 are read")
        if n_tensors > size // 24 or n_keys > size // 12:
            raise InvalidFile(f"{path.name}: {n_tensors} tensors and {n_keys} keys in a file of {size} bytes")
        keys: dict[str, Any] = {}
        for _ in range(n_keys):
            name = text("a key")
            keys[name] = value(number("<I", name), name)
        found = {}
        for _ in range(n_tensors):
            name, dims = text("a tensor's name"), number("<I", "a tensor")
            if not 1 <= dims <= MAX_DIMS:
                raise InvalidFile(f"{path.name}: tensor {name!r} has {dims} dimensions")
            shape = tuple(number("<Q", name) for _ in range(dims))[::-1]
            found[name] = (shape, number("<I", name), number("<Q", name))
        alignment = keys.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise InvalidFile(f"{path.name}: an alignment of {alignment!r}")
        start = -(-file.tell() // alignment) * alignment
    tensors = {}
    for name, (shape, kind, offset) in found.items():
        row_bytes = _row_bytes(shape[-1], kind, f"{path.name}: tensor {name!r}")
        end = start + offset + math.prod(shape[:-1]) * row_bytes
        if 0 in shape or end > size:
            raise InvalidFile(
                f"{path.name}: tensor {name!r} of shape {list(shape)} ends at byte {end} of {size}"
            )
        tensors[name] = Tensor(path, shape, kind, start + offset, row_bytes)
    return keys, tensors


def _row_bytes(columns: int, kind: int, where: str) -> int:
    if kind in PLAIN:
        return columns * np.dtype(PLAIN[kind][1]).itemsize
    quants = _quants()
    try:
        block, block_bytes = quants.GGML_QUANT_SIZES[quants.GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise UnsupportedModel(f"{where} has the unknown type {kind}") from None
    if columns % block:
        raise InvalidFile(f"{where} has rows of {columns} values in blocks of {block}")
    return columns // int(block) * int(block_bytes)
