"""MLX: a directory that mlx-lm loads (docs/formats.md).

Tensors keep Hugging Face's names; a quantized matrix is `<path>.weight` (packed codes, uint32),
`<path>.scales` and, for affine groups, `<path>.biases`. Experts of a layer are one tensor, `switch_mlp`.
Written in one pass over the checkpoint, without MLX itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import models
from edgekit.converters.checkpoint_files import copy_files, write_card, write_json
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output, _mlx_config
from edgekit.converters.formats._parallel import in_order, row_slabs
from edgekit.converters.models._standard import TAPS
from edgekit.converters.quant import affine
from edgekit.converters.quant.affine import Affine
from edgekit.converters.quant.dense import Dense, narrowed
from edgekit.converters.quant.grid import Grid
from edgekit.converters.quant.microscaling import Microscaling
from edgekit.converters.spec import MATRICES, ModelSpec, Source
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import UsageError

SUFFIX = ""
BACKEND = "mlx"
SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Scheme:
    """What a matrix becomes. `mode` is MLX's word, "" for plain floats of type `dtype` (None: the
    checkpoint's).
    """

    mode: str = ""
    bits: int = 16
    group: int = 0
    dtype: str | None = None

    @property
    def grid(self) -> Grid:
        assert self.dtype is not None
        if self.mode == "affine":
            return Affine(self.bits, self.group, self.dtype)
        return Microscaling(self.mode) if self.mode else Dense(self.dtype)


SCHEME_OF_NAME: dict[str, Scheme] = {
    "q4": Scheme("affine", 4, 64),
    **{f"q{bits}": Scheme("affine", bits, 64) for bits in (8, 6, 5, 3, 2)},
    **{f"q{bits}_g{group}": Scheme("affine", bits, group) for bits in affine.BITS for group in affine.GROUPS},
    "mxfp4": Scheme("mxfp4", 4, 32),
    "mxfp8": Scheme("mxfp8", 8, 32),
    "nvfp4": Scheme("nvfp4", 4, 16),
    "f16": Scheme(dtype="F16"),
    "bf16": Scheme(dtype="BF16"),
    "f32": Scheme(dtype="F32"),
    "mix": Scheme("affine", 4, 64),
}
MIX_BITS = (3, 4, 5, 6, 8)
SCHEMES = tuple(SCHEME_OF_NAME)

# The last part of the spec's names: what mlx-lm can quantize. Routers are small and sensitive.
QUANTIZED = MATRICES - {"router", "shared_gate"}
FULL = ("A_log", "e_score_correction_bias")  # tensors that mlx-lm keeps in float32
# What nemotron_h's file calls the matrices of its experts.
EXPERTS = {"up_proj": "fc1", "down_proj": "fc2"}

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U32": 4, "U8": 1}
Block = NDArray[Any]
Slab = tuple[str, Source, int, int]  # a matrix of the spec, and rows of it


@dataclass(frozen=True)
class Tensor:
    """A tensor as mlx-lm names it: `parts` one below another are its rows `[n, k]`, `shape` how they are
    stored.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, Source, int], ...]  # the spec's name of each, and the number of its rows
    matrix: bool

    @property
    def path(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def n(self) -> int:
        return sum(rows for _, _, rows in self.parts)

    @property
    def k(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) // self.n


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its bytes come from `blocks`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[Block]]

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * ITEM_BYTES[self.dtype]


def write(model: ConvertInput, path: Path, scheme: str = SCHEMES[0], progress: Progress = silent) -> None:
    """Writes `model` as an MLX directory; memory stays at a few slabs of rows and the scales of one matrix.

    Raises UsageError for an unknown scheme, UnsupportedModel for what mlx-lm has no maths for, InvalidFile
    when the checkpoint cannot be read.
    """
    chosen = _scheme(model, scheme)
    path.mkdir(parents=True)
    copy_files(model, path)
    found = tensors(model)
    write_json(path / "config.json", config(model, chosen, found))
    _write_shards(path, [list(_entries(model, t, chosen)) for t in found], progress)
    use = 'mlx_lm.generate --model THIS_DIRECTORY --prompt "Hello"'
    write_card(model, path, "mlx", scheme, use, _mlx_config.notes(model.spec))


def _scheme(model: ConvertInput, name: str) -> Scheme:
    if name not in SCHEME_OF_NAME:
        raise UsageError(f"scheme {name!r} is not one MLX has; choose from {', '.join(SCHEMES)}")
    _mlx_config.refuse(model)
    chosen = SCHEME_OF_NAME[name]
    if chosen.dtype is None:
        stored = model.checkpoint.info(model.tensors["embed"].name)[0]
        chosen = dataclasses.replace(chosen, dtype=stored if stored in ("F16", "BF16") else "F32")
    return chosen


