"""Streaming reader of Hugging Face checkpoints: one tensor, or a few of its rows, in memory at a time.

A checkpoint is a directory with `config.json` and `model.safetensors`, or `model.safetensors.index.json` and
its shards. Readers of other sources (GGUF, MLX, ...) offer the same interface, `TensorSource`.

Layout of a safetensors file: u64 little-endian N, N bytes of JSON `{name: {dtype, shape, data_offsets:
[begin, end]}}`, then the tensors; offsets count from the end of the JSON, and the tensors fill the rest
without holes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.codes import Codes, Layout
from edgekit.converters.spec import Source
from edgekit.errors import InvalidFile

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_JSON_BYTES = 100 << 20  # of a header, index or config; safetensors' own limit

# dtype -> numpy type of its bits; bfloat16 and the 8-bit floats have no numpy type of their own
RAW_TYPES: dict[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
FLOAT_TYPES = ("F64", "F32", "F16", "BF16")


class Map(NamedTuple):
    """A function of numbers in a checkpoint, and its inverse."""

    forward: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    inverse: Callable[[NDArray[np.float32]], NDArray[np.float32]]


MAPS = {"softplus": Map(lambda x: np.logaddexp(x, np.float32(0)), lambda x: np.log(np.expm1(x)))}


class TensorSource(Protocol):
    """What families, formats and the reference read from. Every call raises InvalidFile for damaged files."""

    config: dict[str, Any]
    """The model's config in Hugging Face's words."""

    path: Path
    """The directory of its tokenizer's files."""

    def names(self) -> list[str]:
        """Names of all tensors, sorted."""

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Type ("F32", "BF16", ...) and shape of a tensor, without reading it."""

    def read(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """The tensor as float32, or its rows `[rows[0], rows[1])`."""

    def read_raw(self, name: str) -> tuple[str, NDArray[Any]]:
        """Type, and the tensor's own bits (bfloat16 as uint16)."""

    def sha256(self) -> str:
        """Hash of the weights, in hexadecimal."""

    def source(self, source: Source) -> NDArray[np.float32]:
        """The tensor that `source` describes, as float32."""

    def layout(self, name: str) -> Layout | None:
        """How a quantized matrix is stored; None for floats."""

    def codes(self, name: str, rows: tuple[int, int]) -> Codes:
        """Rows of a matrix whose layout is not "other"; of a stack of them, one below another."""


@dataclass(frozen=True)
class Entry:
    """A tensor in a safetensors file: `offset_bytes` from the start of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int


class Checkpoint:
    """A directory with `config.json` and safetensors files, or one `.safetensors` file beside a config.

    Opening reads the headers only. With `check`, `read` raises InvalidFile on NaN and infinity. An index may
    name tensors that no shard has: a family knows which ones its model needs.
    """

    warnings: tuple[str, ...] = ()
    """What the files leave open, for whoever converts them."""

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        given = Path(path)
        self.path = given if given.is_dir() else given.parent
        """The directory: tokenizer files lie in it."""
        self.check = check
        if not given.exists():
            raise InvalidFile(
                f"checkpoint not found: {given}",
                hint="pass a directory with config.json and model.safetensors",
            )
        self.config: dict[str, Any] = read_json(self.path / "config.json")
        self.files: list[Path] = [given] if given.is_file() else _weight_files(self.path)
        self.tensors: dict[str, Entry] = {}
        for file in self.files:
            for name, entry in read_header(file).items():
                if name in self.tensors:
                    raise InvalidFile(
                        f"tensor {name!r} is in both {self.tensors[name].path.name} and {file.name}"
                    )
                self.tensors[name] = entry

    def names(self) -> list[str]:
        return sorted(self.tensors)

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        entry = self._entry(name)
        return entry.dtype, entry.shape

    def read(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32]:
        entry = self._entry(name)
        if entry.dtype not in FLOAT_TYPES:
            raise InvalidFile(
                f"{entry.path.name}: tensor {name!r} has type {entry.dtype}, not {', '.join(FLOAT_TYPES)}",
                hint="take the unquantized checkpoint",
            )
        values = to_float32(entry.dtype, self._bits(name, entry, rows))
        if self.check and values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise InvalidFile(
                f"{entry.path.name}: tensor {name!r} has NaN or infinite values as float32",
                hint="the checkpoint is damaged: download or save it again",
            )
        return values

    def read_raw(self, name: str) -> tuple[str, NDArray[Any]]:
        entry = self._entry(name)
        return entry.dtype, self._bits(name, entry, None)

    def sha256(self) -> str:
        """SHA-256 of the safetensors files, one after another in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def source(self, source: Source) -> NDArray[np.float32]:
        return read_source(self, source)

    def layout(self, name: str) -> Layout | None:
        return None

    def codes(self, name: str, rows: tuple[int, int]) -> Codes:
        raise InvalidFile(f"tensor {name!r} has no integer codes")

    def _entry(self, name: str) -> Entry:
        if name not in self.tensors:
            raise InvalidFile(f"{self.path}: no tensor named {name!r}")
        return self.tensors[name]

    def _bits(self, name: str, entry: Entry, rows: tuple[int, int] | None) -> NDArray[Any]:
        kind = np.dtype(RAW_TYPES[entry.dtype])
        shape, offset = entry.shape, entry.offset_bytes
        if rows is not None:
            begin, end = rows
            if not shape or not 0 <= begin <= end <= shape[0]:
                raise InvalidFile(f"tensor {name!r}: rows {begin}..{end} of shape {list(shape)} do not exist")
            offset += begin * math.prod(shape[1:]) * kind.itemsize
            shape = (end - begin, *shape[1:])
        count = math.prod(shape)
        with entry.path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            values = np.fromfile(stream, kind, count)
        if values.size != count:
            raise InvalidFile(f"{entry.path.name}: ends inside tensor {name!r}; it changed while being read")
        return values.reshape(shape)


