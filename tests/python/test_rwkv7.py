"""RWKV-7 against mlx-lm's own code, since Transformers has none: references and engine."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

if importlib.util.find_spec("mlx_lm") is None:
    pytest.skip("mlx-lm is not installed (the [mlx] extra)", allow_module_level=True)

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import rwkv7 as theirs

from edgekit import Model, isas
from edgekit.converters import convert, synth
from edgekit.converters.formats import edge, onnx
from edgekit.converters.interpreters.numpy import Reference
from edgekit.errors import UnsupportedModel

CONFIG: dict[str, Any] = {
    "model_type": "rwkv7",
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 112,
    "head_dim": 16,
    "num_hidden_layers": 3,
    "norm_eps": 1e-5,
    "decay_low_rank_dim": 24,
    "a_low_rank_dim": 20,
    "v_low_rank_dim": 12,
    "gate_low_rank_dim": 40,
}
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 90)]


@pytest.fixture(scope="module", params=[{}, {"tie_word_embeddings": True, "head_dim": 32}])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A checkpoint of random weights, and what mlx-lm computes of it."""
    mx.set_default_device(mx.cpu)
    folder, config = tmp_path_factory.mktemp("rwkv7"), CONFIG | request.param
    model, random = theirs.Model(theirs.ModelArgs.from_dict(config)), np.random.default_rng(1)
    tensors = {}
    for name, value in tree_flatten(model.parameters()):
        values = random.standard_normal(value.shape).astype(np.float32)
        small = value.ndim < 2 or 1 in value.shape or name.endswith(("k_k", "k_a", "r_k", "g_norm.weight"))
        tensors[name] = values * 0.3 + 0.5 if small else values * np.float32(0.8 / value.shape[-1] ** 0.5)
    model.load_weights([(name, mx.array(values)) for name, values in tensors.items()])
    flat = ("k_k", "k_a", "g_norm.weight", "g_norm.bias")  # as its checkpoints have them
    save_file(
        {n: v.reshape(-1) if n.endswith(flat) else v for n, v in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder, np.array(model(mx.array([IDS]))[0])


def relative(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def test_the_references_agree(case: tuple[Path, Any]) -> None:
    folder, want = case
    model = convert.read(folder, "rwkv7")
    assert relative(Reference(model.spec, model.load).logits(IDS), want) <= 1e-5
    torch = pytest.importorskip("torch", reason="needs the [test] extra")
    from edgekit.converters.interpreters.torch import TorchDecoder

    names = [*model.tensors]
    weights = {name: torch.from_numpy(model.load(name)) for name in names}
    decoder = TorchDecoder(model.spec, weights.get)
    assert relative(decoder.logits(torch.tensor([IDS]))[0].numpy(), want) <= 1e-5


def test_the_engine_agrees(case: tuple[Path, Any], tmp_path: Path) -> None:
    folder, want = case
    path = tmp_path / "rwkv7.edge"
    edge.write(convert.read(folder, "rwkv7"), path, "f32")
    for isa in isas():
        session = Model(path, threads=2, isa=isa).session(window=64, sinks=0)
        whole = session.forward(IDS)
        assert relative(whole, want) <= 1e-4
        session.reset()
        assert np.array_equal(session.forward(IDS, all_logits=False)[-1], whole[-1])
        session.reset()
        assert np.array_equal(np.concatenate([session.forward([id]) for id in IDS]), whole)
        session.rewind(7)
        session.save(tmp_path / "session")
    random = np.random.default_rng(2)
    for _ in range(30):  # texts taken back go on as if they had never been there
        session.rewind(int(random.integers(0, min(session.position, 60) + 1)))
        at = session.position
        session.forward(IDS[: min(int(random.integers(1, 30)), len(IDS) - at) or 1])
        session.rewind(session.position - at)
        count = min(int(random.integers(1, 30)), len(IDS) - at)
        if count:
            assert np.array_equal(session.forward(IDS[at : at + count]), whole[at : at + count])
    other = Model(path, isa=isas()[0]).session(window=64, sinks=0)
    other.restore(tmp_path / "session")
    assert relative(other.forward(IDS[-7:]), want[-7:]) <= 1e-4


def test_a_synthetic_one_is_read(tmp_path: Path) -> None:
    synth.synth(CONFIG, tmp_path / "m")
    model = convert.read(tmp_path / "m", "rwkv7")
    assert np.isfinite(Reference(model.spec, model.load).logits(IDS[:5])).all()


def test_onnx_has_it_in_standard_operators_alone(case: tuple[Path, Any], tmp_path: Path) -> None:
    model = convert.read(case[0], "rwkv7")
    with pytest.raises(UnsupportedModel, match="recurrent layers"):
        onnx.write(model, tmp_path / "out", "f32")
    onnx.write_ring(model, tmp_path / "ring", "f32")
    with Model(tmp_path / "ring") as engine, engine.session() as session:
        assert relative(session.forward(IDS), case[1]) <= 1e-5
