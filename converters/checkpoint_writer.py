"""Writes what `checkpoint.py` reads: config.json and safetensors files, one block of a tensor in memory."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import INDEX, RAW_TYPES, SINGLE
from edgekit.converters.checkpoint_files import write_json
from edgekit.converters.convert import Progress, silent
from edgekit.converters.quant import dense
from edgekit.errors import IoFailure

SHARD_BYTES = 2_000_000_000
TORCH_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Tensor:
    """Its type, one of TORCH_TYPES, its shape, and what gives its bits in order."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[NDArray[Any]]]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(RAW_TYPES[self.dtype]).itemsize


def bits(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Values as they are stored, rounded to the nearest."""
    return dense.to_bf16(values) if dtype == "BF16" else values.astype(RAW_TYPES[dtype])


def write(
    directory: Path, config: dict[str, Any], tensors: Mapping[str, Tensor], progress: Progress = silent
) -> None:
    """Into a directory that is there: files of at most SHARD_BYTES each, and their index when they are
    several. Raises IoFailure when the disk has no room for them.
    """
    total = sum(tensor.size_bytes for tensor in tensors.values())
    free = shutil.disk_usage(directory).free
    if free < total:
        raise IoFailure(
            f"{directory.parent}: the checkpoint takes {total} bytes, {free} are free", hint="free some space"
        )
    shards = _shards(tensors)
    files = [SINGLE] if len(shards) == 1 else [
        f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))
    ]  # fmt: skip
    done = 0
    for names, file in zip(shards, files, strict=True):
        with (directory / file).open("wb") as stream:
            stream.write(_header({name: tensors[name] for name in names}))
            for name in names:
                for block in tensors[name].blocks():
                    stream.write(np.ascontiguousarray(block).data)
                    done += block.nbytes
                    progress("writing weights", done, total)
            stream.flush()
            os.fsync(stream.fileno())
    if len(shards) > 1:
        weight_map = {name: file for names, file in zip(shards, files, strict=True) for name in names}
        write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    dtype = TORCH_TYPES[next(iter(tensors.values())).dtype]
    members = {key: value for key, value in config.items() if key != "dtype"}  # Transformers 5's word for it
    write_json(directory / "config.json", members | {"torch_dtype": dtype})


def _shards(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Names in order, a new shard where the next tensor would not fit."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, tensor in tensors.items():
        if shards[-1] and used + tensor.size_bytes > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += tensor.size_bytes
    return shards


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.size_bytes
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