def read_source(reader: TensorSource, source: Source) -> NDArray[np.float32]:
    """Read, stack, reshape and shift, as a `Source` asks; the implementation of `TensorSource.source`."""
    if not source.name:
        assert source.shape is not None
        return np.full(source.shape, source.add, np.float32)
    values = _rows(reader, source)
    if source.stack:
        values = np.concatenate((values, *(reader.read(name) for name in source.stack)))
    if source.shape is not None:
        values = values.reshape(source.shape)
    if source.map:
        values = MAPS[source.map].forward(values)
    values = values * np.float32(source.scale) if source.scale != 1 else values
    return values + np.float32(source.add) if source.add else values


def stored_rows(source: Source, first: int, last: int) -> NDArray[np.int64]:
    """Where rows `[first, last)` of what a source with an `order` describes lie in its tensor."""
    rows = np.arange(first, last)
    return rows // len(source.order) * source.period + np.array(source.order)[rows % len(source.order)]


def source_shape(reader: TensorSource, source: Source) -> tuple[int, ...]:
    """Shape of the tensor that a source takes its rows from."""
    shape = reader.info(source.name)[1]
    shape = shape if source.index is None else shape[1:]
    shape = (*shape[:-2], *shape[-2:][::-1]) if source.transpose else shape
    return shape if source.columns is None else (*shape[:-1], source.columns[1] - source.columns[0])


def _rows(reader: TensorSource, source: Source) -> NDArray[np.float32]:
    rows = source.rows
    if not source.order:
        return _tensor_rows(reader, source, rows)
    whole = source_shape(reader, source)[0] // source.period * len(source.order)
    stored = stored_rows(source, *(rows or (0, whole)))
    begin, end = (int(stored.min()), int(stored.max()) + 1) if stored.size else (0, 0)
    return _tensor_rows(reader, source, (begin, end))[stored - begin]


def _tensor_rows(reader: TensorSource, source: Source, rows: tuple[int, int] | None) -> NDArray[np.float32]:
    if source.index is None and not source.transpose:
        return reader.read(source.name, rows)
    index = source.index
    values = (
        reader.read(source.name, source.columns)
        if index is None
        else reader.read(source.name, (index, index + 1))[0]
    )
    values = values.swapaxes(-1, -2) if source.transpose else values
    return values if rows is None else values[slice(*rows)]


def to_float32(dtype: str, bits: NDArray[Any]) -> NDArray[np.float32]:
    """Widen (or, from F64, round) one of FLOAT_TYPES to float32."""
    if dtype == "BF16":
        wide = bits.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which the caller reports
        return bits.astype(np.float32, copy=False)


