"""The native encoder against the numpy one: the same layout, the same choices up to sums in another order."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.conversion import _encoders
from edgekit.converters.formats.edge import GRIDS

ENCODERS = _encoders()


@pytest.mark.parametrize("layout", ENCODERS)
@pytest.mark.parametrize("k", [32, 100, 172, 2048])
@pytest.mark.parametrize("tail", ["normal", "laplace"])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_packs_as_numpy_does(layout: str, k: int, tail: str, weighted: bool) -> None:
    random = np.random.default_rng(k)
    importance = random.lognormal(size=k).astype("<f4") if weighted else None
    rows = (random.standard_normal((64, k)) if tail == "normal" else random.laplace(size=(64, k))).astype(
        "<f4"
    )
    grid = GRIDS[layout]
    ours, (plain,) = ENCODERS[layout](rows, importance), grid.pack(grid.quantize(rows, importance))
    assert ours.shape == plain.shape
    assert (ours != plain).mean() < 0.05  # a scale between two of its 8-bit values
    restored = (grid.restore(grid.unpack(each, k)) for each in (ours, plain))
    weights = 1 if importance is None else np.sqrt(importance)
    errors = [np.linalg.norm((each - rows) * weights) for each in restored]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


@pytest.mark.parametrize("layout", ENCODERS)
def test_rows_of_zeros_and_of_extremes(layout: str) -> None:
    rows = np.zeros((32, 64), np.float32)
    rows[1, 3], rows[2, 40], rows[3] = 1e-42, -5, 1e15
    grid = GRIDS[layout]
    ours = grid.restore(grid.unpack(ENCODERS[layout](rows, None), 64))
    assert np.allclose(ours, grid.changed(rows), rtol=1e-5)
    assert not ours[0].any() and not ours[4:].any()


@pytest.mark.parametrize("layout", ENCODERS)
def test_importance_lowers_the_error_where_it_is(layout: str) -> None:
    random = np.random.default_rng(1)
    rows = random.standard_normal((64, 256)).astype("<f4")
    importance = np.where(np.arange(256) % 8 == 0, 100, 1).astype("<f4")
    grid = GRIDS[layout]
    errors = [
        np.square(grid.restore(grid.unpack(ENCODERS[layout](rows, each), 256)) - rows) @ importance
        for each in (importance, None)
    ]
    assert errors[0].sum() < 0.9 * errors[1].sum()


@pytest.mark.parametrize("layout", ENCODERS)
def test_wrong_shapes_are_refused(layout: str) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        ENCODERS[layout](np.zeros((15, 32), np.float32), None)
    with pytest.raises(ValueError, match="multiple of 16"):
        ENCODERS[layout](np.zeros(32, np.float32), None)
    with pytest.raises(ValueError, match="one number a column"):
        ENCODERS[layout](np.zeros((16, 32), np.float32), np.zeros(31, np.float32))
