"""What a conversion will cost, before it is done: measured on a few rows of the checkpoint itself."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from edgekit.converters.convert import ConvertInput
from edgekit.converters.quality import tokens_for
from edgekit.converters.quant.grid import Grid

SAMPLE_WEIGHTS = 1 << 18
MAX_TOKENS = 4096
VERIFY_PASSES = 3  # numpy's on the output's weights, numpy's on the checkpoint's, and the engine's


@dataclass(frozen=True)
class Preflight:
    """`bytes` of the output; `memory_bytes` of the engine: those, and keys and values of `tokens` tokens.

    `seconds` to convert on this machine, without the disk's, and `verify_seconds` to verify after that.
    `weight_error`: RMS of what quantization changes, relative to the weights, in the checkpoint's first large
    matrix.
    """

    bytes: int
    memory_bytes: int
    tokens: int
    seconds: float
    verify_seconds: float
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
    error, sampled = _error(model, writer.grids(model, scheme, **options)[sample], sample)
    spent = time.perf_counter() - started
    weights = sum(prod(model.spec.shape(name)) for name in model.tensors)
    return Preflight(
        size,
        size + cache,
        tokens,
        spent * weights / sampled / min(8, os.cpu_count() or 1),
        _verify_seconds(model, sample) * weights,
        error,
    )


def _verify_seconds(model: ConvertInput, name: str) -> float:
    """Of a weight, for all tokens that verification takes: to read it once, and to multiply by it."""
    n, k = model.spec.shape(name)
    states = np.ones((tokens_for(model.spec), k), np.float32)
    started = time.perf_counter()
    values = model.load(name, (0, max(1, min(n, SAMPLE_WEIGHTS // k))))
    assert values is not None
    marks = [time.perf_counter()]
    for _ in range(3):  # the first starts threads
        states @ values.T
        marks.append(time.perf_counter())
    multiply = float(np.diff(marks).min())
    return (marks[0] - started + VERIFY_PASSES * multiply) / values.size


def weight_error(writer: Any, model: ConvertInput, scheme: str, options: dict[str, Any]) -> float:
    """RMS of what `scheme` changes in the checkpoint's first large matrix, relative to its weights."""
    name = _sample(model)
    return _error(model, writer.grids(model, scheme, **options)[name], name)[0]


def requantized(writer: ModuleType, model: ConvertInput, scheme: str, options: dict[str, Any]) -> str | None:
    """What quantizing a quantized checkpoint anew costs; None when all its codes are kept."""
    layouts = {name: layout for name in model.tensors if (layout := model.layout(name))}
    if not layouts or not hasattr(writer, "grids"):
        return None
    grids = writer.grids(model, scheme, **options)
    anew = [name for name in layouts if not model.keeps(name, grids[name])]
    if not anew:
        return None
    kinds = Counter(str(layouts[name]) for name in anew).most_common()
    usual = next(name for name in anew if str(layouts[name]) == kinds[0][0])
    error, _ = _error(model, grids[usual], usual)
    if error < 1e-6:  # floats
        return None
    stored = kinds[0][0] if len(kinds) == 1 else ", ".join(f"{count} of {kind}" for kind, count in kinds)
    return (
        f"{len(anew)} of {len(layouts)} quantized matrices ({stored}) are quantized anew as "
        f"{scheme}, which changes their weights by another {error:.2%} (RMS); the unquantized checkpoint "
        "gives a better package"
    )


def _sample(model: ConvertInput) -> str:
    first = [name for name in model.tensors if name.startswith("layers.0.")]
    return max(first, key=lambda name: (len(model.spec.shape(name)) == 2, prod(model.spec.shape(name))))


def _error(model: ConvertInput, grid: Grid, name: str) -> tuple[float, int]:
    """RMS of what a grid changes in a part of a matrix, relative to its weights; and their number."""
    n, k = model.spec.shape(name)
    rows = (0, max(1, min(n, SAMPLE_WEIGHTS // k)))
    values = model.load(name, rows)
    assert values is not None
    changed = grid.restore(model.fitted(name, grid, rows)) - values
    return float(np.linalg.norm(changed) / max(float(np.linalg.norm(values)), 1e-30)), values.size
