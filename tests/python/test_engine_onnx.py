"""The onnx backend has the manners of edgekit's own engine: the same text for the same options, the same
events.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

edgekit = pytest.importorskip("edgekit.model", reason="the native module is not built")

from edgekit.conversion import convert as convert_to
from edgekit.converters import convert
from edgekit.converters.formats import onnx
from edgekit.engines import onnx as onnx_engine
from edgekit.engines._sampler import Sampler, uniform
from edgekit.engines._text_stream import TextStream
from edgekit.errors import ContextFull, InvalidFile, OutOfBudget, UnsupportedModel, UsageError

SHARED = Path(os.environ.get("EDGEKIT_SHARED", Path(__file__).parents[2].parent / "shared"))
STORIES = SHARED / "data" / "weights" / "stories260K"
pytestmark = pytest.mark.skipif(not STORIES.exists(), reason="needs ../shared")


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("onnx")
    model = convert.read(STORIES / "hf-derived", "stories260K")
    onnx.write(model, out / "f32", "f32")
    onnx.write_ring(model, out / "ring", "f32", window=32, sinks=4)
    convert_to(STORIES / "hf-derived", out / "own.edge", scheme="f32", verify=False)
    return {"f32": out / "f32", "ring": out / "ring", "own": out / "own.edge"}


def test_greedy_text_is_the_expected_one(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["f32"]) as model, model.session() as session:
        text = "".join(event.text for event in session.generate("", max_tokens=200, temperature=0))
    assert text.strip() == (STORIES / "expected_greedy_200.txt").read_text().strip()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.9},
        {"temperature": 1.2, "top_k": 20},
        {"temperature": 1.0, "top_p": 0.7, "seed": 5},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 1.0, "typical_p": 0.8},
        {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.3},
        {"temperature": 0, "presence_penalty": 0.6, "frequency_penalty": 0.4},
        {"temperature": 0, "logit_bias": {403: -100.0}},
        {"temperature": 0, "stop": ["park"]},
    ],
)
def test_same_options_same_text(options: dict[str, object], directories: dict[str, Path]) -> None:
    results = []
    for name in ("f32", "own"):
        with edgekit.Model(directories[name]) as model, model.session(kv="f32", seed=0) as session:
            events = list(session.generate("One day,", max_tokens=60, **options))
            tokens = [id for event in events if event.kind == "text" for id in event.tokens]
            results.append(("".join(event.text for event in events), tokens, events[-1].finish))
    assert results[0] == results[1]


def test_the_ring_goes_on_as_the_engine_does(directories: dict[str, Path]) -> None:
    ids = [1, *np.random.default_rng(0).integers(3, 500, 150).tolist()]
    with edgekit.Model(directories["ring"]) as model, model.session() as session:
        got = session.forward(ids)
    with edgekit.Model(directories["own"]) as model, model.session(window=32, sinks=4, kv="f32") as session:
        want = session.forward(ids)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_evictions_are_events(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["ring"]) as model, model.session() as session:
        events = list(session.generate("Once", max_tokens=80, temperature=0, ignore_eos=True))
        evicted = [event for event in events if event.kind == "evicted"]
        assert evicted[0].first == 4
        assert sum(event.count for event in evicted) == session.position - 36
        assert all(a.first + a.count == b.first for a, b in itertools.pairwise(evicted))


def test_a_full_window_ends_the_text(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["f32"]) as model:
        with model.session(window=20) as session:
            events = list(session.generate("Once upon a time", temperature=0, ignore_eos=True))
            assert events[-1].finish == "context_full"
            assert session.position == 20
        with model.session(window=20, on_full="error") as session, pytest.raises(ContextFull):
            list(session.generate("Once upon a time", temperature=0, ignore_eos=True))


def test_what_two_prompts_share_is_not_computed_again(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["f32"]) as model, model.session() as session:
        first = list(session.generate("Once upon a time there was", max_tokens=5, temperature=0))
        again = list(session.generate("Once upon a time there was", max_tokens=5, temperature=0))
    assert again[-1].stats.cached_tokens == first[-1].stats.prompt_tokens - 1
    assert [e.text for e in first[:-1]] == [e.text for e in again[:-1]]


def test_ids_that_stop_and_the_seed_are_told(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["f32"]) as model, model.session() as session:
        events = list(session.generate("Once", max_tokens=9, temperature=1.0))
        again = list(session.generate("Once", max_tokens=9, temperature=1.0, seed=events[-1].seed))
        assert [event.text for event in again[:-1]] == [event.text for event in events[:-1]]
        first = again[0].tokens[0]
        stopped = list(session.generate("Once", temperature=1.0, seed=events[-1].seed, stop_ids=[first]))
        assert stopped[-1].finish == "stop" and stopped[-1].stats.generated_tokens == 0


def test_a_cache_that_is_another_is_refused(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["f32"]) as model:
        assert model.plan(sinks=0).sinks == 0
        with pytest.raises(UsageError, match=r"sinks is 4; .* ends when it is full"):
            model.plan(sinks=4)
    with edgekit.Model(directories["ring"]) as model:
        assert model.plan(window=32, sinks=4) == model.plan()
        for name in ("window", "sinks"):
            with pytest.raises(UsageError, match=f"{name} is 9; this directory was written for"):
                model.plan(**{name: 9})


@pytest.mark.parametrize("kind", ["f32", "ring"])
def test_ids_outside_the_vocabulary_are_refused(kind: str, directories: dict[str, Path]) -> None:
    with edgekit.Model(directories[kind]) as model, model.session() as session:
        session.forward([5, 6])
        for options in ({"stop_ids": [512]}, {"logit_bias": {512: 1.0}}):
            with pytest.raises(UsageError, match="a token id is 512"):
                session.generate("Once", **options)  # type: ignore[arg-type]
        assert session.position == 2


def test_tokens_taken_back_are_gone(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["f32"]) as model, model.session() as session:
        want = session.forward([5, 6, 7, 8])
        session.rewind(2)
        assert session.position == 2
        np.testing.assert_allclose(session.forward([7, 8]), want[2:], atol=1e-5)
        with pytest.raises(UsageError, match="cannot be taken back"):
            session.rewind(9)
        with pytest.raises(UnsupportedModel, match="not saved"):
            session.save("anywhere")


def test_a_budget_chooses_the_window(directories: dict[str, Path]) -> None:
    with edgekit.Model(directories["f32"]) as model:
        plan = model.plan(memory_budget=100_000)
        assert plan.total_bytes <= 100_000 < plan.total_bytes * (plan.window + 1) / plan.window
        with pytest.raises(OutOfBudget):
            model.plan(memory_budget=10)


def test_damaged_directories_are_errors(directories: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"model\.onnx"):
        edgekit.Model(tmp_path, backend="onnx")
    for damage in (b"", b"not a graph", (directories["f32"] / "model.onnx").read_bytes()[:-100]):
        (tmp_path / "model.onnx").write_bytes(damage)
        with pytest.raises(InvalidFile):
            edgekit.Model(tmp_path)


def test_options_outside_their_range_are_errors() -> None:
    for options in ({"temperature": -1.0}, {"top_p": 0.0}, {"min_p": 2.0}, {"repetition_penalty": 0.0}):
        with pytest.raises(UsageError):
            dataclasses.replace(Sampler(), **options)


def test_random_numbers_depend_on_seed_and_step() -> None:
    numbers = [uniform(seed, step) for seed in range(20) for step in range(50)]
    assert len(set(numbers)) == 1000 and min(numbers) >= 0 and max(numbers) < 1
    assert abs(np.mean(numbers) - 0.5) < 0.05


def test_text_is_held_back_while_it_may_be_a_stop() -> None:
    stream = TextStream(["END"])
    assert [stream.push(b"a E"), stream.push(b"N"), stream.push(b"O E"), stream.push(b"ND tail")] == [
        "a ",
        "",
        "ENO ",
        "",
    ]
    assert stream.stopped
    stream = TextStream([])
    euro = "€".encode()
    assert [stream.push(euro[:1]), stream.push(euro[1:2]), stream.push(euro[2:])] == ["", "", "€"]


def test_a_step_of_the_ring_takes_no_more_memory_however_long_the_text(directories: dict[str, Path]) -> None:
    session = onnx_engine.Engine(directories["ring"], None).session()
    session.position = 1 << 40  # a mask of that length would not fit any machine
    assert np.isfinite(session.forward(np.array([5], np.int32))).all()
    assert session.position == (1 << 40) + 1
