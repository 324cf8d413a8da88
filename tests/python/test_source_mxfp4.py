"""gpt-oss as published: Transformers unpacks the same values, and 8 bits keep every one of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [test] extra")
pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import TINY_CONFIGS, make_checkpoint

from edgekit.converters import convert
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.formats import edge
from edgekit.converters.sources import open_source
from edgekit.errors import InvalidFile


def packed(directory: Path, monkeypatch: pytest.MonkeyPatch, cut: int = 0) -> tuple[Path, dict[str, Any]]:
    """A tiny checkpoint whose experts are random codes, and those codes; `cut` leaves scales out."""
    from safetensors.numpy import save_file

    monkeypatch.setitem(TINY_CONFIGS, "gpt_oss_64", TINY_CONFIGS["gpt_oss"] | {"intermediate_size": 96})
    path = make_checkpoint("gpt_oss_64", directory)
    plain, random = Checkpoint(path), np.random.default_rng(0)
    stored, codes = {}, {}
    for name in plain.names():
        if not name.endswith(("gate_up_proj", "down_proj")):
            stored[name] = plain.read(name)
            continue
        experts, k, n = plain.info(name)[1]
        codes[f"{name}_blocks"] = random.integers(0, 256, (experts, n, k // 32, 16), np.uint8)
        codes[f"{name}_scales"] = random.integers(117, 126, (experts, n, k // 32 - cut), np.uint8)
    save_file(stored | codes, path / "model.safetensors")
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (path / "config.json").write_text(json.dumps(config))
    return path, codes


def test_every_value_is_transformers_and_survives_in_8_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    path, codes = packed(tmp_path, monkeypatch)
    source = open_source(path)
    for name in (n for n in source.names() if n.endswith(("gate_up_proj", "down_proj"))):
        parts = (torch.tensor(codes[f"{name}_{part}"]) for part in ("blocks", "scales"))
        want = convert_moe_packed_tensors(*parts, dtype=torch.float32).numpy()
        np.testing.assert_array_equal(source.read(name), want)
        np.testing.assert_array_equal(source.read(name, (1, 2)), want[1:2])
    model = convert.read(path, "gpt_oss")
    assert edge.default_scheme(model) == "q8"
    edge.write(model, tmp_path / "out.edge", "q8")
    package = edge.Package(tmp_path / "out.edge")
    for expert in ("layers.0.experts.0", "layers.2.experts.3"):
        for part in ("gate", "up", "down"):
            kept = package.load(f"{expert}.{part}")
            assert kept is not None
            np.testing.assert_array_equal(kept, model.load(f"{expert}.{part}"))
    assert not np.array_equal(package.load("head"), dataclasses.replace(model).load("head"))


def test_blocks_and_scales_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = packed(tmp_path, monkeypatch, cut=1)
    with pytest.raises(InvalidFile, match=r"down_proj: blocks U8 .* do not fit together"):
        open_source(path)
