"""GGUF: one file that llama.cpp runs (docs/formats.md), written with the `gguf` package.

Rows of q and k are reordered where llama.cpp rotates neighbours; scales it has no key for are folded into
weights.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import models
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output, _gguf_tokenizer
from edgekit.converters.formats._gguf_architecture import (
    BARE,
    Architecture,
    architecture,
    computed,
    file_name,
    metadata,
    query_scale,
    rope_tensors,
)
from edgekit.converters.formats._parallel import in_order, row_slabs
from edgekit.converters.quant import ggml
from edgekit.converters.quant.dense import Dense, narrowed
from edgekit.converters.quant.grid import Fitted, Grid, Parameters
from edgekit.converters.quant.k_quants import SUPER
from edgekit.converters.spec import MATRICES, ModelSpec
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import UnsupportedModel, UsageError

SUFFIX = ".gguf"
BACKEND = "llama_cpp"
# scheme -> (type of the matrices, type of the output matrix), in ggml's words
TYPES = {
    "q4_0": ("Q4_0", "Q8_0"),
    "q8_0": ("Q8_0", "Q8_0"),
    "q4_1": ("Q4_1", "Q8_0"),
    "q5_0": ("Q5_0", "Q8_0"),
    "q5_1": ("Q5_1", "Q8_0"),
    "q4_k": ("Q4_K", "Q6_K"),
    "q5_k": ("Q5_K", "Q6_K"),
    "q6_k": ("Q6_K", "Q6_K"),
    "f16": ("F16", "F16"),
    "bf16": ("BF16", "BF16"),
    "f32": ("F32", "F32"),
}
TYPES |= {"q4": TYPES["q4_0"], "q8": TYPES["q8_0"], "mix": TYPES["q5_k"]}
# What rows that are no whole super-blocks have instead, as in llama.cpp.
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
# Of a mix, and of one with such rows.
MIXES = (("Q4_K", "Q5_K", "Q6_K", "Q8_0"), ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"))
FILE_TYPES = {"Q4_K": "MOSTLY_Q4_K_S", "Q5_K": "MOSTLY_Q5_K_S", "F32": "ALL_F32"}
SCHEMES = tuple(TYPES)


@dataclass
class Tensor:
    """A tensor of the file: rows of the spec's tensors `names`, one below another, `[*outer, k]`."""

    names: list[str] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    grid: Grid = field(default_factory=lambda: Dense("F32"))
    values: NDArray[np.float32] | None = None  # instead of names

    @property
    def type(self) -> str:
        """In ggml's words."""
        return str(self.grid).upper()


def write(model: ConvertInput, path: Path, scheme: str = SCHEMES[0], progress: Progress = silent) -> None:
    """Writes `model` as a GGUF file, one tensor of the file in memory at a time.

    Raises UsageError for an unknown scheme or when `gguf` is not installed, UnsupportedModel for what
    llama.cpp has no place for.
    """
    arch, found, writer = _begun(model, path, scheme)
    for done, tensor in enumerate(found.values(), 1):
        writer.write_tensor_data(_data(model, arch, tensor))
        progress("writing tensors", done, len(found))
    writer.fout[0].flush()
    os.fsync(writer.fout[0].fileno())
    writer.close()


def size_bytes(model: ConvertInput, scheme: str) -> int:
    """Bytes of the file that `write` would write."""
    with tempfile.TemporaryDirectory(prefix="edgekit-gguf-") as directory:
        path = Path(directory) / "header.gguf"
        _, found, writer = _begun(model, path, scheme)
        writer.close()
        align = int(writer.data_alignment)
        return _aligned(path.stat().st_size, align) + sum(
            _aligned(_size_bytes(t), align) for t in found.values()
        )


def cache_bytes(model: ConvertInput, scheme: str, tokens: int) -> int:
    """Keys and values in llama.cpp, as float16."""
    return computed(model.spec).cache_numbers(tokens) * 2


def grids(model: ConvertInput, scheme: str) -> dict[str, Grid]:
    """Of each matrix."""
    found = tensors(model, architecture(model), scheme)
    return {name: tensor.grid for tensor in found.values() for name in tensor.names}


def mixed(model: ConvertInput) -> tuple[Grid, ...]:
    coded = [name for name, grid in grids(model, "mix").items() if not isinstance(grid, Dense)]
    whole = all(model.spec.shape(name)[1] % SUPER == 0 for name in coded)
    return tuple(map(ggml.named, MIXES[not whole]))


