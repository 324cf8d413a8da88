"""Recurrent layers in a session: a state goes one way, and yet texts are taken back, forked, saved, guessed
ahead and begun again, to the bit. `test_engine_parity.py` compares their logits with Transformers'.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the tiny models need the test extra: pip install edgekit[test]")

from tiny_models import make_package

from edgekit import DoneEvent, Model, Session, TextEvent, isas
from edgekit.converters.formats import edge

NAMES = ("qwen3_5", "mamba2", "falcon_h1")  # with attention in some layers, without, and in all


@pytest.fixture(scope="module", params=NAMES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(request.param, tmp_path_factory.mktemp("recurrent"))


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 199, count).tolist()


def generated(session: Session, prompt: list[int], speculation: int) -> tuple[list[int], DoneEvent]:
    ids: list[int] = []
    for event in session.generate(
        prompt, max_tokens=120, temperature=0, ignore_eos=True, speculation=speculation
    ):
        if isinstance(event, DoneEvent):
            return ids, event
        if isinstance(event, TextEvent):
            ids += event.tokens
    raise AssertionError("no end")


def test_a_text_taken_back_goes_on_as_if_it_had_never_been_there(path: Path) -> None:
    ids, random = tokens(150), np.random.default_rng(1)
    session = Model(path, threads=2).session(window=200, sinks=0, kv="f32")
    whole = session.forward(ids)
    for _ in range(60):
        session.rewind(int(random.integers(0, min(session.position, 80) + 1)))
        at = session.position
        session.forward(tokens(int(random.integers(1, 40)), seed=2)[: 150 - at])  # something else
        session.rewind(session.position - at)
        count = min(int(random.integers(1, 40)), len(ids) - at)
        if count:
            assert np.array_equal(session.forward(ids[at : at + count]), whole[at : at + count])


def test_rows_give_the_same_whatever_their_company(path: Path) -> None:
    ids = tokens(90)
    session = Model(path, threads=3).session(window=24, sinks=2)
    whole = session.forward(ids)
    session.reset()
    assert np.array_equal(np.concatenate([session.forward([id]) for id in ids]), whole)


def test_forks_and_saved_sessions_go_on_alike(path: Path, tmp_path: Path) -> None:
    ids = tokens(120)
    session = Model(path).session(window=40, sinks=2)
    session.forward(ids[:100])
    session.rewind(3)
    session.save(tmp_path / "session")
    fork = session.fork()
    expected = session.forward(ids[97:])
    assert np.array_equal(fork.forward(ids[97:]), expected)
    for isa in isas():
        other = Model(path, isa=isa).session(window=40, sinks=2)
        other.restore(tmp_path / "session")
        other.rewind(2)
        assert other.position == 95
        got = other.forward(ids[95:])[2:]
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_guesses_change_nothing(path: Path) -> None:
    model, prompt = Model(path), tokens(12) * 4
    plain, _ = generated(model.session(window=64), prompt, 0)
    guessed, done = generated(model.session(window=64), prompt, 7)
    assert guessed == plain
    if "attention" not in {layer.mixer for layer in edge.Package(path).spec.layers}:
        assert done.stats.drafted_tokens > done.stats.accepted_tokens  # some were wrong


def test_a_prompt_that_begins_like_the_text_is_not_read_again(path: Path) -> None:
    model, prompt = Model(path), tokens(60)
    session = model.session(window=400, sinks=2)
    generated(session, prompt, 0)
    again = [*prompt, *tokens(30, seed=3)]
    answer, done = generated(session, again, 0)
    assert done.stats.cached_tokens >= len(prompt)
    assert answer == generated(model.session(window=400, sinks=2), again, 0)[0]


def test_memory_is_the_same_at_any_length(path: Path) -> None:
    model = Model(path)
    session = model.session(window=32, sinks=2)
    session.forward(tokens(200), all_logits=False)
    sizes = []
    for _ in range(3):
        session.forward(tokens(1000), all_logits=False)
        session.save(path.with_suffix(".session"))
        sizes.append(path.with_suffix(".session").stat().st_size)
    assert np.diff(sizes).tolist() == [4000, 4000]  # the tokens themselves, of which the last are known
    if "attention" not in {layer.mixer for layer in edge.Package(path).spec.layers}:
        plans = [model.session(window=window, sinks=2).plan.cache_bytes for window in (64, 4096)]
        assert plans[0] == plans[1]
