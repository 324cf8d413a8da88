"""KL tuning and the trainer under it: gradients, gains, what stays as it was, and going on after a kill."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import make_checkpoint

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from edgekit.converters import convert
from edgekit.converters.calibrate import tuning
from edgekit.converters.quant.affine import Affine
from edgekit.converters.quant.blocks import Blocks
from edgekit.converters.quant.dense import Dense
from edgekit.converters.quant.grid import Fitted, Grid
from edgekit.converters.quant.q4_affine32 import Q4Affine32
from edgekit.converters.quant.q4_block32 import Q4Block32
from edgekit.converters.quant.q8_block32 import Q8Block32
from edgekit.converters.train import Judge, Named, Schedule, train
from edgekit.errors import UsageError

RANDOM = np.random.default_rng(3)
TEXTS = RANDOM.integers(0, 199, (16, 40)).tolist()
RESCALED = [
    Q4Block32(),
    Q4Affine32(),
    Affine(4, 64, "BF16"),
    Affine(4, 32, "F16"),
    Blocks(4, 32),
    Blocks(4, 0),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize("grid", RESCALED, ids=str)
def test_rescaled_groups_keep_their_codes(grid: Grid) -> None:
    rows = RANDOM.standard_normal((6, 128)).astype(np.float32)
    fitted = grid.quantize(rows)
    factors = RANDOM.uniform(0.9, 1.1, (6, grid.groups(128))).astype(np.float32)
    parameters = grid.rescaled(fitted.parameters, factors)
    assert parameters is not None
    got = grid.restore(Fitted(fitted.codes, parameters))
    want = grid.restore(fitted) * np.repeat(factors, grid.group or 128, 1)
    assert np.abs(got - want).max() <= 0.006 * np.abs(want).max()
    same = grid.rescaled(fitted.parameters, np.ones_like(factors))
    assert same is not None
    np.testing.assert_allclose(grid.restore(Fitted(fitted.codes, same)), grid.restore(fitted), rtol=1e-6)


@pytest.mark.parametrize(("k", "group"), [(36, 16), (20, 20)])
def test_gradients_of_a_scaled_matrix_are_those_of_its_formula(k: int, group: int) -> None:
    x, matrix = torch.randn(2, 5, k, dtype=torch.float64), torch.randn(7, k, dtype=torch.float64)
    factors = torch.rand(7, -(-k // group), dtype=torch.float64)
    base = tuning._by_group(matrix, factors.shape[1], group)
    x.requires_grad_()
    factors.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, f: tuning._Product.apply(x, base, f), (x, factors))
    plain = x @ (matrix * torch.stack([f.repeat_interleave(group)[:k] for f in factors])).T
    torch.testing.assert_close(tuning._Product.apply(x, base, factors), plain)


@pytest.mark.parametrize("name", ["llama_mqa", "gemma2", "qwen3_moe"])
def test_scales_come_nearer_to_the_unquantized_model(name: str, checkpoints: Path) -> None:
    model = convert.read(make_checkpoint(name, checkpoints), name)
    grids: dict[str, Grid] = dict.fromkeys(model.spec.matrices(), Q4Block32())
    found = tuning.tune(model, grids, TEXTS, passes=3)
    assert found.fitted.keys() == grids.items()
    assert found.kl_after < 0.98 * found.kl_before
    for (matrix, grid), tuned in found.fitted.items():
        before = model.fitted(matrix, grid, (0, model.spec.shape(matrix)[0]))
        np.testing.assert_array_equal(tuned.codes, before.codes)


def test_the_same_seed_gives_the_same_scales(checkpoints: Path) -> None:
    model = convert.read(make_checkpoint("llama", checkpoints), "llama")
    grids: dict[str, Grid] = {"layers.0.up": Q4Block32(), "layers.2.down": Q4Block32()}
    first, same, other = (tuning.tune(model, grids, TEXTS, seed=seed) for seed in (1, 1, 2))
    assert first.kl_after == same.kl_after != other.kl_after


def test_what_does_not_help_is_not_taken(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = convert.read(make_checkpoint("llama", checkpoints), "llama")
    monkeypatch.setattr(tuning, "LEARNING_RATE", 5.0)
    found = tuning.tune(model, {"layers.0.up": Q4Block32()}, TEXTS)
    assert found.fitted == {} and found.kl_after == found.kl_before


def test_grids_without_scales_to_tune_are_left_alone(checkpoints: Path) -> None:
    model = convert.read(make_checkpoint("llama_mqa", checkpoints), "llama_mqa")
    grids: dict[str, Grid] = dict.fromkeys(model.spec.matrices(), Q4Block32())
    grids |= {"layers.0.q": Dense("F16"), "layers.0.k": Q8Block32()}
    tuned = tuning.tune(model, grids, TEXTS, passes=2).fitted
    assert {matrix for matrix, _ in tuned} == grids.keys() - {"layers.0.q", "layers.0.k"}


# ---- the trainer


class Line(Named):
    """Its answer to a step pulls its parameters to a point that depends on it."""

    def __init__(self) -> None:
        super().__init__({"a": torch.zeros(3), "layers.0.b": torch.ones(2, 2)})

    def forward(self, step: int) -> Any:
        a, b = self.parameters()
        return (a - step).square().sum() + (b * step).square().sum()


def share(step: int) -> list[tuple[int]]:
    return [(step,)]


SCHEDULE = Schedule(steps=9, learning_rate=0.3)


@pytest.mark.parametrize("stop", [1, 5, 8])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(stop: int, tmp_path: Path) -> None:
    whole = Line()
    losses: list[float] = []
    train(whole, share, SCHEDULE, told=lambda step, values: losses.append(values["loss"]))
    assert len(losses) == 9

    class Stopped(Line):
        def forward(self, step: int) -> Any:
            if step == stop:
                raise KeyboardInterrupt
            return super().forward(step)

    with pytest.raises(KeyboardInterrupt):
        train(Stopped(), share, SCHEDULE, tmp_path / "state")
    model = Line()
    steps: list[int] = []
    train(model, share, SCHEDULE, tmp_path / "state", told=lambda step, values: steps.append(step))
    assert steps == list(range(stop, 9))
    for name, values in whole.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), values, rtol=0, atol=0)


@pytest.mark.parametrize("damage", [b"", b"not a state", b"PK\x03\x04 nor this"])
def test_a_state_that_is_no_use_is_not_read(damage: bytes, tmp_path: Path) -> None:
    state = tmp_path / "state"
    train(Line(), share, Schedule(steps=2, learning_rate=0.1), state)
    steps: list[int] = []
    train(Line(), share, SCHEDULE, state, told=lambda step, values: steps.append(step))
    assert len(steps) == 9
    state.write_bytes(damage)
    train(Line(), share, SCHEDULE, state, told=lambda step, values: steps.append(step))
    assert len(steps) == 18


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    with pytest.raises(UsageError, match=r"the loss of step 1 is nan"):
        train(Line(), lambda step: [(math.nan,)], SCHEDULE)
    with pytest.raises(UsageError, match="0 steps"):
        Schedule(steps=0, learning_rate=1.0)


@pytest.mark.parametrize("stop", [None, 5])
def test_the_best_parameters_stay_and_patience_ends(stop: int | None, tmp_path: Path) -> None:
    """Also when the run was stopped after the best."""
    found: list[float] = []
    model = Line()

    def judged() -> float:
        found.append(model.get_parameter("a").mean().item())
        return abs(found[-1] - 0.9)

    def told(step: int, values: dict[str, float]) -> None:
        assert "validation" in values
        if len(found) == stop:
            raise KeyboardInterrupt

    schedule, state = Schedule(steps=40, learning_rate=0.3), tmp_path / "state"
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            train(model, share, schedule, state, judge=Judge(judged, 1, 3), told=told)
        model, stop = Line(), None
    train(model, share, schedule, state, judge=Judge(judged, 1, 3), told=told)
    errors = [abs(value - 0.9) for value in found]
    best = errors.index(min(errors))
    assert 0 < best < 36
    assert len(found) == best + 4
    assert model.get_parameter("a").mean().item() == found[best]
