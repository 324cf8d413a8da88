"""Checkpoints with a real model's shape and random weights: speed and memory depend on the shape alone.

Weights are Gaussian with variance 1 / d_in, norms and scalars near 1, so activations keep a plausible size
through the layers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import models
from edgekit.converters.checkpoint_writer import Tensor, write
from edgekit.converters.convert import Progress, silent
from edgekit.errors import UsageError
from edgekit.in_place_of import in_place_of

BLOCK = 1 << 22  # values in memory at once


def synth(config: dict[str, Any], out: Path, seed: int = 0, progress: Progress = silent) -> None:
    """Write the directory `out`: config.json and bfloat16 safetensors of at most 2 GB each, one after
    another.

    The same config and seed give the same bytes. Raises what `models.load` raises; UsageError when `out`
    holds files, IoFailure when the disk has no room; nothing is left at `out` then.
    """
    stored = models.stored(models.load(config))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty directory", hint="choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.Generator(np.random.SFC64(seed))
    tensors = {}
    for theirs, tensor in stored.items():
        ours, where = tensor.parts[0]
        mean = 1.0 - where.add if ours.endswith(("norm", "scalar")) else 0.0
        tensors[theirs] = Tensor("BF16", tensor.shape, functools.partial(_values, random, tensor.shape, mean))
    with in_place_of(out) as partial:
        partial.mkdir()
        write(partial, config, tensors, progress)


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
