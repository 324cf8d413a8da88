"""Every grid keeps the protocol of converters/quant/grid.py; a toy one shows what a new one costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny_chat_model
from numpy.typing import NDArray

from edgekit.converters import convert, mix
from edgekit.converters.formats import edge
from edgekit.converters.quant import ggml
from edgekit.converters.quant.affine import Affine
from edgekit.converters.quant.block32 import Block32
from edgekit.converters.quant.blocks import Blocks
from edgekit.converters.quant.grid import Fitted, Grid, Parameters
from edgekit.converters.quant.microscaling import Microscaling
from edgekit.converters.quant.palette import Palette
from edgekit.errors import UsageError

CODED = [
    *(grid for grid in edge.GRIDS.values() if grid.bits <= 8),
    *(ggml.named(kind) for kind in ggml.LAYOUTS),
    *(Microscaling(mode) for mode in ("mxfp4", "mxfp8", "nvfp4")),
    Affine(4, 64, "F16"),
    Blocks(4, 32, "F16"),
    Palette(4, "F16"),
]
# Squared errors of Gaussian weights, relative to theirs, by the bits of a code.
ERRORS = {3: 0.027, 4: 0.017, 5: 0.004, 6: 0.0006, 8: 0.001}


class Q2Block32(Block32):
    """A toy: two bits and an engine that does not know it, by four levels in the planes there are."""

    def __init__(self) -> None:
        super().__init__("q2_block32", (-31, -10, 8, 25), (2,), (-31, 25), 3.4)


def gaussian(n: int = 48, k: int = 128) -> NDArray[np.float32]:
    return np.random.default_rng(k).standard_normal((n, k)).astype(np.float32)


def wide_enough(grid: Grid) -> NDArray[np.float32]:
    return gaussian(k=max(128, 2 * grid.span))


@pytest.mark.parametrize("grid", CODED, ids=str)
def test_a_grid_gives_back_what_it_can_hold(grid: Grid) -> None:
    rows = wide_enough(grid)
    fitted = grid.quantize(rows)
    restored = grid.restore(fitted)
    assert np.square(restored - rows).sum() <= ERRORS[grid.bits] * np.square(rows).sum()
    # What lies on the grid already is given back as it is.
    assert np.array_equal(
        grid.restore(Fitted(grid.nearest(restored, fitted.parameters), fitted.parameters)), restored
    )
    assert sum(part.nbytes for part in grid.pack(fitted)) in (
        grid.size_bytes(*rows.shape),
        rows.size + 3 * 32,
    )
    assert np.array_equal(grid.restore(fitted.rows(16, 32)), restored[16:32])


@pytest.mark.parametrize("grid", [grid for grid in CODED if grid.bits < 8], ids=str)
def test_importance_draws_the_error_to_other_columns(grid: Grid) -> None:
    rows = wide_enough(grid)
    importance = np.where(np.arange(rows.shape[1]) % 8 == 0, 100, 1).astype(np.float32)
    errors = [np.square(grid.changed(rows, each) - rows) @ importance for each in (importance, None)]
    assert errors[0].sum() < errors[1].sum()


@pytest.mark.parametrize("grid", [grid for grid in CODED if grid.group], ids=str)
def test_a_group_is_fitted_and_coded_alone(grid: Grid) -> None:
    """As calibration does, with the header of whole rows."""
    rows = wide_enough(grid)
    whole = grid.fit(rows)
    parts = [
        grid.fit(rows[:, first : first + grid.span], None, whole.header)
        for first in range(0, rows.shape[1], grid.span)
    ]
    beside = Parameters.beside(parts)
    for ours, theirs in zip(beside.groups, whole.groups, strict=True):
        assert np.array_equal(ours, theirs)
    codes = grid.nearest(rows, whole)
    for column in (0, 1, rows.shape[1] - 1):
        at = column // grid.group
        group = whole.columns(at, at + 1)
        one = grid.nearest(rows[:, column : column + 1], group)
        assert np.array_equal(one[:, 0], codes[:, column])
        want = grid.restore(Fitted(codes, whole))[:, column]
        assert np.array_equal(grid.restore(Fitted(one, group))[:, 0], want)


@pytest.mark.parametrize("grid", edge.GRIDS.values(), ids=str)
@pytest.mark.parametrize("k", [20, 172])
def test_tiles_hold_rows_of_any_length(grid: edge.TileGrid, k: int) -> None:
    rows = gaussian(19, k)
    fitted = grid.quantize(rows)
    (tiles,) = grid.pack(fitted)
    assert tiles.shape == (2, grid.tile_bytes(k))
    back = grid.unpack(tiles, k)
    assert np.array_equal(grid.restore(back)[:19], grid.restore(fitted))
    assert not grid.restore(back)[19:].any()


def test_a_toy_grid_is_a_class_and_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Q2Block32()
    monkeypatch.setitem(edge.GRIDS, toy.name, toy)
    monkeypatch.setitem(edge.SCHEME_OF_NAME, "toy", edge.Scheme(toy.name, ends="q8_block32"))
    model = convert.read(tiny_chat_model.write(tmp_path / "tiny"), "tiny")
    edge.write(model, tmp_path / "m.edge", "toy")
    assert (tmp_path / "m.edge").stat().st_size - edge.size_bytes(model, "toy") < 16384
    package = edge.Package(tmp_path / "m.edge")
    assert package.layout("layers.0.up") == toy.name and package.layout("embed") == "q8_block32"
    want, got = model.load("layers.0.up"), package.load("layers.0.up")
    assert want is not None and got is not None and np.array_equal(got, toy.changed(want))


def test_an_embedding_gets_the_bits_of_an_output_only_where_it_is_one(tmp_path: Path) -> None:
    model = convert.read(tiny_chat_model.write(tmp_path / "tiny"), "tiny")
    assert model.spec.tied
    apart = dataclasses.replace(
        model,
        spec=dataclasses.replace(model.spec, tied=False),
        tensors={**model.tensors, "head": model.tensors["embed"]},
    )
    body = [name for name in edge.grids(model, "q4") if name.startswith("layers.")]
    grids = [edge.GRIDS[f"q{bits}_block32"] for bits in (4, 6)]

    def bits(model: convert.ConvertInput, ends: list[str]) -> list[int]:
        names = [*body, *ends]
        sizes = [sum(grid.size_bytes(*model.spec.shape(name)) for name in names) for grid in grids]
        chosen = mix.allocate(model, names, grids, sum(sizes) // 2)
        return [chosen[name].bits for name in ends]

    assert bits(model, ["embed"]) == [6]
    assert bits(apart, ["embed", "head"]) == [4, 6]


def test_a_mix_fills_its_bytes_where_bits_count(tmp_path: Path) -> None:
    model = convert.read(tiny_chat_model.write(tmp_path / "tiny"), "tiny")
    names = [name for name in edge.grids(model, "mix") if name != "layers.0.router"]

    def size(grids: dict[str, Grid]) -> int:
        return sum(grid.size_bytes(*model.spec.shape(name)) for name, grid in grids.items())

    least, most = (size(dict.fromkeys(names, edge.GRIDS[each])) for each in ("q3_block32", "q8_block32"))
    budget = (least + most) // 2
    sensitivity = {name: 100.0 if name == "layers.1.down" else 1.0 for name in names}
    chosen = mix.allocate(model, names, edge.mixed(model), budget, sensitivity=sensitivity)
    assert 0.9 * budget < size(chosen) <= budget
    assert chosen["layers.1.down"].bits == max(grid.bits for grid in chosen.values())
    little = sensitivity | {"layers.1.down": 1e-6}
    chosen = mix.allocate(model, names, edge.mixed(model), budget, sensitivity=little)
    assert chosen["layers.1.down"].bits == 3
    with pytest.raises(UsageError, match=f"{least:,} to {most:,}"):
        mix.allocate(model, names, edge.mixed(model), least - 1)
