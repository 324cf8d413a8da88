"""Tensors of a checkpoint in torch: as they are, to be trained, or on a grid while they are trained."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from edgekit.converters.distill.student import Load
from edgekit.converters.interpreters.torch import Tensor, Weights, torch  # says it when there is no torch
from edgekit.converters.quant.grid import Grid
from edgekit.converters.train import Named


def fixed(load: Load) -> Weights:
    """Float32, on torch's default device, read when they are first asked for."""

    @functools.cache
    def weights(name: str) -> Tensor | None:
        values = load(name)
        return None if values is None else torch.tensor(values, dtype=torch.float32)

    return weights


def trained(names: Iterable[str], load: Load) -> Named:
    loaded = fixed(load)
    return Named({name: loaded(name) for name in names})


class OnGrids:
    """Parameters, those of `grids` as a package of some scheme will hold them: codes are chosen anew after
    each `refresh`, and gradients go through to what the codes were chosen for.
    """

    def __init__(self, parameters: Named, grids: Mapping[str, Grid]) -> None:
        self.parameters, self.grids = parameters, grids
        self.names = {name for name, _ in parameters.named_parameters()}
        self._rounded: dict[str, Tensor] = {}

    def refresh(self) -> None:
        self._rounded.clear()

    def __call__(self, name: str) -> Tensor | None:
        if name not in self.names:
            return None
        parameter = self.parameters.get_parameter(name)
        if name not in self.grids:
            return parameter
        if name not in self._rounded:
            rows = self.grids[name].changed(parameter.detach().cpu().numpy())
            self._rounded[name] = torch.tensor(rows, device=parameter.device)
        return _Through.apply(parameter, self._rounded[name])


class _Through(torch.autograd.Function):  # type: ignore[misc]
    """`rounded`, with the gradients of `parameter`."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
