"""Codes chosen by what the model does: second moments, GPTQ, and `convert --calibrate` in every format."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat_model
import tiny_models
from safetensors.numpy import load_file, save_file

import edgekit
from edgekit.converters import convert as source
from edgekit.converters import formats
from edgekit.converters.calibrate import gptq, second_moments, sensitivity
from edgekit.converters.calibrate.store import Store
from edgekit.converters.convert import ConvertInput
from edgekit.converters.interpreters.numpy import Array, Reference
from edgekit.converters.quality import compare, log_softmax
from edgekit.converters.quant.affine import Affine
from edgekit.converters.quant.blocks import Blocks
from edgekit.converters.quant.grid import Grid
from edgekit.converters.quant.palette import Palette
from edgekit.converters.quant.q4_block32 import Q4Block32
from edgekit.errors import InvalidFile, UnsupportedModel, UsageError

GRID = Q4Block32()
TEXTS = [[(7 * i + 31 * text) % 190 for i in range(40 + text)] for text in range(12)]
TALES = (
    "".join(
        f"{name} {did} {what}. "
        for name, did, what in itertools.product(
            ("Ann", "The old fox", "Nobody"),
            ("saw", "sold", "painted", "forgot"),
            ("a boat", "the moon", "seven keys"),
        )
    )
    * 4
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ConvertInput:
    return source.read(tiny_models.make_checkpoint("llama", tmp_path_factory.mktemp("models")), "llama")


def inputs(tokens: int, columns: int, seed: int = 0) -> Array:
    """Correlated, and of unequal size."""
    rng = np.random.default_rng(seed)
    mixed = np.random.default_rng(9).normal(size=(columns, columns)) / columns**0.5 + np.eye(columns)
    sizes = np.exp(np.random.default_rng(8).normal(size=columns))
    return np.asarray(rng.normal(size=(tokens, columns)) @ mixed * sizes, np.float32)


def error(x: Array, change: Array) -> float:
    return float(np.square(x @ change.T).sum())


def test_second_moments_are_those_of_each_matrix_inputs(model: ConvertInput) -> None:
    met: dict[str, list[Array]] = {}

    class Listening(Reference):
        def product(self, x: Array, name: str) -> Array:
            met.setdefault(name, []).append(x)
            return super().product(x, name)

    listening = Listening(model.spec, model.load)
    hidden = np.concatenate([listening.hidden(text) for text in TEXTS])
    moments = second_moments.measure(model, TEXTS)
    everything = {name: np.concatenate(parts) for name, parts in met.items()} | {"head": hidden}
    assert moments.keys() == {"embed" if name == "head" and model.spec.tied else name for name in everything}
    for name, x in everything.items():
        wanted = second_moments.of(second_moments.bounded(x))
        found = moments["embed" if name == "head" and model.spec.tied else name]
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_massive_activation_counts_as_a_large_one() -> None:
    x = np.ones((100, 8), np.float32)
    x[0, 3] = 1e4
    assert second_moments.of(second_moments.bounded(x))[3] < 2
    assert second_moments.of(x)[3] > 1e5


def test_a_column_that_the_text_does_not_use_still_counts() -> None:
    x = np.ones((10, 8), np.float32)
    x[:, 5] = 0
    assert second_moments.of(x)[5] > 0


@pytest.mark.parametrize(
    "grid",
    [GRID, Affine(4, 64, "F16"), Affine(3, 32, "F16"), Blocks(4, 32, "F16"), Palette(4, "F16")],
    ids=str,
)
def test_codes_make_up_for_the_errors_of_those_before(grid: Grid) -> None:
    w = np.random.default_rng(1).normal(size=(48, 160)).astype(np.float32)
    w = w[:, : 160 // (grid.group or 32) * (grid.group or 32)]
    x, fresh = inputs(2000, w.shape[1]), inputs(2000, w.shape[1], seed=1)
    found = gptq.quantize(w, grid, gptq.Inputs(x, len(x)))
    nearest = grid.quantize(w, second_moments.of(x))
    assert found.codes.shape == w.shape and found.codes.dtype == nearest.codes.dtype
    for ours, theirs in zip(found.parameters.groups, nearest.parameters.groups, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert error(fresh, grid.restore(found) - w) < 0.85 * error(fresh, grid.restore(nearest) - w)


def test_the_walk_has_a_factor_of_the_inverse() -> None:
    known = gptq.Inputs(x := inputs(2000, 300), 2000)
    factor = known.inverse.astype(np.float64)
    np.testing.assert_array_equal(factor, np.triu(factor))
    x = second_moments.bounded(x) / np.sqrt(known.moment)
    wanted = (1 - gptq.SHRINKAGE) * (x.T @ x) / len(x)
    np.fill_diagonal(wanted, 1)
    size = np.sqrt(known.moment)
    np.testing.assert_allclose(np.linalg.inv(factor.T @ factor) / np.outer(size, size), wanted, atol=0.1)


def test_where_there_is_nothing_to_learn_the_nearest_codes_stay() -> None:
    """Inputs without any correlation: what the walk takes for one is noise."""
    w = np.random.default_rng(1).normal(size=(48, 128)).astype(np.float32)
    x = np.random.default_rng(2).normal(size=(gptq.TOKENS, 128)).astype(np.float32)
    known = gptq.Inputs(x, len(x))
    walked = GRID.restore(gptq.walk(w, GRID, known.moment, known.inverse))
    nearest = GRID.changed(w, known.moment)
    fresh = np.random.default_rng(3).normal(size=(4000, 128)).astype(np.float32)
    assert error(fresh, walked - w) > error(fresh, nearest - w)
    np.testing.assert_array_equal(GRID.restore(gptq.quantize(w, GRID, known)), nearest)


def test_inputs_that_changed_are_made_up_for() -> None:
    w = np.random.default_rng(1).normal(size=(48, 64)).astype(np.float32)
    wanted = inputs(4000, 64)
    x = wanted * np.float32(0.8)  # what came before made all of it smaller
    with_it, without = (
        GRID.restore(gptq.quantize(w, GRID, gptq.Inputs(x, len(x), before))) for before in (wanted, None)
    )
    asked = wanted @ w.T
    assert np.square(x @ with_it.T - asked).sum() < 0.5 * np.square(x @ without.T - asked).sum()


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_codes_of_the_output_are_chosen_too(name: str, tmp_path: Path) -> None:
    """Of a matrix of its own, and of one that is the embedding too."""
    model = source.read(tiny_models.make_checkpoint(name, tmp_path), name)
    output, store = "embed" if model.spec.tied else "head", Store(tmp_path / "codes")
    moments = gptq.choose(model, {output: GRID}, TEXTS, store)
    fresh = [[(11 * i + 17 * text) % 190 for i in range(40)] for text in range(6)]
    w, chosen = model.load(output), store.get(output, GRID)
    assert w is not None and chosen is not None
    divergence = []
    for values in (GRID.restore(chosen), GRID.changed(w, moments[output])):

        def load(wanted: str, rows: tuple[int, int] | None = None) -> Array | None:
            found = values if wanted == output else model.load(wanted)  # noqa: B023
            return found if found is None or rows is None else found[slice(*rows)]

        right, wrong = Reference(model.spec, model.load), Reference(model.spec, load)
        found = [compare("", text, wrong.logits(text), right.logits(text)).kl_mean for text in fresh]
        divergence.append(np.mean(found))
    assert divergence[0] < 0.9 * divergence[1]


def bodies(model: ConvertInput) -> dict[str, Grid]:
    kept = ("embed", "head", "router")
    return {name: GRID for name in model.spec.matrices() if name.rpartition(".")[2] not in kept}


@pytest.mark.parametrize("name", ["llama", "lfm2", "qwen3_moe"])
def test_what_was_interrupted_goes_on_to_the_same_codes(tmp_path: Path, name: str) -> None:
    model = source.read(tiny_models.make_checkpoint(name, tmp_path), name)
    at_once, in_two = Store(tmp_path / "at once"), Store(tmp_path / "in two")
    gptq.choose(model, bodies(model), TEXTS, at_once)

    def killed(task: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gptq.choose(model, bodies(model), TEXTS, in_two, killed)
    first = {path: path.stat().st_mtime_ns for path in in_two.folder.iterdir()}
    assert first
    damaged = min(first)
    damaged.write_bytes(damaged.read_bytes()[:100])
    gptq.choose(model, bodies(model), TEXTS, in_two)
    assert all(path.stat().st_mtime_ns == first[path] for path in first if path != damaged)
    names = {path.name for path in at_once.folder.iterdir()}
    assert names == {path.name for path in in_two.folder.iterdir()}
    met = [each for each in bodies(model) if at_once.get(each, GRID)]
    experts = [each for each in bodies(model) if ".experts." in each]  # one that no token chose has no codes
    assert [each for each in met if each not in experts] == [
        each for each in bodies(model) if each not in experts
    ]
    assert not experts or set(met) & set(experts)
    for each in met:
        ours, theirs = (store.get(each, GRID) for store in (in_two, at_once))
        assert ours and theirs
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        np.testing.assert_array_equal(GRID.restore(ours), GRID.restore(theirs))


def test_codes_are_found_as_soon_as_they_are_stored(tmp_path: Path) -> None:
    store, fitted = Store(tmp_path / "new"), GRID.quantize(inputs(16, 64))
    assert store.get("layers.0.q", GRID) is None
    store.put("layers.0.q", GRID, fitted)
    found = store.get("layers.0.q", GRID)
    assert found is not None
    np.testing.assert_array_equal(GRID.restore(found), GRID.restore(fitted))


def test_sensitivity_foretells_the_divergence(model: ConvertInput) -> None:
    """Of noise in one matrix, measured."""
    torch_texts = TEXTS[:6]
    costs = sensitivity.measure(model, torch_texts * 8)
    assert costs.keys() == set(model.spec.matrices())
    right = Reference(model.spec, model.load)
    for name in ("layers.0.v", "layers.1.down", "layers.2.gate", "head" if not model.spec.tied else "embed"):
        w = model.load(name)
        assert w is not None
        share = 1e-4
        rms = np.sqrt(np.square(w).mean(1, keepdims=True))
        noise = np.random.default_rng(3).normal(size=w.shape) * rms * share**0.5
        changed = (w + noise).astype(np.float32)

        def load(wanted: str, rows: tuple[int, int] | None = None) -> Array | None:
            values = changed if wanted == name else model.load(wanted)  # noqa: B023
            return values if values is None or rows is None else values[slice(*rows)]

        wrong = Reference(model.spec, load)
        divergence = []
        for text in torch_texts:
            p, q = log_softmax(right.logits(text)), log_softmax(wrong.logits(text))
            divergence.append((np.exp(p) * (p - q)).sum(1).mean())
        assert np.mean(divergence) == pytest.approx(costs[name] * share, rel=0.5), name


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "tales.txt").write_text(TALES)
    return tiny_chat_model.write(tmp_path / "tiny")


@pytest.mark.parametrize(
    ("name", "scheme", "out"),
    [("edge", "q4", "m.edge"), ("mlx", "q4_g32", "m"), ("onnx", "q4", "m"), ("gguf", "q4_0", "m.gguf")],
)
def test_every_format_takes_calibrated_codes(
    checkpoint: Path, tmp_path: Path, name: str, scheme: str, out: str
) -> None:
    model = source.read(checkpoint, "tiny")
    text = np.array(list(TALES.encode())[:400])  # a byte is a token
    errors = {}
    for texts in (None, (), tmp_path / "tales.txt"):
        target = tmp_path / str(texts is None) / str(texts == ()) / out
        target.parent.mkdir(parents=True)
        report = edgekit.convert(
            checkpoint, target, format=name, scheme=scheme, calibrate=texts, verify=False
        )
        output = formats.read_back(name, target, model.spec)
        p, q = (
            log_softmax(reference.logits(text))
            for reference in (Reference(model.spec, model.load), output.reference())
        )
        errors[report.calibration and report.calibration["algorithm"]] = (np.exp(p) * (p - q)).sum(1).mean()
    assert errors.keys() == {None, "second moments", "gptq"}
    assert errors["gptq"] < errors[None] != errors["second moments"] != errors["gptq"]
    home = edgekit.hub.home() / "calibrated"
    assert not [left for left in home.iterdir() if left.is_dir()]  # what a kill would have left


def test_the_package_says_how_its_codes_were_chosen(checkpoint: Path, tmp_path: Path) -> None:
    def package(out: str, **options: Any) -> bytes:
        edgekit.convert(checkpoint, tmp_path / out, scheme="q4", verify=False, **options)
        return (tmp_path / out).read_bytes()

    text = tmp_path / "tales.txt"
    text.write_text(TALES * 8)
    one, same, other = (package("m.edge", calibrate=text, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    with edgekit.Model(tmp_path / "m.edge") as model:
        record = model.metadata["calibration"]
    assert record["algorithm"] == "gptq" and record["texts"] == ["tales.txt"] and record["seed"] == 2
    assert 8000 < record["tokens"] <= 8192


def test_a_mix_spends_its_bits_where_the_text_finds_harm(checkpoint: Path, tmp_path: Path) -> None:
    """Values that an output of zeros lets through nowhere."""
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.0.self_attn.o_proj.weight"][:] = 0
    save_file(weights, checkpoint / "model.safetensors")
    bits = {}
    for texts in ((), tmp_path / "tales.txt"):
        report = edgekit.convert(
            checkpoint, tmp_path / "m.edge", target_bpw=14, calibrate=texts, verify=False
        )
        assert report.grids is not None
        bits[texts == ()] = {name: int(grid[1]) for name, grid in report.grids.items()}
    assert bits[True]["layers.0.v"] > bits[False]["layers.0.v"] == min(bits[False].values())


@pytest.mark.parametrize("tokens", [1, 2, 16, 17, 33])
def test_texts_of_any_length_are_compared(tokens: int) -> None:
    rng = np.random.default_rng(0)
    got, want = rng.normal(size=(2, tokens, 50)).astype(np.float32)
    ids = [3 * i % 50 for i in range(tokens)]
    found = compare("", ids, got, want)
    following = log_softmax(got)[range(tokens - 1), ids[1:]]
    assert found.ppl == pytest.approx(np.exp(-following.mean()) if tokens > 1 else 1)
    assert found.kl_mean > 0


def test_what_needs_no_calibration_gets_none(checkpoint: Path, tmp_path: Path) -> None:
    report = edgekit.convert(checkpoint, tmp_path / "m.edge", scheme="q8", verify=False)
    assert report.calibration is None


def test_refusals_leave_nothing(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    out = tmp_path / "m.edge"
    with pytest.raises(UsageError, match=r"no text to calibrate with in .*empty\.txt"):
        edgekit.convert(checkpoint, out, scheme="q4", calibrate=tmp_path / "empty.txt")
    with pytest.raises(InvalidFile, match=r"gone\.txt: cannot read it"):
        edgekit.convert(checkpoint, out, scheme="q4", calibrate=tmp_path / "gone.txt")
    with pytest.raises(UsageError, match="less than 8 bits"):
        edgekit.convert(checkpoint, out, scheme="q8", calibrate=tmp_path / "tales.txt")
    mute = tiny_chat_model.write(tmp_path / "mute", tokenizer=False)
    with pytest.raises(UnsupportedModel, match="no tokenizer"):
        edgekit.convert(mute, out, scheme="q4", calibrate=tmp_path / "tales.txt")
    assert edgekit.convert(mute, out, scheme="q4", verify=False).calibration is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "empty.txt",
        "m.edge",
        "mute",
        "tales.txt",
        "tiny",
    ]


def test_scales_are_tuned_on_more_of_the_text(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the [train] extra")
    checkpoint, text = tiny_chat_model.write(tmp_path / "checkpoint"), tmp_path / "tales.txt"
    text.write_text(TALES, "utf-8")
    tuned = edgekit.convert(checkpoint, tmp_path / "m.edge", scheme="q4", calibrate=text, tune=4096)
    assert tuned.calibration is not None
    said = tuned.calibration["tuned"]
    assert said["kl_after"] < said["kl_before"] and said["tokens"] > 2000
    plain = edgekit.convert(checkpoint, tmp_path / "p.edge", scheme="q4", calibrate=text)
    assert (tmp_path / "m.edge").read_bytes() != (tmp_path / "p.edge").read_bytes()
    assert tuned.bytes is not None and plain.bytes is not None and abs(tuned.bytes - plain.bytes) < 4096
    with pytest.raises(UsageError, match="at least one"):
        edgekit.convert(checkpoint, tmp_path / "m.edge", scheme="q4", tune=4096)
