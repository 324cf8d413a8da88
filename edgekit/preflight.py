"""What a conversion will cost, before it is done: measured on a few rows of the checkpoint itself."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from edgekit.converters.convert import ConvertInput

SAMPLE_WEIGHTS = 1 << 18
MAX_TOKENS = 4096


@dataclass(frozen=True)
class Preflight:
    """`bytes` of the output; `memory_bytes` of the engine: those, and keys and values of `tokens` tokens.

    `seconds` to convert on this machine, without the disk's and without verification. `weight_error`: RMS of
    what quantization changes, relative to the weights, in the checkpoint's first large matrix.
    """

    bytes: int
    memory_bytes: int
    tokens: int
    seconds: float
    weight_error: float


def measure(writer: ModuleType, model: ConvertInput, scheme: str, options: dict[str, Any]) -> Preflight:
    """Raises what `writer.write` would raise before any work."""
    size = int(writer.size_bytes(model, scheme, **options))
    tokens = min(model.spec.context or MAX_TOKENS, MAX_TOKENS)
    if hasattr(writer, "cache_bytes"):
        cache = int(writer.cache_bytes(model, scheme, tokens, **options))
    else:
        cache = model.spec.cache_numbers(tokens) * 2
    sample = _sample(model)
    started = time.perf_counter()
    n, k = model.spec.shape(sample)
    rows = model.load(sample, (0, max(1, min(n, SAMPLE_WEIGHTS // k))))
    assert rows is not None
    changed = writer.restored(rows, scheme) - rows
    spent = time.perf_counter() - started
    weights = sum(prod(model.spec.shape(name)) for name in model.tensors)
    seconds = spent * weights / rows.size / min(8, os.cpu_count() or 1)
    error = float(np.linalg.norm(changed) / max(float(np.linalg.norm(rows)), 1e-30))
    return Preflight(size, size + cache, tokens, seconds, error)


def _sample(model: ConvertInput) -> str:
    """A matrix of the first layer that is like most of the weights."""
    first = [name for name in model.tensors if name.startswith("layers.0.")]
    return max(first, key=lambda name: (len(model.spec.shape(name)) == 2, prod(model.spec.shape(name))))
