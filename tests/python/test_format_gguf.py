"""GGUF files: what llama.cpp computes from them, and how it cuts text into tokens."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import edgekit
from edgekit.converters import convert
from edgekit.converters.formats import _gguf_architecture, _gguf_tokenizer, edge, gguf
from edgekit.converters.formats._gguf_architecture import computed
from edgekit.converters.interpreters.numpy import Reference
from edgekit.errors import UnsupportedModel, UsageError

pytest.importorskip("transformers", reason="needs the [test] extra")
pytest.importorskip("gguf", reason="needs the [gguf] extra")

import tiny_models
from tiny_models import make_checkpoint

IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 40)]
PREFILL = 30  # tokens at once; the rest one by one
CONTEXT = 128
SHARED = Path(os.environ.get("EDGEKIT_SHARED", Path(__file__).parents[2].parent / "shared"))
needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None,
    reason="llama-cpp-python is not installed (the [peers] extra)",
)
# What this file needs beyond the common configs: experts as llama.cpp has them.
CONFIGS = {
    "olmoe_heads": tiny_models.TINY_CONFIGS["olmoe"] | {"num_key_value_heads": 4},
    "qwen3_5_even": tiny_models.TINY_CONFIGS["qwen3_5"]
    | {"linear_num_value_heads": 2, "linear_key_head_dim": 32, "linear_value_head_dim": 32},
    "qwen3_moe_everywhere": tiny_models.TINY_CONFIGS["qwen3_moe"] | {"mlp_only_layers": []},
}
# What llama.cpp has no place for, in one word of the refusal.
REFUSED = {
    "llama_linear": "activation",
    "mistral_global": "activation",
    "qwen3_bias": "biases",
    "gemma2_no_caps": "biases",
    "smollm3_listed": "biases",
    "olmo2_bias": "biases",
    "lfm2_bias": "biases",
    "olmoe": "key/value heads",
    "olmoe_normalized": "experts",
    "qwen3_moe": "experts",
    "qwen3_moe_plain": "biases",
    "gemma_untied": "biases",
    "gemma4_k_eq_v": "values that are its keys",
    "gemma4_experts": "experts",
    "arcee_bias": "biases",
    "starcoder2_no_bias": "activation",
    "phi_gqa": "activation",
    "openelm_untied": "output matrix",
    "granitemoehybrid_no_positions": "positions",
    **dict.fromkeys(("granitemoehybrid_experts", "granitemoehybrid_mamba_experts"), "experts"),
    "mamba2_plain": "convolutions",
    "qwen3_5": "value heads",
    "qwen3_5_tied": "value heads",
    "minicpm_long": "longrope",
    **{
        name: "architecture"
        for name, config in tiny_models.TINY_CONFIGS.items()
        if config["model_type"] not in _gguf_architecture.BY_MODEL_TYPE
    },
}


@pytest.fixture(autouse=True)
def more_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, config in CONFIGS.items():
        monkeypatch.setitem(tiny_models.TINY_CONFIGS, name, config)


def llama_logits(file: Path, ids: list[int]) -> NDArray[np.float32]:
    """`[len(ids), vocab_size]`, with a cache in float32."""
    import llama_cpp

    engine = llama_cpp.Llama(
        str(file),
        n_ctx=CONTEXT,
        logits_all=True,
        type_k=0,
        type_v=0,
        n_threads=1,
        n_gpu_layers=0,
        verbose=False,
    )
    engine.eval(ids[:PREFILL])
    for id in ids[PREFILL:]:
        engine.eval([id])
    return np.array(engine.scores[: len(ids)])


def relative(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_cannot_compute_is_refused(name: str, tmp_path: Path) -> None:
    model = convert.read(make_checkpoint(name, tmp_path), name)
    with pytest.raises(UnsupportedModel, match=REFUSED[name]):
        gguf.write(model, tmp_path / "out.gguf", "f32")
    assert not (tmp_path / "out.gguf").exists()


@needs_llama
@pytest.mark.parametrize("name", [n for n in [*tiny_models.TINY_CONFIGS, *CONFIGS] if n not in REFUSED])
def test_every_family_gives_the_checkpoints_logits(name: str, tmp_path: Path) -> None:
    model = convert.read(make_checkpoint(name, tmp_path), name)
    gguf.write(model, tmp_path / "out.gguf", "f32")
    want = Reference(computed(model.spec), model.load, context=CONTEXT).logits(IDS)
    assert relative(llama_logits(tmp_path / "out.gguf", IDS), want) <= 1e-3  # its gelu is a table


@needs_llama
@pytest.mark.parametrize("scheme", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16"])
def test_quantized_files_give_the_logits_of_their_own_weights(scheme: str, tmp_path: Path) -> None:
    model = convert.read(make_checkpoint("llama", tmp_path), "llama")
    gguf.write(model, tmp_path / "out.gguf", scheme)
    want = gguf.read_back(tmp_path / "out.gguf").reference().logits(IDS)
    # llama.cpp rounds activations: to 8 bits before blocks, to the weights' type before floats
    assert relative(llama_logits(tmp_path / "out.gguf", IDS), want) <= (5e-2 if scheme[0] == "q" else 2e-2)


def wide(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose rows are whole super-blocks."""
    config = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}
    monkeypatch.setitem(tiny_models.TINY_CONFIGS, "llama_256", tiny_models.TINY_CONFIGS["llama"] | config)
    return make_checkpoint("llama_256", directory)


