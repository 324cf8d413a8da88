"""The second moment of each input of each matrix, over a text: what an error in that column costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.decoder import number
from edgekit.converters.interpreters.numpy import Array, Reference
from edgekit.converters.spec import Layer

# The inputs of a token that are more than so many times as large as usual count as if they were no larger:
# a few positions of massive activations would outweigh all others.
MOST = np.float32(2)
# What a column counts at least, in usual columns: another text may use what this one did not.
LEAST = np.float32(0.01)


def measure(
    model: ConvertInput, texts: Sequence[Sequence[int]], progress: Progress = silent
) -> dict[str, Array]:
    """By the names of matrices, `[d_in]`, over token ids of texts. What no token met has none: experts that
    were never chosen, and an embedding that is not the output too.
    """
    return SecondMoments(model, texts, "weighing columns", progress).measure()


def of(x: Array) -> Array:
    """Of inputs `[n, d_in]`."""
    moment = np.square(x).mean(0)
    return np.asarray(moment + LEAST * moment.mean())


def bounded(x: Array) -> Array:
    """Rows `[n, d_in]` none of which is more than `MOST` times as large as usual."""
    size = np.sqrt(np.square(x).mean(1, keepdims=True))
    return x * np.minimum(1, MOST * np.median(size) / np.maximum(size, np.float32(1e-20)))


class SecondMoments(Reference):
    """The forward pass over all texts at once, their rows one after another: each matrix is read once, and
    met once. Memory: one matrix, and a few inputs of all tokens.
    """

    def __init__(
        self, model: ConvertInput, texts: Sequence[Sequence[int]], task: str, progress: Progress
    ) -> None:
        super().__init__(model.spec, model.load)
        self.moments: dict[str, Array] = {}
        self._ids = [id for text in texts for id in text]
        ends = np.cumsum([0, *map(len, texts)]).tolist()
        self._texts = [slice(*ends) for ends in pairwise(ends)]
        self._task, self._progress = task, progress

    def measure(self) -> dict[str, Array]:
        hidden = self.hidden(self._ids)
        self.moments["embed" if self.spec.tied else "head"] = of(bounded(hidden))
        return self.moments

    def product(self, x: Array, name: str) -> Array:
        self.moments[name] = of(bounded(x))
        return super().product(x, name)

    def block(self, x: Array, at: str, layer: Layer) -> Array:
        self._progress(self._task, number(at), len(self.spec.layers))
        return super().block(x, at, layer)

    def attend(self, q: Array, k: Array, v: Array, at: str, layer: Layer) -> Array:
        attend = super().attend
        return np.concatenate([attend(q[some], k[some], v[some], at, layer) for some in self._texts])

    def convolve(self, x: Array, at: str, layer: Layer) -> Array:
        convolve = super().convolve
        return np.concatenate([convolve(x[some], at, layer) for some in self._texts])
