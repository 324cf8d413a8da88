"""The GPU against the processor: the same logits, cells that either reads, and a text that goes on. Any
adapter of wgpu-native will do; in CI it is Mesa's lavapipe.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not os.environ.get("EDGEKIT_GPU"):
    pytest.skip("EDGEKIT_GPU=1 runs these; .ci/run gpu installs an adapter", allow_module_level=True)
pytest.importorskip("torch", reason="tiny models need the test extra: pip install edgekit[test]")

from tiny_models import TINY_CONFIGS, make_package

from edgekit import Model, UnsupportedModel
from edgekit.converters.formats import edge

LENGTH = 40
LAYOUTS = "f32 f16 bf16 q8_block32 q6_block32 q5_block32 q4_block32 q3_block32 q4_affine32".split()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


def tokens(model: Model, count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, model.vocab_size, count).tolist()


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the spread of the logits."""
    return float(np.abs(got - expected).max() / (expected.max() - expected.min()))


def agree(gpu: Model, cpu: Model, count: int, pieces: list[slice]) -> None:
    """One of three texts agrees to 1e-4 at every position, and none before it is far off. An activation
    that lies between two of its 8-bit codes to the last bit of a sum may take the other one: from there on
    a text differs by a step of that code.
    """
    options: dict[str, Any] = {"window": count, "sinks": 0, "kv": "f32"}
    differences: list[float] = []
    while not differences or differences[-1] > 1e-4:
        ids = tokens(gpu, count, seed=len(differences))
        ours, theirs = gpu.session(**options), cpu.session(**options)
        got = np.concatenate([ours.forward(ids[piece]) for piece in pieces])
        differences.append(relative(got, theirs.forward(ids)))
        assert differences[-1] <= 2e-2 and len(differences) <= 3, differences


def pair(path: Path) -> tuple[Model, Model]:
    return Model(path, backend="gpu"), Model(path, threads=1, backend="cpu")


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_every_family_is_computed_or_refused(name: str, directory: Path) -> None:
    path = make_package(name, directory)
    gpu, cpu = pair(path)
    if gpu.relayed:
        assert gpu.relayed.startswith("the GPU does not compute")
        return
    agree(gpu, cpu, LENGTH, [slice(None)])
    ids = tokens(gpu, LENGTH)
    session = gpu.session(window=LENGTH, sinks=0, kv="f32")
    expected = session.forward(ids[:-1])[-1:], session.forward(ids[-1:])
    session.reset()  # rows whose logits nobody wants leave the last layer early
    assert np.array_equal(session.forward(ids[:-1], all_logits=False), expected[0])
    assert np.array_equal(session.forward(ids[-1:]), expected[1])


def test_refusals_are_few(directory: Path) -> None:
    for name in (
        *("llama", "gemma3", "gemma4_shared", "gemma4_k_eq_v", "phi3", "lfm2", "stablelm_parallel"),
        *("qwen3_moe", "gpt_oss", "granite_swa", "hunyuan", "apertus"),
    ):
        assert not Model(make_package(name, directory), backend="gpu").relayed


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a token, for the four that share a tile, for a prompt."""
    monkeypatch.setattr(edge.Scheme, "layout", lambda self, name: layout)
    gpu, cpu = pair(make_package("llama", tmp_path))
    agree(gpu, cpu, 37, [slice(0, 1), slice(1, 4), slice(4, 37)])


@pytest.mark.parametrize("kv, tolerance", [("f32", 1e-4), ("f16", 1e-3), ("int8", 2e-3)])
@pytest.mark.parametrize("name", ["llama", "gemma3", "lfm2"])
def test_ring_and_sinks(name: str, kv: Any, tolerance: float, directory: Path) -> None:
    """Past the ring's end; what is taken back; a fork; and a text that changes sides twice."""
    gpu, cpu = pair(make_package(name, directory))
    ids = tokens(gpu, 120, seed=1)
    options: dict[str, Any] = {"window": 16, "sinks": 3, "kv": kv}
    ours, theirs = gpu.session(**options), cpu.session(**options)
    assert relative(ours.forward(ids), theirs.forward(ids)) <= tolerance
    for session in (ours, theirs):
        session.rewind(3)
    assert relative(ours.forward(ids[:2]), theirs.forward(ids[:2])) <= tolerance
    assert relative(ours.fork().forward(ids[:5]), theirs.fork().forward(ids[:5])) <= tolerance
    moved_to_cpu, moved_to_gpu = cpu.session(**options), gpu.session(**options)
    with tempfile.TemporaryDirectory() as folder:
        ours.save(f"{folder}/ours")
        theirs.save(f"{folder}/theirs")
        moved_to_cpu.restore(f"{folder}/ours")
        moved_to_gpu.restore(f"{folder}/theirs")
    expected = theirs.forward(ids[:9])
    for session in (ours, moved_to_cpu, moved_to_gpu):
        assert relative(session.forward(ids[:9]), expected) <= tolerance


def test_long_rings_are_cut_into_pieces(directory: Path) -> None:
    gpu, cpu = pair(make_package("llama", directory))
    ids = tokens(gpu, 700, seed=2)
    options: dict[str, Any] = {"window": 1100, "sinks": 4, "kv": "f16"}
    ours, theirs = gpu.session(**options), cpu.session(**options)
    for session in (ours, theirs):
        session.forward(ids[:-1], all_logits=False)
    assert relative(ours.forward(ids[-1:]), theirs.forward(ids[-1:])) <= 1e-3


def test_what_is_not_there_is_said(directory: Path) -> None:
    with pytest.raises(UnsupportedModel, match="not as int4"):
        Model(make_package("llama", directory), backend="gpu").session(kv="int4")
