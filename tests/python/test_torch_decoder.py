"""The forward pass in torch against numpy's, for every family; its gradients; what it tells of."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import TINY_CONFIGS, make_checkpoint

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from edgekit.converters import models
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.interpreters.torch import TorchDecoder

IDS = np.random.default_rng(0).integers(0, 199, (2, 40))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def opened(name: str, checkpoints: Path) -> tuple[models.Model, Any]:
    model = models.open_model(Checkpoint(make_checkpoint(name, checkpoints)))

    @functools.cache
    def weights(name: str) -> Any:
        values = model.load(name)
        return None if values is None else torch.tensor(values)

    return model, weights


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_logits_are_those_of_numpy(name: str, checkpoints: Path) -> None:
    model, weights = opened(name, checkpoints)
    ours = TorchDecoder(model.spec, weights).logits(torch.tensor(IDS)).numpy()
    for logits, ids in zip(ours, IDS, strict=True):
        want = Reference(model.spec, model.load).logits(ids.tolist())
        assert np.abs(logits - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("name", ["gemma2", "qwen3_moe", "lfm2_bias", "stablelm_qk_norm"])
def test_gradients_are_slopes(name: str, checkpoints: Path) -> None:
    """In float64, of a loss over the logits along a random direction of all weights."""
    model, weights = opened(name, checkpoints)
    torch.manual_seed(0)
    at = {name: weights(name).double() for name in model.tensors}
    along = {name: torch.randn_like(values) for name, values in at.items()}
    pull = torch.randn(2, 40, model.spec.vocab_size, dtype=torch.float64)

    def loss(step: Any) -> Any:
        def moved(name: str) -> Any:
            return None if name not in at else at[name] + step * along[name]

        return (TorchDecoder(model.spec, moved).logits(torch.tensor(IDS)) * pull).sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss(step).backward()
    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert step.grad.item() == pytest.approx(slope.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["llama", "lfm2", "olmoe"])
def test_a_tap_hears_of_the_input_of_every_matrix(name: str, checkpoints: Path) -> None:
    model, weights = opened(name, checkpoints)
    heard: dict[str, Any] = {}
    TorchDecoder(model.spec, weights, tap=heard.__setitem__).logits(torch.tensor(IDS))
    used = set(model.spec.matrices()) - ({"embed"} if not model.spec.tied else set())
    assert heard.keys() == used
    for matrix, x in heard.items():
        assert x.shape[-1] == model.spec.shape(matrix)[1]
        if ".experts." not in matrix:
            assert x.shape[:-1] == IDS.shape
