"""The `.edge` file: a safetensors file whose tensors are ready for the engine (docs/format.md).

Matrices are packed by `converters/quant` and stored as `U8 [n_tiles, tile_bytes]`; vectors as `F32`, zero-
padded to a multiple of 16. Every tensor starts on a multiple of 64 bytes. What safetensors has no place for
is JSON text in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output
from edgekit.converters.formats._large_blocks import large_blocks
from edgekit.converters.formats._parallel import in_order
from edgekit.converters.quant import dense
from edgekit.converters.quant.block32 import Block32
from edgekit.converters.quant.grid import Grid
from edgekit.converters.quant.q3_block32 import Q3Block32
from edgekit.converters.quant.q4_affine32 import Q4Affine32
from edgekit.converters.quant.q4_block32 import Q4Block32
from edgekit.converters.quant.q5_block32 import Q5Block32
from edgekit.converters.quant.q6_block32 import Q6Block32
from edgekit.converters.quant.q8_block32 import Q8Block32
from edgekit.converters.quant.tiles import F32, TILE_ROWS, U8, padded_rows, round_up, tiles_of
from edgekit.converters.spec import MATRICES, ModelSpec
from edgekit.errors import InvalidFile, UsageError

SUFFIX = ".edge"
BACKEND = "cpu"
FORMAT_VERSION = 2
ALIGNMENT = 64
# Spaces after the header's JSON, so that what verification measures can be written in place.
SPARE_HEADER_BYTES = 48 * 1024

# Of which a token reads one row: it is stored as the 16 rows of a tile, so that its bytes lie together.
TABLES = frozenset(["ple_embed"])
# Small and sensitive: a wrong expert, or a state that fades too fast, costs more than these bytes.
KEPT_WIDE = frozenset(["router", "state_dt", "state_beta"])

# What turns ids into vectors and back: at 4 bits these cost as much quality as all the rest.
ENDS = frozenset(["embed", "head"])
# An error in these does the most harm for their bytes.
SENSITIVE = frozenset(["v", "down"])

TileGrid = dense.DenseTiles | Q8Block32 | Block32 | Q4Affine32
GRIDS: dict[str, TileGrid] = {
    grid.name: grid
    for grid in (
        dense.DenseTiles("F32"),
        dense.DenseTiles("F16"),
        dense.DenseTiles("BF16"),
        Q8Block32(),
        Q6Block32(),
        Q5Block32(),
        Q4Block32(),
        Q4Affine32(),
        Q3Block32(),
    )
}


@dataclass(frozen=True)
class Scheme:
    """The layouts of matrices, by what they do; "" stands for that of the body."""

    body: str
    ends: str = ""
    sensitive: str = ""

    def layout(self, name: str) -> str:
        part = name.rsplit(".", 1)[-1]
        if part in KEPT_WIDE:
            return self.body if self.body == "f32" else "f16"
        special = self.ends if part in ENDS else self.sensitive if part in SENSITIVE else ""
        return special or self.body


SCHEME_OF_NAME = {
    "q4": Scheme("q4_block32", ends="q6_block32"),
    "q5": Scheme("q5_block32", ends="q6_block32", sensitive="q6_block32"),
    "q6": Scheme("q6_block32"),
    "q8": Scheme("q8_block32"),
    "q3": Scheme("q3_block32", ends="q6_block32"),
    "f16": Scheme("f16"),
    "f32": Scheme("f32"),
    "mix": Scheme("q5_block32"),  # what a number of bytes leaves room for (converters/mix.py)
    **{name: Scheme(name) for name, grid in GRIDS.items() if grid.bits <= 8},
}
SCHEMES = tuple(SCHEME_OF_NAME)
SMALL_WEIGHTS = 1e9  # of a model that 4 bits would cost too much


# float32 rows `[n, k]`, n a multiple of 16, and the importance of columns -> tiles `[n / 16, tile_bytes]`
Encoder = Callable[[F32, F32 | None], U8]

_SLAB_WEIGHTS = 1 << 18  # weights packed at a time by a thread: what fits a second-level cache


def is_matrix(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in MATRICES


def default_scheme(model: ConvertInput) -> str:
    """The codes of quantized checkpoints are kept; small models get more bits than large ones."""
    if any(model.layout(name) for name in model.tensors):
        return "q8"
    weights = model.spec.parameters(model.spec.matrices())
    return "q5" if weights < SMALL_WEIGHTS else "q4"


def grids(model: ConvertInput, scheme: str) -> dict[str, Grid]:
    """Of each matrix; f16 stands for bf16 too."""
    if scheme not in SCHEME_OF_NAME:
        raise UsageError(
            f"scheme {scheme!r} is not one the edge format has; choose from {', '.join(SCHEMES)}"
        )
    layout = SCHEME_OF_NAME[scheme].layout
    return {
        name: model.mix.get(name, GRIDS[layout(name)])
        if name in TABLES
        else model.grid(name, GRIDS[layout(name)])
        for name in model.tensors
        if is_matrix(name)
    }


def stored_shape(spec: ModelSpec, name: str) -> tuple[int, int]:
    """Rows and columns of a matrix in the file."""
    n, k = spec.shape(name)
    return (n * TILE_ROWS, k // TILE_ROWS) if name in TABLES else (n, k)


def mixed(model: ConvertInput) -> tuple[Grid, ...]:
    return tuple(grid for grid in GRIDS.values() if isinstance(grid, (Block32, Q8Block32)))


def write(
    model: ConvertInput,
    path: Path,
    scheme: str = "q4",
    progress: Progress = silent,
    encoders: Mapping[str, Encoder] | None = None,
) -> None:
    """Writes `model` as an `.edge` file in one pass over the checkpoint; memory stays at a few slabs of rows.

    `encoders`: what packs a layout in place of its grid, where there is something faster.

    Raises UsageError for an unknown scheme, InvalidFile when the checkpoint cannot be read, OSError when
    the disk is full.
    """
    chosen = {name: _exact(model, name, grid) for name, grid in grids(model, scheme).items()}
    vectors: dict[str, F32] = {}
    vector_shapes: dict[str, list[int]] = {}
    for name, source in model.tensors.items():
        if not is_matrix(name):
            value = model.checkpoint.source(source).astype(np.float32)
            vector_shapes[name] = list(value.shape)
            vectors[name] = np.pad(value.reshape(-1), (0, -value.size % TILE_ROWS))
    blobs = {"tokenizer": model.tokenizer, "chat_template": model.chat_template}
    blobs_u8 = {name: _padded_bytes(blob) for name, blob in blobs.items() if blob is not None}

    shapes: dict[str, tuple[str, list[int]]] = {}
    for name, grid in chosen.items():
        n, k = stored_shape(model.spec, name)
        shapes[name] = ("U8", [tiles_of(n), grid.tile_bytes(k)])
    shapes |= {name: ("F32", [vector.size]) for name, vector in vectors.items()}
    shapes |= {name: ("U8", [blob.size]) for name, blob in blobs_u8.items()}

    metadata: dict[str, Any] = {
        "format": "edge",
        "version": str(FORMAT_VERSION),
        "scheme": scheme,
        "spec": model.spec.to_json(),
        "matrices": {
            name: {"layout": grid.name, "shape": stored_shape(model.spec, name)}
            for name, grid in chosen.items()
        },
        "vectors": vector_shapes,
        "sha256": dict.fromkeys(shapes, "0" * 64),
        **model.metadata,
    }
    header = _header(metadata, _offsets(shapes), reserve=SPARE_HEADER_BYTES)
    hashes: dict[str, str] = {}

    def parts() -> Iterator[bytes | memoryview]:
        yield header
        for done, name in enumerate(shapes, 1):
            digest = hashlib.sha256()
            for block in _blocks(model, name, chosen, vectors, blobs_u8, encoders or {}):
                digest.update(block.data)
                yield block.data
            hashes[name] = digest.hexdigest()
            progress("packing weights", done, len(shapes))

    with path.open("wb") as file:
        for block in large_blocks(parts()):
            file.write(block)
        metadata["sha256"] = hashes
        file.seek(0)
        file.write(_header(metadata, _offsets(shapes), total=len(header)))
        file.flush()
        os.fsync(file.fileno())


def size_bytes(model: ConvertInput, scheme: str) -> int:
    """Bytes of the file that `write` would write, up to what its header's text takes."""
    size = SPARE_HEADER_BYTES
    size += sum(
        grid.size_bytes(*stored_shape(model.spec, name)) for name, grid in grids(model, scheme).items()
    )
    for name in model.tensors:
        if not is_matrix(name):
            size += round_up(math.prod(model.spec.shape(name)) * 4, ALIGNMENT)
    return size + sum(len(blob) for blob in (model.tokenizer, model.chat_template) if blob is not None)


