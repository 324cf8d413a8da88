"""A session of fixed size and a long text: memory, exactness, perplexity and recall.

`docs/constant-memory.md` has the figures of longer runs; `tests/cpp/engine_test.cpp` counts allocations,
`test_engine_parity.py` compares the ring's logits with other implementations.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import tiny_chat_model

import edgekit

psutil = pytest.importorskip(
    "psutil", reason="resident memory is read with psutil: pip install edgekit[test]"
)

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import constant_memory

Result = TypeVar("Result")

RECURRENT = ROOT / "tests" / "golden" / "engine" / "recurrent.edge"
LAYERS = 2
SLOW = (
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("EDGEKIT_SLOW"), reason="takes minutes; EDGEKIT_SLOW=1 runs it"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edgekit.Model]:
    """Random weights, two layers."""
    directory = tmp_path_factory.mktemp("constant-memory")
    tiny_chat_model.write(directory / "tiny")
    edgekit.convert(directory / "tiny", directory / "tiny.edge", scheme="f32", verify=False)
    with edgekit.Model(directory / "tiny.edge", threads=1) as model:
        assert model.n_layers == LAYERS
        yield model


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edgekit.Model]:
    """The sample model, trained on stories."""
    path = tmp_path_factory.mktemp("constant-memory") / "sample.edge"
    edgekit.convert(ROOT / "samples" / "model", path, scheme="q4", verify=False)
    with edgekit.Model(path, threads=1) as model:
        yield model


def tokens(model: edgekit.Model, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, model.vocab_size, count).astype(np.int32)


# ---- memory ------------------------------------------------------------------------------------------------


def written(path: str, kv: str) -> constant_memory.LongRun:
    with edgekit.Model(path, threads=1) as model, model.session(window=64, kv=kv) as session:  # type: ignore[arg-type]
        run = constant_memory.write_long(session, 20_000)
        assert run.evicted >= run.tokens - session.plan.window - session.plan.sinks
        return run


def resident_while_read(path: str, count: int) -> list[int]:
    """Bytes after each thousand tokens of a prompt; the logits at its end are finite."""
    process = psutil.Process()
    with edgekit.Model(path, threads=1) as model, model.session(window=64, kv="int8") as session:
        ids = tokens(model, 30_000, seed=0)
        resident = []
        for start in range(0, count, 1000):
            begin = start % len(ids)
            logits = session.forward(ids[begin : begin + 1000])
            gc.collect()
            resident.append(process.memory_info().rss)
        assert session.position == count and np.isfinite(logits).all()
        return resident


def alone(run: Callable[[], Result]) -> Result:
    """In a process of its own: in that of the other tests torch and onnxruntime allocate too."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(run)


@pytest.mark.parametrize("kv", ["f16", "int8", "int4"])
def test_twenty_thousand_tokens_take_no_more_memory_than_two_thousand(tiny: edgekit.Model, kv: str) -> None:
    run = alone(partial(written, tiny.path, kv))
    assert run.tokens == 20_000
    assert run.planned_bytes < 4 << 20
    assert run.rss_kib[-1] - run.rss_kib[10] < 256  # KiB; all keys and values of the text would be 10 MB


def test_reading_a_long_text_takes_no_more_memory_than_its_chunks(tiny: edgekit.Model) -> None:
    resident = alone(partial(resident_while_read, tiny.path, 30_000))
    assert resident[-1] - resident[3] < 512 << 10


@pytest.mark.parametrize("count", [30_000, pytest.param(1_000_000, marks=SLOW)])
def test_a_recurrent_model_takes_no_more_memory_for_a_long_text(count: int) -> None:
    resident = alone(partial(resident_while_read, str(RECURRENT), count))
    print(f"resident bytes at token 4,000: {resident[3]}; at token {count:,}: {resident[-1]}")
    assert resident[-1] - resident[3] < 512 << 10


# ---- exactness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [99_991, pytest.param(9_999_991, marks=SLOW)])
def test_logits_far_into_a_text_are_those_at_its_start(tiny: edgekit.Model, depth: int) -> None:
    """Without sinks, a layer sees only distances: what the model says of a passage does not depend on where
    it stands, once all it can see is the passage.
    """
    window = 32
    passage = tokens(tiny, LAYERS * window + 100, seed=1)
    with tiny.session(window=window, sinks=0, kv="f32") as session:
        near = session.forward(passage)[-100:]
        session.reset()
        session.forward(tokens(tiny, depth, seed=2), all_logits=False)
        far = session.forward(passage)[-100:]
        assert session.position == depth + len(passage)
    assert np.abs(far - near).max() <= 1e-5 * np.abs(near).max()


def test_reading_with_a_ring_is_as_good_as_starting_anew(sample: edgekit.Model) -> None:
    """Perplexity of a long text in one session, against the same window computed afresh."""
    with sample.session(window=128, kv="int8") as session:
        written = [
            id
            for event in session.generate(
                "Once upon a time", max_tokens=1200, temperature=0.9, seed=3, ignore_eos=True
            )
            if event.kind == "text"
            for id in event.tokens
        ]
        text = np.array(sample.tokenizer.encode("Once upon a time") + written, np.int32)
        session.reset()
        ring = constant_memory.read_long(session, text)
        session.reset()
        anew = constant_memory.read_recomputed(session, text)
    assert len(ring) == len(anew) == len(text) - 1
    half = len(ring) // 2
    assert np.exp(ring[half:].mean() - anew[half:].mean()) < 1.1


# ---- recall ------------------------------------------------------------------------------------------------


def test_what_left_every_layer_s_view_is_forgotten_to_the_bit(tiny: edgekit.Model) -> None:
    window, sinks, length = 16, 4, 200
    ids = tokens(tiny, length, seed=4)

    def last_logits_without(position: int) -> np.ndarray:
        changed = ids.copy()
        changed[position] = (changed[position] + 1) % tiny.vocab_size
        with tiny.session(window=window, sinks=sinks, kv="f32") as session:
            return session.forward(changed, all_logits=False)[-1]

    with tiny.session(window=window, sinks=sinks, kv="f32") as session:
        logits = session.forward(ids, all_logits=False)[-1]
    inside = length - window
    beyond = length - LAYERS * (window - 1) - 2  # each layer passes on what it saw a window ago
    assert not np.array_equal(last_logits_without(inside), logits)
    assert not np.array_equal(last_logits_without(0), logits)  # a sink
    for forgotten in (beyond, beyond - 1, sinks + 10, sinks):
        assert np.array_equal(last_logits_without(forgotten), logits)


def test_a_name_inside_the_window_is_found_and_an_evicted_one_is_not(sample: edgekit.Model) -> None:
    """In nats of evidence for the name told, over a name not told."""
    window = 64
    distance, found = constant_memory.recall(sample, window, gap=32)
    assert distance < window and found > 0.5
    distance, kept = constant_memory.recall(sample, 256, gap=64)
    assert distance > window and kept > 0.5  # still there for a session that holds it
    distance, evicted = constant_memory.recall(sample, window, gap=64)
    assert distance > window and abs(evicted) < 0.25 * kept
    distance, gone = constant_memory.recall(sample, window, gap=sample.n_layers * window)
    assert abs(gone) < 1e-12  # but for the rounding of a mean
