"""KL tuning: codes stay, their scales are trained until the model's probabilities are nearest to those of the
unquantized one. Weights are linear in their scales, so the gradients are exact.

What is trained is a factor for each group of each row, 1 at first; in the end the scales are rounded as they
will be stored. Where the divergence on texts held out has not fallen then, everything stays as it was.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.distill.losses import Loss
from edgekit.converters.distill.objective import Objective, count_of
from edgekit.converters.distill.targets import Live
from edgekit.converters.distill.texts import Window
from edgekit.converters.distill.weights import fixed
from edgekit.converters.interpreters.torch import Tensor, TorchDecoder, Weights, torch
from edgekit.converters.quant.grid import Fitted, Grid
from edgekit.converters.spec import ModelSpec
from edgekit.converters.train import Named, Schedule, processes, train

LEARNING_RATE = 2e-3
BATCH = 2  # texts in a step
SHARED = 2  # tokens: of the first, which all texts have, there is nothing to learn
HELD_OUT_OF = 8  # one text of so many judges the others' work


@dataclass(frozen=True)
class Tuned:
    """`kl_before` and `kl_after` in nats a token on the texts held out, after with what is in `fitted`: the
    same codes with other scales, each on the grid that it is for, or nothing where those are no better.
    """

    fitted: dict[tuple[str, Grid], Fitted]
    kl_before: float
    kl_after: float


def tune(
    model: ConvertInput,
    grids: Mapping[str, Grid],
    texts: Sequence[Sequence[int]],
    *,
    passes: float = 1.0,
    seed: int = 0,
    state: Path | None = None,
    progress: Progress = silent,
) -> Tuned:
    """Scales for the codes that `model.fitted` gives for the matrices of `grids`; those of grids that cannot
    be rescaled stay. `texts` are token ids, which are read `passes` times in an order that `seed` says;
    `state` is a file to go on from after a kill. Raises UnsupportedModel without torch.

    On a GPU where torch has one. Memory: the weights twice in float32, and a text's activations.
    """
    with processes().device:
        return _tuned(model, grids, texts, passes, seed, state, progress)


def _tuned(
    model: ConvertInput,
    grids: Mapping[str, Grid],
    texts: Sequence[Sequence[int]],
    passes: float,
    seed: int,
    state: Path | None,
    progress: Progress,
) -> Tuned:
    weights = fixed(model.load)
    scaled, fitted = {}, {}
    for name, grid in grids.items():
        n, k = model.spec.shape(name)
        found = model.fitted(name, grid, (0, n))
        ones = np.ones((n, grid.groups(k)), np.float32)
        if grid.rescaled(found.parameters, ones) is not None:
            fitted[name] = found
            base = _by_group(torch.tensor(grid.restore(found)), ones.shape[1], grid.group or k)
            scaled[name] = Scaled(base, torch.nn.Parameter(torch.tensor(ones)), k)
    factors = Named({name: matrix.factors for name, matrix in scaled.items()})
    kl = Loss("kl")
    teacher = Live(TorchDecoder(model.spec, weights), kl.log_probabilities)
    objective = Objective(Student(model.spec, weights, scaled), factors, kl, teacher)
    order = random.Random(seed).sample([Window(tuple(text), SHARED) for text in texts], len(texts))
    held_out = order[: max(1, len(order) // HELD_OUT_OF)]
    seen = order[len(held_out) :] or held_out
    batches = [seen[first : first + BATCH] for first in range(0, len(seen), BATCH)]

    def shares(step: int) -> list[tuple[Window, int]]:
        batch = batches[step % len(batches)]
        return [(window, count_of(batch)) for window in batch]

    before = objective.mean(held_out)
    schedule = Schedule(max(1, round(passes * len(batches))), LEARNING_RATE)
    train(objective, shares, schedule, state, task="tuning scales", progress=progress)
    tuned = {}
    with torch.no_grad():
        for name, found in fitted.items():
            matrix = scaled[name]
            parameters = grids[name].rescaled(found.parameters, matrix.factors.cpu().numpy())
            assert parameters is not None
            tuned[name] = Fitted(found.codes, parameters)
            restored = torch.tensor(grids[name].restore(tuned[name]))
            matrix.base.copy_(_by_group(restored, *matrix.base.shape[1:]))
            matrix.factors.fill_(1)
    after = objective.mean(held_out)
    if after >= before:
        return Tuned({}, before, before)
    return Tuned({(name, grids[name]): found for name, found in tuned.items()}, before, after)


@dataclass(frozen=True)
class Scaled:
    """A matrix `[n, k]`: `base` `[n, groups, group]`, zeros after column k, times `factors` `[n, groups]`."""

    base: Tensor
    factors: Tensor
    k: int


class Student(TorchDecoder):
    """Some matrices are scaled."""

    def __init__(self, spec: ModelSpec, weights: Weights, scaled: Mapping[str, Scaled]) -> None:
        super().__init__(spec, weights)
        self._scaled = scaled

    def product(self, x: Tensor, name: str) -> Tensor:
        matrix = self._scaled.get(name)
        if matrix is None:
            return super().product(x, name)
        return _Product.apply(x, matrix.base, matrix.factors)

    def embed(self, ids: Tensor) -> Tensor:
        matrix = self._scaled.get("embed")
        if matrix is None:
            return super().embed(ids)
        factors = torch.nn.functional.embedding(ids, matrix.factors)
        return _times(matrix.base[ids], factors, matrix.k) * self.spec.embed_scale


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """x times (base * factors)ᵀ; the product of the two is made again for the gradients, not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(x, base, factors)
        return x @ _times(base, factors, x.shape[-1]).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        x, base, factors = ctx.saved_tensors
        of_x = gradient @ _times(base, factors, x.shape[-1])
        of_matrix = gradient.flatten(0, -2).T @ x.flatten(0, -2)
        return of_x, None, torch.einsum("ngi,ngi->ng", _by_group(of_matrix, *base.shape[1:]), base)


def _by_group(matrix: Tensor, groups: int, group: int) -> Tensor:
    """`[n, k]` -> `[n, groups, group]`, zeros after column k"""
    return torch.nn.functional.pad(matrix, (0, groups * group - matrix.shape[1])).unflatten(
        1, (groups, group)
    )


def _times(base: Tensor, factors: Tensor, k: int) -> Tensor:
    """`[..., groups, group]` and `[..., groups]` -> `[..., k]`"""
    return (base * factors[..., None]).flatten(-2)[..., :k]