def attach(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, bytes] | None = None) -> None:
    """Adds metadata members, and tensors of raw bytes at the end, to a package already written, without
    moving its weights.

    Raises InvalidFile when the file is no package or its header has no room left.
    """
    header, header_bytes = read_header(path)
    members = decode_metadata(header.pop("__metadata__"))
    shapes = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}
    added = {name: _padded_bytes(blob) for name, blob in (tensors or {}).items()}
    if added.keys() & shapes.keys():
        raise InvalidFile(f"{path} already has {', '.join(added.keys() & shapes.keys())}")
    shapes |= {name: ("U8", [blob.size]) for name, blob in added.items()}
    members.update(metadata)
    members["sha256"] |= {name: hashlib.sha256(blob.data).hexdigest() for name, blob in added.items()}
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        for blob in added.values():
            file.write(blob.data)
        file.seek(0)
        file.write(_header(members, _offsets(shapes), total=header_bytes))
        file.flush()
        os.fsync(file.fileno())


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The safetensors header of a package and the offset of its data. Raises InvalidFile."""
    if path.is_dir():
        raise InvalidFile(
            f"{path} is a directory, not an .edge file",
            hint=f"a checkpoint is converted first: edgekit convert {path}",
        )
    with path.open("rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= size <= min(1 << 26, path.stat().st_size):
            raise InvalidFile(f"{path}: no safetensors header; is it an .edge file?")
        try:
            header = json.loads(file.read(size))
            known = header["__metadata__"]["format"] == "edge"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidFile(f"{path}: not an .edge file: {error}") from None
    if not known:
        raise InvalidFile(f"{path}: a safetensors file, but its metadata do not say format 'edge'")
    return header, 8 + size


def decode_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Metadata members as values: those that are JSON documents parsed, `format`, `version` and `scheme` as
    text.
    """
    plain = {"format", "version", "scheme"}
    return {name: text if name in plain else json.loads(text) for name, text in metadata.items()}


