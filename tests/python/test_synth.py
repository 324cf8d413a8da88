"""Synthetic checkpoints: the shape of a real one, readable by everyone, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import TINY_CONFIGS

from edgekit.converters import checkpoint_writer, models, synth
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.interpreters.numpy import Reference
from edgekit.errors import IoFailure, UnsupportedModel, UsageError

# rows in another order, stacks, functions, no weights, rows by turns, stacks of two parts
NEW = ("helium", "gpt_oss", "apertus", "nanochat", "qwen3_next", "granitemoehybrid_mamba_experts")


@pytest.mark.parametrize("name", ["llama_mqa", "phi3", "gemma3", "lfm2_bias", "qwen3_moe", "stablelm", *NEW])
def test_a_synthetic_checkpoint_is_a_model_of_its_family(name: str, tmp_path: Path) -> None:
    synth.synth(TINY_CONFIGS[name], tmp_path / "m")
    model = models.open_model(Checkpoint(tmp_path / "m"))
    assert model.source.info(model.tensors["embed"].name)[0] == "BF16"
    logits = Reference(model.spec, model.load).logits(list(range(20)))
    assert np.isfinite(logits).all()
    assert 0.01 < logits.std() < 100


def test_shards_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TINY_CONFIGS["llama"]
    synth.synth(config, tmp_path / "a", seed=3)
    synth.synth(config, tmp_path / "b", seed=3)
    synth.synth(config, tmp_path / "c", seed=4)
    assert Checkpoint(tmp_path / "a").sha256() == Checkpoint(tmp_path / "b").sha256()
    assert Checkpoint(tmp_path / "a").sha256() != Checkpoint(tmp_path / "c").sha256()
    monkeypatch.setattr(checkpoint_writer, "SHARD_BYTES", 100_000)
    monkeypatch.setattr(synth, "BLOCK", 1000)
    synth.synth(config, tmp_path / "d", seed=3)
    sharded = Checkpoint(tmp_path / "d")
    assert len(sharded.files) == 3
    assert all(file.stat().st_size < 110_000 for file in sharded.files)
    assert sharded.names() == Checkpoint(tmp_path / "a").names()
    norm = sharded.read("model.layers.0.input_layernorm.weight")
    assert 0.5 < norm.min() < norm.max() < 1.5


def test_refusals_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedModel):
        synth.synth({"model_type": "bert"}, tmp_path / "m")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("mine")
    with pytest.raises(UsageError, match="not an empty directory"):
        synth.synth(TINY_CONFIGS["llama"], tmp_path / "full")
    usage = checkpoint_writer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint_writer.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(IoFailure, match="10 are free"):
        synth.synth(TINY_CONFIGS["llama"], tmp_path / "m")
    monkeypatch.undo()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth.synth(TINY_CONFIGS["llama"], tmp_path / "m", progress=fail)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_transformers_loads_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the [test] extra")
    torch = pytest.importorskip("torch")
    synth.synth(TINY_CONFIGS["qwen3"], tmp_path / "m")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    model = models.open_model(Checkpoint(tmp_path / "m"))
    ids = list(range(25))
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    ours = Reference(model.spec, model.load).logits(ids)
    assert np.abs(ours - expected).max() <= 1e-4 * np.abs(expected).max()
    assert json.loads((tmp_path / "m" / "config.json").read_text())["torch_dtype"] == "bfloat16"
