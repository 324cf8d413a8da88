"""Checkpoints with a real model's shape and random weights: speed and memory depend on the shape alone.

Weights are Gaussian with variance 1 / d_in, norms near 1, so activations keep a plausible size through the
layers.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import models
from edgekit.converters.checkpoint import INDEX, SINGLE
from edgekit.converters.convert import Progress, silent
from edgekit.errors import IoFailure, UsageError
from edgekit.in_place_of import in_place_of

SHARD_BYTES = 2_000_000_000
BLOCK = 1 << 22  # values in memory at once


def synth(config: dict[str, Any], out: Path, seed: int = 0, progress: Progress = silent) -> None:
    """Write the directory `out`: config.json and bfloat16 safetensors of at most 2 GB each, one after
    another.

    The same config and seed give the same bytes. Raises what `models.load` raises; UsageError when `out`
    holds files, IoFailure when the disk has no room; nothing is left at `out` then.
    """
    shapes = _shapes(models.load(config))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty directory", hint="choose another place")
    total = 2 * sum(math.prod(shape) for shape, _ in shapes.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < total:
        raise IoFailure(f"{out}: the checkpoint takes {total} bytes, {free} are free", hint="free some space")
    with in_place_of(out) as partial:
        partial.mkdir()
        _write(config, shapes, partial, seed, progress)


def _shapes(family: models.Family) -> dict[str, tuple[tuple[int, ...], float]]:
    """Hugging Face's name of each tensor -> its shape, and its mean."""
    shapes: dict[str, tuple[tuple[int, ...], float]] = {}
    for name, where in family.tensors.items():
        rows, *rest = family.spec.shape(name)
        mean = 1.0 - where.add if name.endswith("norm") else 0.0
        if name.endswith(".conv"):  # Conv1d keeps an axis for the channels of its only group
            rest.insert(0, 1)
        if where.shape and name.endswith("norm"):  # a tensor for each head
            shapes |= dict.fromkeys((where.name, *where.stack), (tuple(rest), mean))
        else:
            shapes[where.name] = ((where.rows[1] if where.rows else rows, *rest), mean)
    return shapes


def _write(
    config: dict[str, Any],
    shapes: dict[str, tuple[tuple[int, ...], float]],
    directory: Path,
    seed: int,
    progress: Progress,
) -> None:
    shards = _shards({name: 2 * math.prod(shape) for name, (shape, _) in shapes.items()})
    files = [SINGLE] if len(shards) == 1 else [
        f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))
    ]  # fmt: skip
    total = sum(math.prod(shape) for shape, _ in shapes.values())
    done = 0
    random = np.random.Generator(np.random.SFC64(seed))
    for names, file in zip(shards, files, strict=True):
        with (directory / file).open("wb") as stream:
            stream.write(_header({name: shapes[name][0] for name in names}))
            for name in names:
                for block in _values(random, *shapes[name]):
                    stream.write(block.data)
                    done += block.size
                    progress("writing weights", done, total)
    if len(shards) > 1:
        weight_map = {name: file for names, file in zip(shards, files, strict=True) for name in names}
        index = {"metadata": {"total_size": 2 * total}, "weight_map": weight_map}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (directory / "config.json").write_text(json.dumps(config | {"torch_dtype": "bfloat16"}, indent=2) + "\n")


def _shards(sizes: dict[str, int]) -> list[list[str]]:
    """Names in order, a new shard where the next tensor would not fit."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if shards[-1] and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def _header(shapes: dict[str, tuple[int, ...]]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _values(random: np.random.Generator, shape: tuple[int, ...], mean: float) -> Iterator[NDArray[np.uint16]]:
    """Bfloat16 values of a tensor, block by block; vectors stay within a tenth around their mean."""
    scale = np.float32(0.1 if len(shape) == 1 else shape[-1] ** -0.5)
    left = math.prod(shape)
    while left:
        values = random.standard_normal(min(left, BLOCK), np.float32)
        values *= scale
        values += np.float32(mean)
        bits = values.view(np.uint32)
        bits += 0x8000  # round to nearest
        yield (bits >> 16).astype("<u2")
        left -= len(values)