def holds(path: Path) -> bool:
    return path.is_dir() and (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def read_back(path: Path, spec: ModelSpec | None = None) -> Output:
    from edgekit.converters.sources.mlx import MlxCheckpoint

    checkpoint = MlxCheckpoint(path)
    model = models.open_model(checkpoint)
    compiled = compile_tokenizer(path)

    def layout(name: str) -> str:
        theirs = model.tensors[name].name
        coded = checkpoint.layout(theirs)
        return f"q{coded.bits}" if coded else checkpoint.info(theirs)[0].lower()

    return Output(
        _scheme_name(checkpoint.quantization) or layout("embed"),
        _mlx_config.computed(spec or model.spec),
        _mlx_config.computed(model.spec),
        model.load,
        layout,
        True,
        compiled.blob if compiled else None,
    )


def _scheme_name(quantization: dict[str, Any]) -> str:
    """Of a directory's config; "" for floats."""
    words = (quantization.get("mode", "affine"), quantization.get("bits"), quantization.get("group_size"))
    return next(
        (name for name, s in SCHEME_OF_NAME.items() if s.mode and (s.mode, s.bits, s.group) == words), ""
    )


def size_bytes(model: ConvertInput, scheme: str) -> int:
    """Bytes of the weights that `write` would write, without the small files beside them."""
    chosen = _scheme(model, scheme)
    return sum(entry.size_bytes for tensor in tensors(model) for entry in _entries(model, tensor, chosen))


def cache_bytes(model: ConvertInput, scheme: str, tokens: int) -> int:
    """Keys and values in mlx-lm, of the type of the weights' floats."""
    numbers = _mlx_config.computed(model.spec).cache_numbers(tokens)
    return numbers * ITEM_BYTES[str(_scheme(model, scheme).dtype)]


def grids(model: ConvertInput, scheme: str) -> dict[str, Grid]:
    """Of each matrix."""
    chosen = _scheme(model, scheme)
    return {name: _grid(model, tensor, chosen) for tensor in tensors(model) for name, _, _ in tensor.parts}


def mixed(model: ConvertInput) -> tuple[Grid, ...]:
    chosen = _scheme(model, "mix")
    return tuple(dataclasses.replace(chosen, bits=bits).grid for bits in MIX_BITS)


def _grid(model: ConvertInput, tensor: Tensor, scheme: Scheme) -> Grid:
    """That of the checkpoint's own codes where all parts of a matrix have such, and they can stay."""
    plain = Dense(str(scheme.dtype))
    if not tensor.matrix:
        return plain
    grid = model.grid_of_all([name for name, _, _ in tensor.parts], scheme.grid)
    return plain if grid.group and tensor.k % grid.group else grid


def config(model: ConvertInput, scheme: Scheme, tensors: list[Tensor]) -> dict[str, Any]:
    """config.json, with the type of the floats and the quantization."""
    values = _mlx_config.config(model)
    values["torch_dtype"] = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}[str(scheme.dtype)]
    if scheme.mode:

        def words(grid: Grid) -> dict[str, Any]:
            mode = grid.name if isinstance(grid, Microscaling) else "affine"
            return {"group_size": grid.group, "bits": grid.bits, "mode": mode}

        quantization = words(scheme.grid)
        for tensor in tensors:
            grid = _grid(model, tensor, scheme)
            if not isinstance(grid, Dense) and grid != scheme.grid:
                quantization[tensor.path] = words(grid)
        values |= {"quantization": quantization, "quantization_config": quantization}
    return values


def tensors(model: ConvertInput) -> list[Tensor]:
    """The model's tensors under mlx-lm's names, in the order of the layers."""
    canonical, family = models.load(model.checkpoint.config).tensors, model.spec.model_type
    found: dict[str, list[tuple[str, Source]]] = {}
    for name, source in canonical.items():
        here = model.tensors[name]
        if family not in _mlx_config.WHOLE_NORMS:
            here = dataclasses.replace(here, add=0.0)
        if source.stack:  # one norm for each head: vectors of their own
            for theirs, ours in zip((source.name, *source.stack), (here.name, *here.stack), strict=True):
                found.setdefault(theirs, []).append((name, Source(ours)))
        else:
            theirs = re.sub(r"\.experts\.\d+\.", ".switch_mlp.", source.name)
            if family == "nemotron_h" and ".switch_mlp." in theirs:
                theirs = re.sub(r"\w+_proj", lambda found: EXPERTS[found[0]], theirs)
            found.setdefault(theirs, []).append((name, here))
    return [_tensor(model, theirs, parts) for theirs, parts in found.items()]


