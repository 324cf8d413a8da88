"""A checkpoint's tensors in torch, read when they are first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from edgekit.converters.interpreters.torch import TorchDecoder, Weights  # says it when there is no torch
from edgekit.converters.spec import ModelSpec

import torch  # isort: skip


def of(load: Callable[[str], Any], device: str = "cpu") -> Weights:
    """Float32 tensors of what `load` gives as arrays."""

    @functools.cache
    def weights(name: str) -> Any:
        values = load(name)
        return None if values is None else torch.tensor(values, dtype=torch.float32, device=device)

    return weights


def decoder(spec: ModelSpec, load: Callable[[str], Any]) -> TorchDecoder:
    return TorchDecoder(spec, of(load))
