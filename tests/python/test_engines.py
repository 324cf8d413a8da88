"""Engines of others behind edgekit's Model: the same checkpoint gives the same logits and the same text."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit import engines
from edgekit.converters import convert
from edgekit.converters.formats import coreml
from edgekit.errors import ContextFull, InvalidFile, OutOfBudget, UnsupportedModel, UsageError

SAMPLE = Path(__file__).parents[2] / "samples" / "model"
PROMPT = "Once upon a time, there was a little"


def of(backend: str, module: str) -> Any:
    missing = importlib.util.find_spec(module) is None
    return pytest.param(backend, marks=pytest.mark.skipif(missing, reason=f"needs {module}"))


BACKENDS = [of("llama_cpp", "llama_cpp"), of("mlx", "mlx_lm"), of("onnx", "onnxruntime")]
WRITTEN = {
    "llama_cpp": ("m.gguf", {"format": "gguf", "scheme": "q8_0"}),
    "mlx": ("mlx", {"format": "mlx", "scheme": "q8_g64"}),
    "onnx": ("onnx", {"format": "onnx", "scheme": "q8"}),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample model in 8 bits for each engine, and for edgekit's own."""
    out = tmp_path_factory.mktemp("engines")
    edgekit.convert(SAMPLE, out / "m.edge", scheme="q8", verify=False)
    for name, options in WRITTEN.values():
        edgekit.convert(SAMPLE, out / name, verify=False, **options)
    return {backend: out / name for backend, (name, _) in WRITTEN.items()} | {"cpu": out / "m.edge"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_and_text_are_those_of_edgekits_own_engine(backend: str, paths: dict[str, Path]) -> None:
    with edgekit.Model(paths["cpu"]) as model, model.session() as session:
        ids = model.tokenizer.encode(PROMPT)
        want = session.forward(ids)
        session.reset()
        text = "".join(e.text for e in session.generate(PROMPT, max_tokens=12, temperature=0))
    with edgekit.Model(paths[backend], backend=backend) as model, model.session(window=64) as session:
        assert model.vocab_size == want.shape[1] and model.tokenizer.encode(PROMPT) == ids
        got = session.forward(ids[:5])
        session.rewind(2)
        got = np.concatenate([got[:3], session.forward(ids[3:])])
        assert session.position == len(ids)
        assert np.abs(got - want).max() <= 0.05 * np.ptp(want)
        assert "".join(e.text for e in session.generate(PROMPT, max_tokens=12, temperature=0)) == text
        done = session.last_done
        assert done is not None and done.stats.cached_tokens == len(ids) - 1
        assert session.position == len(ids) + 11


def test_a_core_ml_package_runs_in_constant_memory(paths: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    coreml.write(convert.read(SAMPLE, "sample"), tmp_path / "out", "q8", window=24, chunk=8)
    with edgekit.Model(paths["cpu"]) as model, model.session() as session:
        ids = model.tokenizer.encode(PROMPT)
        want = session.forward(ids)
    with edgekit.Model(tmp_path / "out") as model, model.session() as session:
        assert np.abs(session.forward(ids[:5], all_logits=False) - want[4]).max() <= 0.05 * np.ptp(want)
        assert np.abs(session.forward(ids[5:]) - want[5:]).max() <= 0.05 * np.ptp(want)
        events = list(session.generate([7, *ids], max_tokens=20, temperature=0, ignore_eos=True))
        assert events[-1].finish == "length" and any(event.kind == "evicted" for event in events)
        assert session.position == len(ids) + 20
        with pytest.raises(UsageError, match="cannot be taken back"):
            session.rewind(1)
        with pytest.raises(UsageError, match="written for 24"):
            model.session(window=32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_full_window_ends_the_text(backend: str, paths: dict[str, Path]) -> None:
    with edgekit.Model(paths[backend], backend=backend) as model:
        with model.session(window=16) as session:
            events = list(session.generate(PROMPT, max_tokens=100, temperature=0, ignore_eos=True))
            assert events[-1].finish == "context_full" and session.position == 16
            with pytest.raises(ContextFull):
                session.forward([1])
        with pytest.raises(UsageError, match="cache ends when it is full"):
            model.session(window=16, sinks=4)
        with pytest.raises(UsageError, match="kv is 'int4'"):
            model.session(kv="int4")
        with pytest.raises(OutOfBudget) as caught:
            model.plan(window=16, memory_budget=10)
        assert model.plan(window=16, memory_budget=caught.value.needed_bytes).window == 16


def test_who_opens_what(paths: dict[str, Path], tmp_path: Path) -> None:
    for backend, path in paths.items():
        module = engines.of(path)
        assert module is not None and backend in module.BACKENDS
    assert engines.of(SAMPLE) is None
    with pytest.raises(UsageError, match="one of: auto, coreai, coreml, cpu, gpu, llama_cpp, mlx, onnx"):
        edgekit.Model(paths["cpu"], backend="tpu")


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_what_is_no_model_is_refused(backend: str, tmp_path: Path) -> None:
    path = tmp_path / ("m.gguf" if backend == "llama_cpp" else "m")
    if backend == "mlx":
        path.mkdir()
        (path / "config.json").write_text('{"model_type": "llama", "quantization": {}}')
    else:
        path.write_bytes(b"GGUF nothing")
    with pytest.raises(InvalidFile):
        edgekit.Model(path, backend=backend)


def test_an_engine_that_is_not_there_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "m.gguf").touch()
    for name in ("llama_cpp", "mlx_lm.models", "mlx_lm.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    for backend in ("llama_cpp", "mlx"):
        with pytest.raises(UnsupportedModel, match="not installed") as caught:
            edgekit.Model(tmp_path / "m.gguf", backend=backend)
        assert "pip install" in str(caught.value.hint)