class Package:
    """An `.edge` file read back in Python: the encoder's own check, and the weights the numpy reference
    computes with.
    """

    def __init__(self, path: Path) -> None:
        header, self._data = read_header(path)
        self.path = path
        self.metadata = decode_metadata(header.pop("__metadata__"))
        self.spec = ModelSpec.from_json(self.metadata["spec"])
        self.entries: dict[str, Any] = header

    def bytes_of(self, name: str) -> U8:
        """The stored bytes of a tensor."""
        first, last = self.entries[name]["data_offsets"]
        return np.memmap(self.path, np.uint8, "r", self._data + first, (last - first,))

    def layout(self, name: str) -> str:
        """Of a tensor of the spec; vectors are float32."""
        return str(self.metadata["matrices"].get(name, {"layout": "f32"})["layout"])

    def load(self, name: str, rows: tuple[int, int] | None = None) -> F32 | None:
        """A tensor of the spec (or some of its rows), dequantized; None when the package has none of that
        name.
        """
        if name not in self.entries:
            return None
        stored = self.bytes_of(name)
        matrix = self.metadata["matrices"].get(name)
        if matrix is None:
            shape = self.spec.shape(name)
            values = np.array(stored).view("<f4")[: math.prod(shape)].reshape(shape)
            return values if rows is None else values[slice(*rows)]
        n, k = matrix["shape"]
        if name in TABLES:
            rows = (TILE_ROWS * rows[0], TILE_ROWS * rows[1]) if rows else None
        first, last = rows or (0, n)
        tile = first // TILE_ROWS
        tiles = stored.reshape(self.entries[name]["shape"])[tile : -(-last // TILE_ROWS)]
        grid = GRIDS[matrix["layout"]]
        values = grid.restore(grid.unpack(tiles, k))[first - tile * TILE_ROWS : last - tile * TILE_ROWS]
        return values.reshape(-1, k * TILE_ROWS) if name in TABLES else values


def holds(path: Path) -> bool:
    return path.suffix == SUFFIX


def read_back(path: Path, spec: ModelSpec | None = None) -> Output:
    package = Package(path)
    tokenizer = package.bytes_of("tokenizer").tobytes() if "tokenizer" in package.entries else None
    return Output(
        package.metadata["scheme"],
        spec or package.spec,
        package.spec,
        package.load,
        lambda name: package.layout(name).partition("_")[0],
        not any(package.layout(name).startswith("q") for name in package.spec.matrices()),
        tokenizer,
    )


def _exact(model: ConvertInput, name: str, grid: Grid) -> TileGrid:
    """float16 where it keeps what the checkpoint has, else bfloat16."""
    if grid.name != "f16":
        return GRIDS[grid.name]
    loaded = (model.load(name, rows) for rows in _slabs(*model.spec.shape(name)))
    return GRIDS["f16" if all(rows is not None and dense.fits_f16(rows) for rows in loaded) else "bf16"]


def _blocks(
    model: ConvertInput,
    name: str,
    chosen: Mapping[str, TileGrid],
    vectors: Mapping[str, F32],
    blobs: Mapping[str, U8],
    encoders: Mapping[str, Encoder],
) -> Iterator[U8]:
    if name in blobs:
        yield blobs[name]
    elif name in vectors:
        yield vectors[name].astype("<f4").view(np.uint8)
    else:
        grid = chosen[name]
        encode, importance = encoders.get(grid.name), model.importance(name)

        def packed(rows: tuple[int, int]) -> U8:
            given = None if name in TABLES else model.given(name, grid, rows)
            if given is None:
                values = _rows(model, name, rows)
                if encode is not None:
                    return encode(padded_rows(values), importance).reshape(-1)
                given = grid.quantize(values, importance)
            (tiles,) = grid.pack(given)
            return tiles.reshape(-1)

        yield from in_order(packed, _slabs(*stored_shape(model.spec, name)))


def _rows(model: ConvertInput, name: str, rows: tuple[int, int]) -> F32:
    """Rows of a matrix as the file has them."""
    of_one = TILE_ROWS if name in TABLES else 1
    values = model.load(name, (rows[0] // of_one, rows[1] // of_one))
    assert values is not None
    return values.reshape(rows[1] - rows[0], -1)


def _slabs(n: int, k: int) -> list[tuple[int, int]]:
    """`[first, last)` of the rows that are packed at a time: whole tiles."""
    rows = round_up(max(1, _SLAB_WEIGHTS // k), TILE_ROWS)
    return [(first, min(first + rows, n)) for first in range(0, n, rows)]


def _padded_bytes(blob: bytes) -> U8:
    return np.frombuffer(blob + bytes(-len(blob) % ALIGNMENT), np.uint8)


def _offsets(shapes: Mapping[str, tuple[str, list[int]]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        size = int(np.prod(shape, dtype=np.int64)) * (4 if dtype == "F32" else 1)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return entries


def _header(
    metadata: Mapping[str, Any], entries: Mapping[str, Any], *, reserve: int = 0, total: int | None = None
) -> bytes:
    """The header, space-padded so that data begin on a multiple of 64 (or at `total`)."""
    text = {name: value if isinstance(value, str) else _compact(value) for name, value in metadata.items()}
    header = _compact({"__metadata__": text, **entries}).encode()
    end = total if total is not None else round_up(8 + len(header) + reserve, ALIGNMENT)
    if 8 + len(header) > end:
        raise InvalidFile(f"the package's header has room for {end - 8} bytes, {len(header)} are needed")
    return struct.pack("<Q", end - 8) + header.ljust(end - 8)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
