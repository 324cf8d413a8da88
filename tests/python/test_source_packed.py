"""AWQ, GPTQ and compressed-tensors checkpoints, packed here in the layouts that their makers write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.converters import models, sources
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.sources._packed import PackedCheckpoint
from edgekit.errors import EdgekitError, UnsupportedModel

pytest.importorskip("transformers", reason="needs the [test] extra")

from packed_checkpoints import quantize, save
from tiny_models import make_checkpoint

COMPRESSED = ("pack-quantized", "int-quantized")


@pytest.mark.parametrize(
    ("method", "bits", "options"),
    [
        ("gptq", 4, {}),
        ("gptq", 4, {"shuffled": True}),
        ("gptq", 4, {"symmetric": True}),
        ("gptq", 8, {}),
        ("gptq", 2, {}),
        ("awq", 4, {}),
        ("pack-quantized", 4, {}),
        ("pack-quantized", 4, {"symmetric": True}),
        ("pack-quantized", 8, {"symmetric": True}),
        ("int-quantized", 8, {}),
        ("int-quantized", 8, {"symmetric": True}),
    ],
)
def test_weights_are_what_the_codes_stand_for(
    method: str, bits: int, options: dict[str, bool], tmp_path: Path
) -> None:
    source = make_checkpoint("llama", tmp_path / "hf")
    directory, want = quantize(source, tmp_path / "packed", method, bits, **options)
    opened = sources.open_source(directory)
    assert isinstance(opened, PackedCheckpoint)
    for name, values in want.items():
        assert np.allclose(opened.read(name), values, atol=1e-6), name
        assert np.array_equal(opened.read(name, (3, 17)), opened.read(name)[3:17]) or values.ndim == 1
    assert models.open_model(opened).spec == models.open_model(Checkpoint(source)).spec
    name = "model.layers.0.self_attn.q_proj.weight"
    layout = opened.layout(name)
    assert layout is not None and layout.bits == bits
    assert opened.layout("model.norm.weight") is None
    if options.get("shuffled"):
        assert layout.zero == "other"
        return
    assert (layout.group, layout.zero) == (16, "middle" if options.get("symmetric") else "whole")
    codes = opened.codes(name, (3, 17)).regrouped(8)
    values = codes.codes * np.repeat(codes.scale, 8, 1) + np.repeat(codes.offset, 8, 1)
    assert np.allclose(values, want[name][3:17], atol=1e-6)


@pytest.mark.parametrize("method", ["gptq", "awq", *COMPRESSED])
@pytest.mark.parametrize("damage", ["zeros", "zero's shape", "scales", "NaN", "shape", "bits", "nothing"])
def test_damaged_checkpoints_are_errors(method: str, damage: str, tmp_path: Path) -> None:
    source = make_checkpoint("llama", tmp_path / "hf")
    directory, _ = quantize(source, tmp_path / "packed", method, 8 if method == "int-quantized" else 4)
    opened = sources.open_source(directory)
    assert isinstance(opened, PackedCheckpoint)
    path = "model.layers.0.self_attn.q_proj"
    zeros = f"{path}.{'weight_zero_point' if method in COMPRESSED else 'qzeros'}"
    scales, weight = f"{path}.{opened.SCALES}", f"{path}.{opened.WEIGHT}"
    config = json.loads((directory / "config.json").read_text())
    tensors: dict[str, Any] = {n: opened.read_raw(n)[1] for n in opened.tensors}
    if damage == "shape":
        tensors[weight] = tensors[weight][:, :-1].copy()
    elif damage == "bits":
        config["quantization_config"] |= {"bits": 7, "config_groups": {"g": {"weights": {"num_bits": 7}}}}
    elif damage == "NaN":
        tensors[scales] = np.full_like(tensors[scales], np.nan)
    elif damage == "zero's shape":
        tensors[zeros] = tensors[zeros][:, :-1].copy()
    elif damage == "zeros" and method not in COMPRESSED:  # which has none where they are in the middle
        del tensors[zeros]
    elif damage == "scales":
        del tensors[scales]
    else:
        config["quantization_config"]["format"] = "unheard-of"
        if method not in COMPRESSED:
            config["quantization_config"]["quant_method"] = "unheard-of"
    with pytest.raises(EdgekitError):
        broken = sources.open_source(save(tmp_path / "broken", config, tensors))
        broken.info(f"{path}.weight")
        broken.read(f"{path}.weight")


def test_other_quantizations_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes"}}
    with pytest.raises(UnsupportedModel, match="bitsandbytes"):
        sources.open_source(save(tmp_path / "bnb", config, {"x": np.zeros(1, np.float32)}))