def read_header(path: Path) -> dict[str, Entry]:
    """Parse and check the header of a safetensors file.

    Raises InvalidFile: truncated or oversized header, bad JSON, duplicate names, unknown types, shapes that
    do not match their bytes, tensors that overlap, leave holes, are misaligned, or lie outside the file.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            prefix = stream.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > size - 8:
                raise InvalidFile(
                    f"{path.name}: the header should take {length} bytes, the file has {size}",
                    hint="not a safetensors file, or cut short: download it again",
                )
            if length > MAX_JSON_BYTES:
                raise InvalidFile(
                    f"{path.name}: a header of {length} bytes; at most {MAX_JSON_BYTES} are allowed"
                )
            text = stream.read(length)
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
    header = parse_json(text, path.name)
    header.pop("__metadata__", None)
    data_bytes = size - 8 - length
    entries: dict[str, Entry] = {}
    spans: list[tuple[int, int, str]] = []
    for name, fields in header.items():
        dtype, shape, (begin, end) = _fields(fields, f"{path.name}: tensor {name!r}")
        item_bytes = np.dtype(RAW_TYPES[dtype]).itemsize
        if end - begin != math.prod(shape) * item_bytes:
            raise InvalidFile(
                f"{path.name}: tensor {name!r} of type {dtype} and shape {list(shape)} in {end - begin} bytes"
            )
        if end > data_bytes:
            raise InvalidFile(
                f"{path.name}: tensor {name!r} ends at byte {end} of {data_bytes}",
                hint="the file is cut short: download it again",
            )
        if begin % item_bytes:
            raise InvalidFile(
                f"{path.name}: tensor {name!r} of type {dtype} is misaligned, at byte {begin}",
                hint="save it again with the safetensors library",
            )
        entries[name] = Entry(path, dtype, shape, 8 + length + begin)
        spans.append((begin, end, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            what = (
                "overlaps another one"
                if begin < position
                else f"leaves a hole of {begin - position} bytes before it"
            )
            raise InvalidFile(f"{path.name}: tensor {name!r} at byte {begin} {what}")
        position = end
    if position != data_bytes:
        raise InvalidFile(f"{path.name}: {data_bytes - position} bytes after the last tensor belong to none")
    return entries


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InvalidFile, also for duplicate members."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InvalidFile(
                f"{path.name}: {path.stat().st_size} bytes; at most {MAX_JSON_BYTES} are allowed"
            )
        text = path.read_bytes()
    except OSError as error:
        raise InvalidFile(
            f"{path}: {error.strerror}", hint="a checkpoint has config.json beside its weights"
        ) from error
    return parse_json(text, path.name)


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object without duplicate members, or InvalidFile that says `where`."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise InvalidFile(f"{where}: {twice!r} appears twice")
        return value

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=members)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{where}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidFile(f"{where}: a JSON object is expected, not {type(value).__name__}")
    return value


def _fields(fields: Any, where: str) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    try:
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        numbers = [*shape, *offsets]
        well_formed = len(offsets) == 2 and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
    except (TypeError, KeyError) as error:
        raise InvalidFile(f"{where}: dtype, shape or data_offsets is missing or malformed") from error
    if not isinstance(dtype, str) or dtype not in RAW_TYPES:
        raise InvalidFile(f"{where}: unknown type {dtype!r}")
    if not well_formed or offsets[0] > offsets[1]:
        raise InvalidFile(f"{where}: shape {shape} with offsets {offsets} is malformed")
    return dtype, tuple(shape), (offsets[0], offsets[1])


def _weight_files(directory: Path) -> list[Path]:
    if (directory / SINGLE).exists():
        return [directory / SINGLE]
    if (directory / INDEX).exists():
        shards = sorted(set(_weight_map(directory / INDEX).values()))
        missing = [shard for shard in shards if not (directory / shard).is_file()]
        if missing:
            raise InvalidFile(
                f"{directory}: {len(missing)} of {len(shards)} shards are missing: {', '.join(missing)}",
                hint="download the missing files",
            )
        return [directory / shard for shard in shards]
    hint = f"expected {SINGLE}, or {INDEX} and its shards"
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt*")):
        hint += "; pickles (.bin, .pt) run code when opened and are not read: save the model as safetensors"
    raise InvalidFile(f"{directory}: no weights", hint=hint)


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(v, str) for v in weight_map.values())
    ):
        raise InvalidFile(f"{index.name}: 'weight_map' must map tensor names to file names")
    for file in weight_map.values():
        if file != Path(file).name or "\\" in file or file in ("", ".", ".."):
            raise InvalidFile(
                f"{index.name}: shard {file!r} is not a file name in the checkpoint's directory"
            )
    return weight_map
