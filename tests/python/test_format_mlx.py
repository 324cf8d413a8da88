"""The MLX directory: what mlx-lm computes from it, and what lies in it.

mlx-lm runs in this interpreter, or in the one that EDGEKIT_MLX_PYTHON names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.converters import convert, models
from edgekit.converters.formats import _mlx_config, mlx
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.quant import affine, microscaling
from edgekit.converters.quant.affine import Affine
from edgekit.converters.quant.grid import Fitted, Parameters
from edgekit.converters.quant.microscaling import Microscaling
from edgekit.converters.sources.mlx import MlxCheckpoint
from edgekit.errors import UnsupportedModel, UsageError

pytest.importorskip("transformers", reason="needs the [test] extra")

from packed_checkpoints import quantize
from tiny_models import TINY_CONFIGS, make_checkpoint

IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 40)]
SAMPLE = Path(__file__).parents[2] / "samples" / "model"
QUANTIZED = [name for name, scheme in mlx.SCHEME_OF_NAME.items() if scheme.mode]
PREFILL = 30  # tokens at once; the rest one by one, through mlx-lm's cache

PYTHON = os.environ.get("EDGEKIT_MLX_PYTHON") or (
    sys.executable if importlib.util.find_spec("mlx_lm") else None
)
needs_mlx = pytest.mark.skipif(
    PYTHON is None, reason="mlx-lm is not installed (the [mlx] extra, or EDGEKIT_MLX_PYTHON)"
)

PROGRAM = """
import json, sys
import mlx.core as mx
import numpy as np
from pathlib import Path
from mlx_lm.utils import load_model
from mlx_lm.models.cache import make_prompt_cache

mx.set_default_device(mx.cpu)
for directory in sys.argv[3:]:
    ids, prefill = json.loads(sys.argv[1]), int(sys.argv[2])
    try:
        model, _ = load_model(Path(directory))
        cache = make_prompt_cache(model)
        logits = [model(mx.array([ids[:prefill]]), cache=cache)]
        logits += [model(mx.array([[i]]), cache=cache) for i in ids[prefill:]]
        np.save(directory + ".npy", np.array(mx.concatenate(logits, 1)[0].astype(mx.float32)))
    except Exception as error:
        Path(directory + ".error").write_text(f"{type(error).__name__}: {error}")
"""


def mlx_logits(*directories: Path) -> list[np.ndarray | str]:
    """What mlx-lm computes from each directory, `[len(IDS), vocab_size]`, or its error."""
    subprocess.run(
        [str(PYTHON), "-c", PROGRAM, json.dumps(IDS), str(PREFILL), *map(str, directories)], check=True
    )
    return [
        np.load(f"{d}.npy") if Path(f"{d}.npy").exists() else Path(f"{d}.error").read_text()
        for d in directories
    ]


# What mlx-lm has no maths for, in one word of the refusal.
REFUSED = {
    "llama_linear": "activation",
    "mistral_global": "activation",
    "qwen3_bias": "biases",
    "gemma2_no_caps": "biases",
    "qwen3_moe_plain": "biases",
    "lfm2_bias": "output matrix",
    "phi_gqa": "activation",
    "helium_bias": "biases",
    "minicpm_long": "longrope",
    "gemma4_experts": "experts",
    "mamba2": "groups",
    **{
        name: "does not know"  # gemma and starcoder2 have exact GELU there
        for name, config in TINY_CONFIGS.items()
        if config["model_type"] not in _mlx_config.BIASES
    },
}


def test_what_mlx_lm_cannot_compute_is_refused(tmp_path: Path) -> None:
    for name, word in REFUSED.items():
        model = convert.read(make_checkpoint(name, tmp_path / "hf"), name)
        with pytest.raises(UnsupportedModel, match=word):
            mlx.write(model, tmp_path / name, "f32")
        assert not (tmp_path / name).exists()


@needs_mlx
def test_every_family_gives_the_checkpoints_logits(tmp_path: Path) -> None:
    names = [name for name in TINY_CONFIGS if name not in REFUSED]
    models = [convert.read(make_checkpoint(name, tmp_path / "hf"), name) for name in names]
    for name, model in zip(names, models, strict=True):
        mlx.write(model, tmp_path / name, "f32")
    wrong = {}
    for name, model, got in zip(names, models, mlx_logits(*(tmp_path / n for n in names)), strict=True):
        want = Reference(_mlx_config.computed(model.spec), model.load).logits(IDS)
        error = got if isinstance(got, str) else np.abs(got - want).max() / np.abs(want).max()
        if isinstance(error, str) or not error <= 1e-5:
            wrong[name] = error
    assert not wrong


@needs_mlx
def test_a_real_model_gives_the_checkpoints_logits(tmp_path: Path) -> None:
    model = convert.read(SAMPLE, "sample")
    mlx.write(model, tmp_path / "f32", "f32")
    mlx.write(model, tmp_path / "q4", "q4")
    exact, quantized = mlx_logits(tmp_path / "f32", tmp_path / "q4")
    own = mlx.read_back(tmp_path / "q4")
    for got, want, limit in (
        (exact, Reference(model.spec, model.load).logits(IDS), 1e-5),
        (quantized, Reference(own.spec, own.load).logits(IDS), 0.1),  # computed in the checkpoint's bfloat16
    ):
        assert not isinstance(got, str), got
        assert np.abs(got - want).max() <= limit * np.abs(want).max()


@needs_mlx
def test_quantized_directories_give_the_logits_of_their_own_weights(tmp_path: Path) -> None:
    cases = [(name, scheme) for scheme in QUANTIZED for name in ("llama_mqa", "llama")] + [
        (name, "q4_g32") for name in ("phi3", "olmoe", "lfm2", "gemma3", "stablelm_parallel", "qwen3_next")
    ]
    directories = [tmp_path / f"{name}-{scheme}" for name, scheme in cases]
    for (name, scheme), directory in zip(cases, directories, strict=True):
        mlx.write(convert.read(make_checkpoint(name, tmp_path / "hf"), name), directory, scheme)
    wrong = {}
    for case, directory, got in zip(cases, directories, mlx_logits(*directories), strict=True):
        want = mlx.read_back(directory).reference().logits(IDS)
        error = got if isinstance(got, str) else np.abs(got - want).max() / np.abs(want).max()
        if isinstance(error, str) or not error <= 1e-5:
            wrong[case] = error
    assert not wrong


@needs_mlx
def test_kept_codes_give_the_logits_of_their_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory whose embedding has more bits and larger groups."""
    monkeypatch.setitem(TINY_CONFIGS, "llama_32", TINY_CONFIGS["llama"] | {"intermediate_size": 160})
    source, _ = quantize(make_checkpoint("llama_32", tmp_path / "hf"), tmp_path / "gptq", "gptq", group=32)
    mlx.write(convert.read(source, "gptq"), tmp_path / "out", "q8")
    (got,) = mlx_logits(tmp_path / "out")
    want = mlx.read_back(tmp_path / "out").reference().logits(IDS)
    assert not isinstance(got, str) and np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_weights_come_back(tmp_path: Path) -> None:
    model = convert.read(make_checkpoint("qwen3_moe", tmp_path / "hf"), "qwen3_moe")
    wanted = {
        "f32": 0.0,
        "f16": 1e-3,
        "bf16": 4e-3,
        "q8_g32": 0.01,
        "q4_g32": 0.1,
        "mxfp8": 0.04,
        "nvfp4": 0.11,
    }
    for scheme, limit in wanted.items():
        mlx.write(model, tmp_path / scheme, scheme)
        ours = mlx.read_back(tmp_path / scheme)
        for name in model.tensors:
            want, got = model.load(name), ours.load(name)
            assert want is not None and got is not None
            assert np.linalg.norm(got - want) <= limit * np.linalg.norm(want), (scheme, name)