def _begun(model: ConvertInput, path: Path, scheme: str) -> tuple[Architecture, dict[str, Tensor], Any]:
    """The architecture, the tensors, and the writer of a file that lacks nothing but their data."""
    if scheme not in TYPES:
        raise UsageError(f"scheme {scheme!r} is not one GGUF has; choose from {', '.join(SCHEMES)}")
    try:
        import gguf
    except ImportError:
        raise UsageError("--format gguf needs the gguf package", hint="pip install 'edgekit[gguf]'") from None

    arch = architecture(model)
    keys = metadata(model, arch)
    words = _gguf_tokenizer.metadata(model)
    found = tensors(model, arch, scheme)
    writer = gguf.GGUFWriter(path, arch.name)
    writer.add_type("model")
    name = str(model.metadata.get("source", {}).get("name", model.spec.model_type))
    writer.add_name(_gguf_tokenizer.model_name(name, words))
    if license := model.metadata.get("source", {}).get("license"):
        writer.add_license(license)
    body = TYPES[scheme][0]
    kind = "GUESSED" if scheme == "mix" else FILE_TYPES.get(body, f"MOSTLY_{body}")
    writer.add_file_type(gguf.LlamaFileType[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in keys.items():
        _add(writer, f"{arch.name}.{key}", value)
    for key, value in words.items():
        _add(writer, f"tokenizer.{key}", value)
    for name, tensor in found.items():
        kind = gguf.GGMLQuantizationType[tensor.type]
        writer.add_tensor_info(name, tensor.shape, np.float32, _size_bytes(tensor), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return arch, found, writer


def holds(path: Path) -> bool:
    return path.suffix == SUFFIX


def read_back(path: Path, spec: ModelSpec | None = None) -> Output:
    """With `spec` the queries come without the scale that was folded into them."""
    from edgekit.converters.sources.gguf import GgufCheckpoint

    checkpoint = GgufCheckpoint(path)
    model = models.open_model(checkpoint)
    scale = 1.0 if spec is None else query_scale(spec, checkpoint.architecture)
    told = computed(model.spec)
    told = dataclasses.replace(told, attn_scale=told.attn_scale * scale)
    compiled = compile_tokenizer(checkpoint.path)

    def load(name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        values = model.load(name, rows)
        folded = values is not None and name.rsplit(".", 1)[-1] in _scaled(told)
        return values / np.float32(scale) if folded and values is not None else values

    def layout(name: str) -> str:
        return checkpoint.type_of(name).partition("_")[0].lower()

    return Output(
        next(
            checkpoint.type_of(name).lower() for name in model.tensors if name.endswith((".down", ".state_o"))
        ),
        told if spec is None else computed(spec),
        told,
        load,
        layout,
        # llama.cpp's GELU is a table of float16.
        not told.activation.startswith("gelu") and all(layout(name) == "f32" for name in told.matrices()),
        compiled.blob if compiled else None,
    )


def tensors(model: ConvertInput, arch: Architecture, scheme: str) -> dict[str, Tensor]:
    """The tensors of the file by llama.cpp's names, in the order of the layers."""
    matrix, output = TYPES[scheme]
    found: dict[str, Tensor] = {
        name: Tensor(shape=values.shape, values=values)
        for name, values in rope_tensors(model.spec, arch).items()
    }
    for name in model.tensors:
        head, _, rest = name.partition(".")
        kind = "bias" if name.endswith("_bias") else "weight"
        part = name.rsplit(".", 1)[-1].removesuffix("_bias")
        if head != "layers":
            theirs = f"{arch.outer[part]}.{kind}"
        else:
            theirs = f"blk.{rest.split('.')[0]}.{file_name(part, kind, arch, '.experts.' in name)}"
        tensor = found.setdefault(theirs, Tensor())
        tensor.names.append(name)
        k = model.spec.shape(name)[-1]
        if kind == "weight" and part in MATRICES - {"router"}:
            widest = part == "head" or (part == "embed" and model.spec.tied)
            tensor.grid = _grid(output if widest else matrix, k)
    for theirs, tensor in found.items():
        if tensor.names:
            shapes = [model.spec.shape(name) for name in tensor.names]
            rows = sum(shape[0] for shape in shapes)
            tensor.shape = (rows, *shapes[0][1:])
            if "_exps." in theirs:
                tensor.shape = (len(shapes), rows // len(shapes), *shapes[0][1:])
            if arch.recurrent == "mamba" and theirs.startswith("blk."):
                tensor.shape = _apart(model.spec, tensor)
            tensor.grid = model.grid_of_all(tensor.names, tensor.grid)
    return found


def _apart(spec: ModelSpec, tensor: Tensor) -> tuple[int, ...]:
    """Mamba-2's heads and groups in rows of their own."""
    *_, layer, part = tensor.names[0].split(".")
    if part in BARE:
        return (*tensor.shape, 1)
    if part != "state_scale":
        return tensor.shape
    state = spec.layers[int(layer)].recurrence
    assert state is not None
    return (state.n_key_heads, tensor.shape[0] // state.n_key_heads)


def _data(model: ConvertInput, arch: Architecture, tensor: Tensor) -> NDArray[np.uint8]:
    if tensor.values is not None:
        return tensor.values.view(np.uint8)

    def packed(slab: tuple[str, int, int]) -> NDArray[np.uint8]:
        if isinstance(tensor.grid, Dense):
            stored = narrowed(_rows(model, arch, *slab), tensor.grid.dtype)
        else:
            (stored,) = tensor.grid.pack(_fitted(model, arch, tensor.grid, *slab))
        return np.ascontiguousarray(stored).view(np.uint8).reshape(-1)

    data = np.empty(_size_bytes(tensor), np.uint8)
    at = 0
    for block in in_order(packed, _slabs(model, tensor)):
        data[at : at + block.size] = block
        at += block.size
    return data


def _slabs(model: ConvertInput, tensor: Tensor) -> Iterator[tuple[str, int, int]]:
    if tensor.names[-1].endswith(".attn_gate"):  # a head's queries and its gate by turns
        layer = model.spec.layers[int(tensor.names[0].split(".")[1])]
        for head in range(layer.n_heads):
            for name in tensor.names:
                yield name, head * layer.head_dim, (head + 1) * layer.head_dim
        return
    for name in tensor.names:
        shape = model.spec.shape(name)
        slabs = (
            row_slabs(*shape)
            if len(shape) == 2 and ".q" not in name and ".k" not in name
            else [(0, shape[0])]
        )
        for first, last in slabs:
            yield name, first, last


def _rows(model: ConvertInput, arch: Architecture, name: str, first: int, last: int) -> NDArray[np.float32]:
    shape = model.spec.shape(name)
    values = model.load(name, None if (first, last) == (0, shape[0]) else (first, last))
    if values is None:
        raise UnsupportedModel(f"the checkpoint has no tensor {name!r}")
    values = _ordered(model, arch, name, values)
    if name.endswith(".state_a"):
        values = -np.exp(values)
    if name.rsplit(".", 1)[-1] in _scaled(model.spec):
        values = values * np.float32(query_scale(model.spec, arch))
    return values


def _scaled(spec: ModelSpec) -> tuple[str, ...]:
    """The parts into which `query_scale` is folded."""
    return ("q_norm",) if spec.qk_norm != "none" else ("q", "q_bias")


def _fitted(model: ConvertInput, arch: Architecture, grid: Grid, name: str, first: int, last: int) -> Fitted:
    found = model.fitted(name, grid, (first, last))
    ordered = Fitted(
        _ordered(model, arch, name, found.codes),
        Parameters(tuple(_ordered(model, arch, name, each) for each in found.parameters.groups)),
    )
    if name.rsplit(".", 1)[-1] in _scaled(model.spec):
        factors = np.full(ordered.parameters.groups[0].shape, query_scale(model.spec, arch), np.float32)
        parameters = grid.rescaled(ordered.parameters, factors)
        assert parameters is not None
        ordered = Fitted(ordered.codes, parameters)
    return ordered


def _grid(kind: str, k: int) -> Grid:
    """Of a type, in ggml's words, for rows of `k` columns."""
    if kind not in ggml.LAYOUTS:
        return Dense(kind)
    grid = ggml.named(kind)
    if k % grid.span == 0:
        return grid
    return _grid(FALLBACK.get(kind, "F16"), k)


def _ordered(model: ConvertInput, arch: Architecture, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Rows of q and k where llama.cpp rotates neighbours."""
    if name.rsplit(".", 1)[-1] in ("q", "k", "q_bias", "k_bias") and arch.pairs:
        layer = model.spec.layers[int(name.split(".")[1])]
        if layer.rope is not None and model.spec.ropes[layer.rope].dim != layer.head_dim:
            raise UnsupportedModel(
                f"llama.cpp's {arch.name} rotates whole heads, this checkpoint a part of them"
            )
        halves = values.reshape(-1, 2, layer.head_dim // 2, *values.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
    return values


def _size_bytes(tensor: Tensor) -> int:
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[tensor.type]]
    return int(np.prod(tensor.shape, dtype=np.int64)) // int(block) * int(size)


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
