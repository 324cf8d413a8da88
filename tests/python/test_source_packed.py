"""AWQ and GPTQ checkpoints: packed here, from known weights, in the layouts that their makers write."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.converters import models, sources
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.sources.awq import AwqCheckpoint
from edgekit.converters.sources.gptq import GptqCheckpoint
from edgekit.errors import EdgekitError, UnsupportedModel

pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import make_checkpoint

GROUP = 16
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word holds column AWQ_ORDER[i]
Tensors = dict[str, NDArray[Any]]


def save(directory: Path, config: dict[str, Any], tensors: Tensors) -> Path:
    kinds = {"float32": "F32", "float16": "F16", "int32": "I32"}
    header, offset = {}, 0
    for name, values in tensors.items():
        span = [offset, offset + values.nbytes]
        header[name] = {"dtype": kinds[str(values.dtype)], "shape": values.shape, "data_offsets": span}
        offset += values.nbytes
    text = json.dumps(header).encode()
    directory.mkdir()
    data = b"".join(np.ascontiguousarray(v).tobytes() for v in tensors.values())
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def codes_of(weight: NDArray[np.float32], bits: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(codes [in, out], zeros [groups, out], scales [groups, out]) of a weight [out, in]."""
    groups = weight.T.reshape(-1, GROUP, weight.shape[0])
    low, high = groups.min(1), groups.max(1)
    scale = ((high - low) / ((1 << bits) - 1)).astype(np.float16)
    zero = np.clip(np.rint(-low / scale.astype(np.float32)), 1, (1 << bits) - 1)
    codes = np.clip(np.rint(groups / scale.astype(np.float32)[:, None] + zero[:, None]), 0, (1 << bits) - 1)
    return codes.reshape(-1, weight.shape[0]).astype(np.int64), zero.astype(np.int64), scale


def stream(codes: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """Along the last axis, low bits first."""
    out = np.zeros((len(codes), codes.shape[1] * bits // 32), np.int32)
    for row, values in zip(out, codes, strict=True):
        number = sum(int(value) << (bits * i) for i, value in enumerate(values))
        row[:] = np.frombuffer(number.to_bytes(row.nbytes, "little"), np.int32)
    return out


def nibbles(codes: NDArray[Any]) -> NDArray[np.int32]:
    parts = codes.reshape(len(codes), -1, 8)[..., AWQ_ORDER].astype(np.uint64)
    words = sum(parts[..., i] << np.uint64(4 * i) for i in range(8))
    return np.asarray(words).astype(np.uint32).view(np.int32)


def quantize(source: Path, out: Path, method: str, bits: int, shuffled: bool = False) -> tuple[Path, Tensors]:
    """A checkpoint packed as `method`, and the weights its codes stand for."""
    checkpoint = Checkpoint(source)
    tensors: Tensors = {}
    want: Tensors = {}
    for name in checkpoint.names():
        weight = checkpoint.read(name)
        if "_proj.weight" not in name:
            tensors[name] = want[name] = weight
            continue
        path = name.removesuffix(".weight")
        order = (
            np.random.default_rng(0).permutation(weight.shape[1]) if shuffled else np.arange(weight.shape[1])
        )
        codes, zeros, scales = codes_of(weight[:, order], bits)
        group_of = np.arange(len(codes)) // GROUP
        values = (codes - zeros[group_of]) * scales.astype(np.float32)[group_of]
        back = np.argsort(order)
        want[name] = values[back].T.astype(np.float32)
        tensors[f"{path}.scales"] = scales
        if method == "gptq":
            tensors[f"{path}.qweight"] = stream(codes[back].T, bits).T.copy()
            tensors[f"{path}.qzeros"] = stream(zeros - 1, bits)
            tensors[f"{path}.g_idx"] = group_of[back].astype(np.int32)
        else:
            tensors[f"{path}.qweight"] = nibbles(codes)
            tensors[f"{path}.qzeros"] = nibbles(zeros)
    quantization = {"quant_method": method, "bits": bits, "group_size": GROUP, "version": "gemm"}
    return save(out, checkpoint.config | {"quantization_config": quantization}, tensors), want


@pytest.mark.parametrize(
    ("method", "bits", "shuffled"),
    [
        ("gptq", 4, False),
        ("gptq", 4, True),
        ("gptq", 8, False),
        ("gptq", 2, False),
        ("awq", 4, False),
    ],
)
def test_weights_are_what_the_codes_stand_for(method: str, bits: int, shuffled: bool, tmp_path: Path) -> None:
    source = make_checkpoint("llama", tmp_path / "hf")
    directory, want = quantize(source, tmp_path / "packed", method, bits, shuffled)
    opened = sources.open_source(directory)
    assert isinstance(opened, GptqCheckpoint if method == "gptq" else AwqCheckpoint)
    for name, values in want.items():
        assert np.allclose(opened.read(name), values, atol=1e-6), name
        assert np.array_equal(opened.read(name, (3, 17)), opened.read(name)[3:17]) or values.ndim == 1
    assert models.open_model(opened).spec == models.open_model(Checkpoint(source)).spec


@pytest.mark.parametrize("method", ["gptq", "awq"])
@pytest.mark.parametrize("damage", ["qzeros", "scales", "shape", "bits"])
def test_damaged_checkpoints_are_errors(method: str, damage: str, tmp_path: Path) -> None:
    directory, _ = quantize(make_checkpoint("llama", tmp_path / "hf"), tmp_path / "packed", method, 4)
    path = "model.layers.0.self_attn.q_proj"
    opened = sources.open_source(directory)
    config = json.loads((directory / "config.json").read_text())
    tensors = {n: opened.read_raw(n)[1] for n in opened.tensors}
    if damage == "shape":
        tensors[f"{path}.qweight"] = tensors[f"{path}.qweight"][:, :-1].copy()
    elif damage == "bits":
        config["quantization_config"]["bits"] = 7
    else:
        del tensors[f"{path}.{damage}"]
    broken = sources.open_source(save(tmp_path / "broken", config, tensors))
    with pytest.raises(EdgekitError):
        broken.read(f"{path}.weight")


def test_other_quantizations_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes"}}
    with pytest.raises(UnsupportedModel, match="bitsandbytes"):
        sources.open_source(save(tmp_path / "bnb", config, {"x": np.zeros(1, np.float32)}))