@pytest.mark.parametrize("bits", affine.BITS)
def test_codes_pack_into_one_stream_of_bits(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, 64)).astype(np.uint8)
    packed = affine.pack(codes, bits)
    assert packed.shape == (3, 64 * bits // 32)
    row = sum(int(word) << (32 * i) for i, word in enumerate(packed[1]))
    assert [(row >> (bits * i)) & ((1 << bits) - 1) for i in range(64)] == codes[1].tolist()
    assert np.array_equal(affine.unpack(packed, bits), codes)


@pytest.mark.parametrize("bits", affine.BITS)
def test_fit_beats_the_range(bits: int) -> None:
    rows = np.random.default_rng(0).standard_normal((16, 128)).astype(np.float32)
    grid = Affine(bits, 64, "F32")
    ours = grid.changed(rows)
    groups = rows.reshape(16, 2, 64)
    step = (groups.max(-1) - groups.min(-1)) / ((1 << bits) - 1)
    of_range = Parameters((step, groups.min(-1)))
    ranged = grid.restore(Fitted(grid.nearest(rows, of_range), of_range))
    better = 1.05 if bits == 8 else 1.0  # no line is fitted at 8 bits
    assert np.square(ours - rows).sum() <= better * np.square(ranged - rows).sum()


def test_zeros_and_constants_survive() -> None:
    rows = np.stack([np.zeros(64), np.full(64, 3.25), np.r_[np.zeros(32), np.ones(32)]]).astype(np.float32)
    for bits in affine.BITS:
        assert np.allclose(Affine(bits, 32, "F32").changed(rows), rows, atol=1e-6)
    for mode in microscaling.GROUP:
        assert np.array_equal(Microscaling(mode).changed(rows[:1]), rows[:1])


def test_large_models_are_sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx, "SHARD_BYTES", 100_000)
    model = convert.read(make_checkpoint("llama", tmp_path / "hf"), "llama")
    mlx.write(model, tmp_path / "out", "q8")
    files = sorted(p.name for p in (tmp_path / "out").glob("model-*.safetensors"))
    assert len(files) > 1 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert models.open_model(MlxCheckpoint(tmp_path / "out")).spec == model.spec


def test_size_is_known_before_writing(tmp_path: Path) -> None:
    model = convert.read(make_checkpoint("llama", tmp_path / "hf"), "llama")
    mlx.write(model, tmp_path / "out", "f16")
    header = 4096
    assert (
        0 <= (tmp_path / "out" / "model.safetensors").stat().st_size - mlx.size_bytes(model, "f16") <= header
    )


def test_unknown_scheme_is_refused(tmp_path: Path) -> None:
    model = convert.read(make_checkpoint("llama", tmp_path / "hf"), "llama")
    with pytest.raises(UsageError, match="q7"):
        mlx.write(model, tmp_path / "out", "q7")
