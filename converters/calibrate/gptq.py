"""GPTQ: columns are rounded one after another, and those that follow make up for the error so far.

Frantar et al., 2022, over any `Grid`. What differs from the paper:

    sequential  a matrix sees what those before it, already rounded, give; and of what that differs from the
                inputs it would have had it makes up for a part (as GPTAQ, Li et al., 2025, for all)
    scales      are fitted, and rounded as they will be stored, when the walk comes to their group, each
                column weighted by what its error will cost after the rest has made up for it
    shrinkage   correlations between inputs count for less: those of a few thousand tokens are noisy, and
                codes that follow the noise are worse than the nearest
    choice      the nearest codes stay where those of the walk are no better on tokens that it did not see
    output      the output matrix comes first, by what the unquantized model feeds it, and is judged by the
                divergence it causes: where it is the embedding too, errors come in at both ends
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from edgekit.converters.calibrate.second_moments import SecondMoments, bounded, of
from edgekit.converters.calibrate.store import Store
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.interpreters.numpy import Array, Loader, Reference
from edgekit.converters.quality import compare
from edgekit.converters.quant.grid import Fitted, Grid, Parameters

SHRINKAGE = 0.2  # of the correlations
# Of those of the output's inputs: where it is the embedding too, codes should not stray far from its weights.
OUTPUT_SHRINKAGE = 0.5
MADE_UP_FOR = 0.5  # of the change of a matrix's inputs
COLUMNS = 128  # whose errors are carried over to the rest at once
ROWS = 1 << 14  # of the output matrix that are walked at once
# Of `HELD_OUT_OF` runs of so many tokens one is kept from the walk to judge it, and of as many texts one from
# that of the output; with fewer tokens than `TOKENS` there is none.
RUN, HELD_OUT_OF = 32, 8
TOKENS = 256


def choose(
    model: ConvertInput,
    grids: Mapping[str, Grid],
    texts: Sequence[Sequence[int]],
    store: Store,
    progress: Progress = silent,
) -> dict[str, Array]:
    """Puts codes for the matrices of `grids` into `store`, and goes on from those that it has. `texts` are
    token ids. Returns second moments, as `second_moments.measure` does but of inputs as they will be.
    """
    output = "embed" if model.spec.tied else "head"
    if output in grids and store.get(output, grids[output]) is None and sum(map(len, texts)) >= TOKENS:
        store.put(output, grids[output], _output(model, output, grids[output], texts, progress))
    return _Gptq(model, grids, texts, store, progress).measure()


class _Gptq(SecondMoments):
    """Rows of the model as it becomes, then as many of the model as it was."""

    def __init__(
        self,
        model: ConvertInput,
        grids: Mapping[str, Grid],
        texts: Sequence[Sequence[int]],
        store: Store,
        progress: Progress,
    ) -> None:
        super().__init__(model, [*texts, *texts], "choosing codes", progress)
        self._grids, self._store = grids, store
        self._inputs: Inputs | None = None
        self._chose: int | None = None  # of the rows that chose an expert, how many are of the first half

    def _rows(self, name: str, ids: Sequence[int]) -> Array:
        exact, grid, half = super()._rows(name, ids), self._grids.get(name), len(ids) // 2
        if grid is None:
            return exact
        fitted = self._store.get(name, grid)
        chosen = grid.restore(fitted.at(ids[:half])) if fitted else grid.changed(exact[:half])
        return np.concatenate([chosen, exact[half:]])

    def product(self, x: Array, name: str) -> Array:
        w, half = self._need(name), len(x) // 2 if self._chose is None else self._chose
        if self._inputs is None or self._inputs.rows is not x:  # several matrices may have the same
            self._inputs = Inputs(x, half, x[half:] if self._chose is None else None)
        self.moments[name] = self._inputs.moment
        grid = self._grids.get(name)
        if grid is None or half == 0:
            return np.asarray(x @ w.T)
        fitted = self._store.get(name, grid)
        if fitted is None:
            fitted = quantize(w, grid, self._inputs)
            self._store.put(name, grid, fitted)
        return np.concatenate([x[:half] @ grid.restore(fitted).T, x[half:] @ w.T])

    def expert(self, x: Array, at: str, weight: Array) -> Array:
        self._chose = int(np.count_nonzero(weight[: len(x) // 2]))
        fed = super().expert(x, at, weight)
        self._chose = None
        return fed


def _output(
    model: ConvertInput, output: str, grid: Grid, texts: Sequence[Sequence[int]], progress: Progress
) -> Fitted:
    """Codes of the matrix `output`: of those that are nearest and those of the walk the ones that change the
    unquantized model's probabilities less.
    """
    held_out = max(1, len(texts) // HELD_OUT_OF)
    seen, unseen = texts[held_out:] or texts, texts[:held_out]
    wanted = _hidden(model, unseen, model.load, progress)
    inputs = _hidden(model, seen, model.load, progress)
    known = Inputs(inputs, len(inputs), shrinkage=OUTPUT_SHRINKAGE)
    nearest, walked = [], []
    n, _ = model.spec.shape(output)
    for first in range(0, n, ROWS):
        w = model.load(output, (first, min(first + ROWS, n)))
        assert w is not None
        nearest.append(grid.quantize(w, known.moment))
        walked.append(walk(w, grid, known.moment, known.inverse))
        progress("choosing codes of the output", first, n)

    def divergence(fitted: Fitted) -> float:
        def load(name: str, rows: tuple[int, int] | None = None) -> Array | None:
            if name != output:
                return model.load(name, rows)
            return grid.restore(fitted.rows(*rows) if rows else fitted)

        hidden = _hidden(model, unseen, load, progress) if model.spec.tied else wanted
        exact, changed = Reference(model.spec, model.load), Reference(model.spec, load)
        total, ends = 0.0, np.cumsum([0, *map(len, unseen)]).tolist()
        for text, (first, last) in zip(unseen, pairwise(ends), strict=True):
            got, want = changed.output(hidden[first:last]), exact.output(wanted[first:last])
            total += len(text) * compare("", text, got, want).kl_mean
        return total

    return min((Fitted.joined(nearest), Fitted.joined(walked)), key=divergence)


def _hidden(model: ConvertInput, texts: Sequence[Sequence[int]], load: Loader, progress: Progress) -> Array:
    """What the output matrix is applied to, `[tokens, d_model]`, under weights of `load`."""
    reader = SecondMoments(model, texts, "choosing codes of the output", progress)
    reader.load = load
    return reader.hidden([id for text in texts for id in text])


class Inputs:
    """What a walk needs to know of a matrix's inputs: the first `count` of `rows[…, d_in]`. `wanted` are
    those that it would have if nothing had been rounded, where they are known. `shrinkage` is that of their
    correlations.
    """

    def __init__(
        self, rows: Array, count: int, wanted: Array | None = None, shrinkage: float = SHRINKAGE
    ) -> None:
        self.rows, self.count, self._shrinkage = rows, count, shrinkage
        self._x, self._wanted = bounded(rows[:count]), wanted
        self._held_out = np.arange(count) // RUN % HELD_OUT_OF == HELD_OUT_OF - 1

    @cached_property
    def moment(self) -> Array:
        return of(self._x)

    @cached_property
    def inverse(self) -> Array:
        """Upper U with UᵀU the inverse of the inputs' second moments `[d_in, d_in]`, shrunk."""
        seen = self._x[~self._held_out]
        size = np.sqrt(of(seen))
        seen /= size
        shrunk = seen.T @ seen
        shrunk *= (1 - self._shrinkage) / len(seen)
        np.fill_diagonal(shrunk, 1)
        upper = np.linalg.cholesky(shrunk[::-1, ::-1])[::-1, ::-1]  # times its transpose: `shrunk`
        return np.asarray(inverted(upper) / size)

    def adapted(self, w: Array) -> Array:
        """Weights `[d_out, d_in]` with which changed inputs give nearly what `w` gave."""
        if self._wanted is None:
            return w
        x = self._x[~self._held_out]
        missing = bounded(self._wanted)[~self._held_out] - x
        change = np.linalg.multi_dot([w, missing.T, x, self.inverse.T, self.inverse])
        return np.asarray(w + np.float32(MADE_UP_FOR / len(x)) * change)

    def error(self, change: Array) -> float:
        """Of the outputs of the tokens held out, when weights `[d_out, d_in]` change by so much."""
        return float(np.square(self._x[self._held_out] @ change.T).sum())