def _tensor(model: ConvertInput, theirs: str, parts: list[tuple[str, Source]]) -> Tensor:
    shapes = [
        model.checkpoint.info(s.name)[1] if "norms" in theirs else model.spec.shape(n) for n, s in parts
    ]
    rows = sum(shape[0] for shape in shapes)
    shape: tuple[int, ...] = (rows, *shapes[0][1:])
    if ".switch_mlp." in theirs:
        shape = (len(parts), rows // len(parts), *shape[1:])
    part = parts[0][0].rsplit(".", 1)[-1]
    if part in TAPS:  # depthwise taps: MLX keeps channels last
        shape = (*shape, 1)
    sources = tuple((ours, source, s[0]) for (ours, source), s in zip(parts, shapes, strict=True))
    return Tensor(theirs, shape, sources, part in QUANTIZED)


def _entries(model: ConvertInput, tensor: Tensor, scheme: Scheme) -> Iterator[Entry]:
    name, grid = tensor.name, _grid(model, tensor, scheme)
    dtype = "F32" if name.endswith(FULL) else str(scheme.dtype)
    if isinstance(grid, Dense):

        def plain(slab: Slab) -> Block:
            return narrowed(_rows(model, slab), dtype)

        yield Entry(name, dtype, tensor.shape, lambda: in_order(plain, _slabs(tensor)))
        return
    *outer, k = tensor.shape
    beside_codes: list[list[Block]] = []  # emptied as it is written

    def weight() -> Iterator[Block]:
        def packed(slab: Slab) -> tuple[Block, ...]:
            name, _, *rows = slab
            return grid.pack(model.fitted(name, grid, (rows[0], rows[1])))

        for codes, *rest in in_order(packed, _slabs(tensor)):
            beside_codes.append(rest)
            yield codes

    def beside() -> Iterator[Block]:  # the next kind of what lies beside the codes
        return (rest.pop(0) for rest in beside_codes)

    yield Entry(name, "U32", (*outer, k * grid.bits // 32), weight)
    groups = (*outer, k // grid.group)
    if isinstance(grid, Affine):
        yield Entry(f"{tensor.path}.scales", dtype, groups, beside)
        yield Entry(f"{tensor.path}.biases", dtype, groups, beside)
    else:
        yield Entry(f"{tensor.path}.scales", "U8", groups, beside)


def _slabs(tensor: Tensor) -> Iterator[Slab]:
    if len(tensor.parts) > 1 and all(source.order for _, source, _ in tensor.parts):  # by turns
        for turn in range(tensor.n // tensor.parts[0][1].period):
            for name, source, _ in tensor.parts:
                yield name, source, turn * len(source.order), (turn + 1) * len(source.order)
        return
    for name, source, rows in tensor.parts:
        if source.shape is not None:  # small, and its rows are not those of the checkpoint's tensor
            yield name, source, 0, rows
        else:
            for first, last in row_slabs(rows, tensor.k):
                yield name, source, first, last


def _rows(model: ConvertInput, slab: Slab) -> NDArray[np.float32]:
    """As MLX has them: without what the family adds to a norm's gains."""
    _, source, first, last = slab
    if source.shape is None:
        begin = source.rows[0] if source.rows else 0
        source = dataclasses.replace(source, rows=(begin + first, begin + last))
    return model.checkpoint.source(source).reshape(last - first, -1)


def _write_shards(path: Path, groups: list[list[Entry]], progress: Progress) -> None:
    """safetensors files of at most `SHARD_BYTES` (a matrix and its scales stay together), and their index."""
    shards: list[list[Entry]] = [[]]
    size = 0
    for group in groups:
        added = sum(entry.size_bytes for entry in group)
        if shards[-1] and size + added > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1] += group
        size += added
    for shard in shards:  # what would misalign those after it comes last
        shard.sort(key=lambda entry: 5 - ITEM_BYTES[entry.dtype] if entry.size_bytes % 4 else 0)
    total = sum(len(shard) for shard in shards)
    done = 0
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = (
            "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        )
        with (path / name).open("wb") as file:
            file.write(_header(shard))
            for entry in shard:
                for block in entry.blocks():
                    file.write(np.ascontiguousarray(block).data)
                weight_map[entry.name] = name
                done += 1
                progress("writing tensors", done, total)
            file.flush()
            os.fsync(file.fileno())
    metadata = {"total_size": sum(entry.size_bytes for shard in shards for entry in shard)}
    write_json(path / "model.safetensors.index.json", {"metadata": metadata, "weight_map": weight_map})


def _header(entries: list[Entry]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    offset = 0
    for entry in entries:
        end = offset + entry.size_bytes
        header[entry.name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