@needs_llama
@pytest.mark.parametrize(
    ("scheme", "types"),
    [("q4_k", {"Q4_K", "Q6_K"}), ("q5_k", {"Q5_K", "Q6_K"}), ("q6_k", {"Q6_K"}), ("mix", {"Q5_K", "Q6_K"})],
)
def test_super_blocks_give_the_logits_of_their_own_weights(
    scheme: str, types: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, out = wide(tmp_path, monkeypatch), tmp_path / "out.gguf"
    how: dict[str, Any] = {"target_bpw": 6.5} if scheme == "mix" else {"scheme": scheme}
    report = edgekit.convert(checkpoint, out, format="gguf", calibrate=None, verify=False, **how)
    assert report.grids is not None and types <= {*report.grids.values()}
    want = gguf.read_back(out).reference().logits(IDS)
    assert relative(llama_logits(out, IDS), want) <= 5e-2


def test_codes_of_super_blocks_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file as they are, in a package but for the rounding of scales."""
    first, again, package = (tmp_path / name for name in ("first.gguf", "again.gguf", "m.edge"))
    edgekit.convert(
        wide(tmp_path, monkeypatch), first, format="gguf", scheme="q4_k", calibrate=None, verify=False
    )
    source = convert.read(first, "first")
    gguf.write(source, again, "q8_0")
    edge.write(source, package, "q8")
    same, found = convert.read(again, "again"), edge.Package(package)
    for name in ("layers.0.gate", "layers.0.q", "head"):
        want, got = source.load(name), found.load(name)
        np.testing.assert_array_equal(same.load(name), want)
        assert want is not None and got is not None
        if name != "head":
            assert found.layout(name) == "q4_affine32"
            assert np.linalg.norm(got - want) < 1.5e-3 * np.linalg.norm(want)


@needs_llama
def test_a_real_model_tells_its_story(tmp_path: Path) -> None:
    import llama_cpp

    source = SHARED / "data" / "weights" / "stories260K"
    if not source.exists():
        pytest.skip("needs ../shared")
    gguf.write(convert.read(source / "hf-derived", "stories260K"), tmp_path / "out.gguf", "f32")
    engine = llama_cpp.Llama(
        str(tmp_path / "out.gguf"), n_ctx=256, n_threads=1, n_gpu_layers=0, verbose=False
    )
    text = engine("", max_tokens=60, temperature=0)["choices"][0]["text"]
    expected = (source / "expected_greedy_200.txt").read_text()
    assert len(text) > 60 and expected.strip().startswith(text.strip())


TEXTS = (
    "Once upon a time, there were 1234 dogs; it's 3.14!",
    "two  spaces\n\n\tand\r\nlines ",  # Metaspace adds no space before one; llama.cpp always does
    "naïve café — 東京 で 42 円 🙂",
    "def f(x):\n    return x ** 2  # comment\n",
    "I'LL WE'VE don't",
)


@needs_llama
@pytest.mark.parametrize("path", ["llama2", "llama3", "smollm2", "gpt2", "qwen/qwen3.tokenizer.json",
                                  "mistral/mistral-7b-v0.1.tokenizer.json"])  # fmt: skip
def test_text_is_cut_as_the_checkpoint_cuts_it(path: str, tmp_path: Path) -> None:
    import llama_cpp
    from gguf import GGUFWriter

    tokenizers = pytest.importorskip("tokenizers", reason="needs the [test] extra")
    source = SHARED / "data" / "tokenizers" / path
    source = source / "tokenizer.json" if source.is_dir() else source
    if not source.exists():
        pytest.skip("needs ../shared")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "tokenizer.json").write_bytes(source.read_bytes())
    theirs = tokenizers.Tokenizer.from_file(str(source))
    model = convert.read(make_checkpoint("llama", tmp_path), "llama")
    spec = dataclasses.replace(model.spec, vocab_size=theirs.get_vocab_size())
    checkpoint = SimpleNamespace(path=tmp_path / "checkpoint")
    model = dataclasses.replace(model, spec=spec, checkpoint=cast(Any, checkpoint))
    writer = GGUFWriter(tmp_path / "vocab.gguf", "llama")
    for key, value in _gguf_tokenizer.metadata(model).items():
        gguf._add(writer, f"tokenizer.{key}", value)
    writer.add_context_length(8)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_feed_forward_length(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    engine = llama_cpp.Llama(str(tmp_path / "vocab.gguf"), vocab_only=True, verbose=False)
    for text in TEXTS:
        got = engine.tokenize(text.encode(), add_bos=True, special=True)
        assert got == theirs.encode(text).ids, text


def test_unknown_scheme_is_refused(tmp_path: Path) -> None:
    model = convert.read(make_checkpoint("llama", tmp_path), "llama")
    with pytest.raises(UsageError, match="q7"):
        gguf.write(model, tmp_path / "out.gguf", "q7")