def quantize(w: Array, grid: Grid, inputs: Inputs) -> Fitted:
    """The better of the nearest codes and those of the walk."""
    if inputs.count < TOKENS:
        return grid.quantize(w, inputs.moment)
    w = inputs.adapted(w)
    found = (grid.quantize(w, inputs.moment), walk(w, grid, inputs.moment, inputs.inverse))
    return min(found, key=lambda fitted: inputs.error(grid.restore(fitted) - w))


def inverted(upper: Array) -> Array:
    """Of an upper triangular matrix, by halves: what is 0 costs nothing."""
    half = len(upper) // 2
    if half < COLUMNS:
        return np.linalg.inv(upper)
    first, last = inverted(upper[:half, :half]), inverted(upper[half:, half:])
    corner = -(first @ upper[:half, half:] @ last)
    return np.block([[first, corner], [np.zeros_like(corner.T), last]])


def walk(w: Array, grid: Grid, moment: Array, inverse: Array) -> Fitted:
    """Codes of `w[n, k]` and what they mean; `inverse` as in `Inputs`."""
    k = w.shape[1]
    whole = grid.fit(w, moment)
    parts, codes = [], []
    rest = w.T.copy()  # a column of the matrix lies in one piece
    for begin in range(0, k, COLUMNS):
        end = min(begin + COLUMNS, k)
        errors = np.empty((end - begin, len(w)), np.float32)
        for j in range(begin, end):
            if not grid.group:
                parameters = whole
            elif j % grid.span == 0:
                span = slice(j, min(j + grid.span, k))
                cost = np.square(np.diagonal(inverse)[span]) ** np.float32(-1)
                parts.append(grid.fit(rest[span].T, cost, whole.header))
            if grid.group and j % grid.group == 0:
                at = j % grid.span // grid.group
                parameters = parts[-1].columns(at, at + 1)
            code = grid.nearest(rest[j][:, None], parameters)
            codes.append(code)
            error = (rest[j] - grid.restore(Fitted(code, parameters))[:, 0]) / inverse[j, j]
            rest[j + 1 : end] -= inverse[j, j + 1 : end, None] * error
            errors[j - begin] = error
        rest[end:] -= inverse[begin:end, end:].T @ errors
    return Fitted(np.concatenate(codes, 1), Parameters.beside(parts) if parts else whole)
