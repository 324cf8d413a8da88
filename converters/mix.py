"""Which grid each matrix gets for a number of bytes: bits go where they spare the most harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from edgekit.converters.convert import ConvertInput
from edgekit.converters.quant.grid import Grid
from edgekit.errors import UsageError

SAMPLE_WEIGHTS = 1 << 15  # of a matrix, by which the error of a grid is told

# The harm that an error of a weight does, beside that of one in "gate", where nothing was measured: the mean
# of small models.
_HARM = {"v": 12.0, "k": 5.0, "down": 5.0, "up": 2.0, "q": 1.5, "o": 1.5}
_HARM_OF_OUTER_LAYERS = 2.0  # the first two and the last
# Of the output matrix, and of an embedding that is not the output too, beside that of all layers: it does not
# grow with the vocabulary.
_HARM_OF_OUTPUT = 1 / 3
_HARM_OF_EMBEDDING = 1 / 30


def allocate(
    model: ConvertInput,
    names: Sequence[str],
    grids: Sequence[Grid],
    budget: int,
    beside: int = 0,
    sensitivity: Mapping[str, float] | None = None,
) -> dict[str, Grid]:
    """A grid for each matrix of `names` that keeps the sum of harm low, of at most `budget` bytes together
    with the `beside` that all else takes.

    `sensitivity` is the harm of an error as large as the matrix itself (converters/calibrate/sensitivity.py);
    without it what a matrix does in its layer stands for that. Raises UsageError for a budget that is beyond
    the narrowest grid or the widest.
    """
    harm = sensitivity or _harms(model, names)
    options = {name: _options(model, name, grids, harm[name]) for name in names}
    taken = dict.fromkeys(names, 0)
    least, most = (beside + sum(options[name][at].bytes for name in names) for at in (0, -1))
    if not least <= budget <= most:
        raise UsageError(
            f"{budget:,} bytes are asked for; a mix of this model takes {least:,} to {most:,} bytes "
            f"({', '.join(map(str, grids))})"
        )
    left = budget - least
    steps = [
        (_slope(narrow, wide), name, at)
        for name in names
        for at, (narrow, wide) in enumerate(pairwise(options[name]), 1)
    ]
    for _, name, at in sorted(steps, reverse=True):
        cost = options[name][at].bytes - options[name][taken[name]].bytes
        if cost <= left:
            left -= cost
            taken[name] = at
    return {name: options[name][at].grid for name, at in taken.items()}


@dataclass(frozen=True)
class _Option:
    grid: Grid
    bytes: int
    harm: float


def _options(model: ConvertInput, name: str, grids: Sequence[Grid], harm: float) -> list[_Option]:
    """The grids that are worth their bytes: each spares less harm for a byte than the one before."""
    n, k = model.spec.shape(name)
    rows = max(1, min(n, SAMPLE_WEIGHTS // k))
    span = ((n - rows) // 2, (n + rows) // 2)
    values = model.load(name, span)
    assert values is not None
    importance = model.importance(name)
    weights = np.ones(k, np.float32) if importance is None else importance
    size = float(np.square(values).sum(0) @ weights) or 1.0
    hull: list[_Option] = []
    for grid in sorted({model.grid(name, grid) for grid in grids}, key=lambda grid: grid.size_bytes(n, k)):
        changed = grid.restore(model.fitted(name, grid, span)) - values
        error = float(np.square(changed).sum(0) @ weights) / size
        option = _Option(grid, grid.size_bytes(n, k), harm * error)
        if hull and option.harm >= hull[-1].harm:
            continue
        while len(hull) > 1 and _slope(hull[-2], option) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _slope(narrow: _Option, wide: _Option) -> float:
    return (narrow.harm - wide.harm) / (wide.bytes - narrow.bytes)


def _harms(model: ConvertInput, names: Sequence[str]) -> dict[str, float]:
    layers = len(model.spec.layers)
    harms = {}
    for name in names:
        parts = name.split(".")
        if parts[0] == "layers":
            outer = _HARM_OF_OUTER_LAYERS if int(parts[1]) in (0, 1, layers - 1) else 1.0
            harms[name] = prod(model.spec.shape(name)) * _HARM.get(parts[-1], 1.0) * outer
    all_layers, output = sum(harms.values()), "embed" if model.spec.tied else "head"
    return harms | {
        name: all_layers * (_HARM_OF_OUTPUT if name == output else _HARM_OF_EMBEDDING)
        for name in names
        if name not in harms
    }
