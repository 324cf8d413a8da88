"""Every family against Transformers: the numpy reference on a small random checkpoint gives the same logits;
and what is not known to be computed rightly is refused.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_configs import PUBLISHED
from tiny_models import NOT_IN_TRANSFORMERS, SMALL, TINY_CONFIGS, make_checkpoint, make_model, torch_logits

from edgekit.converters import models
from edgekit.converters.checkpoint import Checkpoint, read_source
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.models import _rotary
from edgekit.converters.models._config import Config
from edgekit.converters.spec import Latent, ModelSpec, Moe, Source
from edgekit.errors import EdgekitError, InvalidFile, UnsupportedModel

SHARED = Path(os.environ.get("EDGEKIT_SHARED", Path(__file__).parents[2].parent / "shared"))
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 40)]
LLAMA = TINY_CONFIGS["llama"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="needs the [test] extra")
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_reference_equals_transformers(name: str, checkpoints: Path) -> None:
    model = models.open_model(Checkpoint(make_checkpoint(name, checkpoints)))
    ours = Reference(model.spec, model.load).logits(IDS)
    theirs = torch_logits(name, IDS)
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("name", [name for name in TINY_CONFIGS if not name.startswith(NOT_IN_TRANSFORMERS)])
def test_the_config_transformers_5_saves_means_the_same(name: str, checkpoints: Path) -> None:
    saved = json.loads(make_model(name).config.to_json_string())
    assert models.load(saved) == models.load(TINY_CONFIGS[name])


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_spec_survives_json(name: str) -> None:
    spec = models.load(TINY_CONFIGS[name]).spec
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_members_that_are_new_are_told_where_they_are_needed() -> None:
    """So that older readers, which do not know them, go on reading all other specs."""
    assert "attn_gate" not in models.load(LLAMA).spec.to_json()
    assert models.load(TINY_CONFIGS["lfm3"]).spec.to_json()["attn_gate"] == "head"


def test_a_stack_with_fewer_matrices_than_experts_is_refused() -> None:
    source = tensors(TINY_CONFIGS["gpt_oss"])
    family = models.load(TINY_CONFIGS["gpt_oss"])
    source.values |= {
        theirs: np.ones(stored.shape, np.float32) for theirs, stored in models.stored(family).items()
    }
    assert models.open_model(source).spec == family.spec
    name = "model.layers.1.mlp.experts.down_proj"
    source.values[name] = source.values[name][:-1]
    with pytest.raises(
        InvalidFile, match=r"layers\.1\.mlp\.experts\.down_proj' is a stack of 3; .* number 3"
    ):
        models.open_model(source)


def test_every_family_has_two_configs() -> None:
    covered = [config["model_type"] for config in TINY_CONFIGS.values()]
    covered += 2 * ["rwkv7"]  # test_rwkv7.py
    assert not {kind for kind in models.known() if covered.count(kind) < 2}


# ---- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, r"model type 'bert' is not supported; known: .*llama"),
        ({"model_type": "_standard"}, "model type '_standard'"),
        ({"model_type": "../llama"}, "model type"),
        ({"hidden_act": "quick_gelu"}, "hidden_act = 'quick_gelu'"),
        ({"hidden_act": ["silu"]}, "hidden_act"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, "rope type"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 1.0}}, "beta_fast"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "full_attention"),
        ({"partial_rotary_factor": 0.2}, "3 of 16 numbers of a head are rotated"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config = .*awq"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder = True"),
        (
            {"auto_map": {"AutoModel": "x.Y"}, "attention_sinks": True, "scale": 3},
            "attention_sinks = True, scale = 3",
        ),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
        (
            {"model_type": "qwen3", "layer_types": ["full_attention", "chunked_attention", "x"]},
            "'chunked_attention'",
        ),
        ({"model_type": "olmoe", "clip_qkv": 8.0}, "clip_qkv = 8.0"),
        ({"model_type": "gemma2", "use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"model_type": "phi3", "full_attn_mod": 2}, "full_attn_mod = 2"),
    ],
)
def test_what_would_change_the_maths_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message) as caught:
        models.load(LLAMA | change)
    assert caught.value.exit_code == 3


HARMLESS = {
    "_flash_attn_2_enabled": True,
    "_model_name_or_path": "x",
    "ep_size": 1,
    "gradient_checkpointing": True,
    "max_sequence_length": 2048,
    "num_labels": 2,
    "output_hidden_states": True,
    "rope_scaling": {"type": "linear", "factor": 2.0, "mrope_section": [2, 3, 3]},
    "unk_token_id": 3,
}


def test_members_that_a_family_does_not_have_are_said_if_they_look_like_maths() -> None:
    assert models.load(LLAMA | HARMLESS).warnings == ()
    strange = {"sliding_window": 512, "scale_embedding": 3, "output_multiplier": 2}
    (said,) = models.load(LLAMA | HARMLESS | strange).warnings
    assert "output_multiplier = 2, scale_embedding = 3, sliding_window = 512" in said


@pytest.mark.parametrize(
    "kind", sorted({c["model_type"] for c in TINY_CONFIGS.values()} - {*NOT_IN_TRANSFORMERS})
)
def test_a_family_reads_what_its_class_in_transformers_has(kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the [test] extra")
    members = set(vars(transformers.AutoConfig.for_model(kind)))
    members -= {"is_encoder_decoder", "ignore_keys_at_rope_validation"}  # Transformers' own
    read: set[str] = set()
    for tiny in TINY_CONFIGS.values():
        if tiny["model_type"] == kind:
            module = importlib.import_module(f"edgekit.converters.models.{kind}")
            used = Config(tiny, getattr(module, "DEFAULTS", {}))
            module.tensors(used, module.spec(used))
            read |= used.read
    left = Config(dict.fromkeys(members, True))
    left.ignore(*read)
    assert left.unread() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": None},
        {"model_type": 3},
        {"vocab_size": None},
        {"vocab_size": 0},
        {"hidden_size": "64"},
        {"hidden_size": 64.0},
        {"hidden_size": True},
        {"hidden_size": 1 << 40},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": 7},
        {"rms_norm_eps": math.nan},
        {"rms_norm_eps": -1e-5},
        {"tie_word_embeddings": "yes"},
        {"rope_scaling": [1]},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"type": "linear", "factor": math.inf}},
        {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0], "factor": 2.0}},
        {"rope_scaling": {"type": "longrope", "short_factor": ["x"] * 8, "long_factor": [1.0] * 8}},
        {"rope_scaling": {"type": "longrope", "short_factor": [0.0] * 8, "long_factor": [1.0] * 8}},
        {"model_type": "qwen2", "layer_types": ["full_attention"]},
        {"model_type": "qwen2", "layer_types": ["sliding_attention"] * 3, "sliding_window": None},
        {"model_type": "lfm2", "full_attn_idxs": 3},
        {"model_type": "smollm3", "no_rope_layers": "all"},
        {"model_type": "ministral3"},
    ],
)
def test_configs_that_are_broken_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidFile, match="config: "):
        models.load(LLAMA | change)


def test_no_config_crashes() -> None:
    """Each member of each config replaced by values of every kind: a family, or an edgekit error."""
    for config in TINY_CONFIGS.values():
        for key, inner in config.items():
            for value in (None, True, -1, 0, 1, 3, 1 << 31, 1e300, "x", [], [1], {}, {"a": [None]}, [[]] * 3):
                changed = (
                    [value, *({**inner, k: value} for k in inner)] if isinstance(inner, dict) else [value]
                )
                for other in changed:
                    try:
                        models.load(config | {key: other})
                    except EdgekitError:
                        continue


class Tensors:
    """A source in memory."""

    def __init__(self, config: dict[str, Any], values: dict[str, np.ndarray]) -> None:
        self.config = config
        self.values = values

    def names(self) -> list[str]:
        return sorted(self.values)

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        return "F32", self.values[name].shape

    def read(self, name: str, rows: tuple[int, int] | None = None) -> np.ndarray:
        return self.values[name] if rows is None else self.values[name][slice(*rows)]

    def read_raw(self, name: str) -> tuple[str, np.ndarray]:
        return "F32", self.values[name]

    def sha256(self) -> str:
        return ""

    def source(self, source: Source) -> np.ndarray:
        return read_source(self, source)


def tensors(config: dict[str, Any]) -> Tensors:
    family = models.load(config)
    random = np.random.default_rng(0)
    values = {}
    for name, where in family.tensors.items():
        values[where.name] = random.standard_normal(family.spec.shape(name)).astype(np.float32)
    return Tensors(config, values)


def test_tensors_that_are_missing_unexpected_or_of_another_shape_are_named() -> None:
    source = tensors(LLAMA)
    kept = source.values.pop("model.layers.2.mlp.up_proj.weight")
    with pytest.raises(InvalidFile, match=r"lacks 1 tensors of its model: model\.layers\.2\.mlp\.up_proj"):
        models.open_model(source)
    source.values["model.layers.2.mlp.up_proj.weight"] = kept[:-1]
    with pytest.raises(InvalidFile, match=r"has shape \[111, 64\]; layers\.2\.up should have \[112, 64\]"):
        models.open_model(source)
    source.values["model.layers.2.mlp.up_proj.weight"] = kept
    source.values["model.layers.0.self_attn.q_proj.bias"] = np.ones(64, np.float32)
    with pytest.raises(UnsupportedModel, match=r"llama does not use 1 .*q_proj\.bias"):
        models.open_model(source)
    del source.values["model.layers.0.self_attn.q_proj.bias"]
    source.values["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    assert models.open_model(source).load("layers.0.q_bias") is None


def test_rows_that_a_fused_tensor_has_too_many_are_refused() -> None:
    config = TINY_CONFIGS["phi3"]
    family = models.load(config)
    values = {w.name: np.ones(family.spec.shape(n), np.float32) for n, w in family.tensors.items()}
    for layer in range(3):
        values[f"model.layers.{layer}.self_attn.qkv_proj.weight"] = np.ones((128 + layer, 64), np.float32)
        values[f"model.layers.{layer}.mlp.gate_up_proj.weight"] = np.ones((224, 64), np.float32)
    with pytest.raises(InvalidFile, match=r"layers\.1\.self_attn\.qkv_proj\.weight' has 129 rows; .* 128"):
        models.open_model(Tensors(config, values))


def test_a_tied_checkpoint_may_repeat_its_embedding_but_not_differ() -> None:
    source = tensors(LLAMA | {"tie_word_embeddings": True})
    embed = source.values["model.embed_tokens.weight"]
    source.values["lm_head.weight"] = embed.copy()
    assert models.open_model(source).spec.tied
    source.values["lm_head.weight"][-1, -1] += 1
    with pytest.raises(UnsupportedModel, match=r"'lm_head\.weight' differs from"):
        models.open_model(source)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.removeprefix("model."),
        lambda name: f"language_model.{name}",
        lambda name: name.replace("model.", "model.language_model.", 1),
    ],
    ids=["bare", "language_model.model", "model.language_model"],
)
def test_text_models_inside_others_are_found(rename: Any) -> None:
    config = TINY_CONFIGS["gemma3"]
    plain = tensors(config)
    values = {rename(name): value for name, value in plain.values.items()}
    values |= {"vision_tower.w": np.ones(3, np.float32)} if "language_model.x" in map(rename, ["x"]) else {}
    wrapper = {"model_type": "gemma3", "text_config": config, "vision_config": {"hidden_size": 3}}
    model = models.open_model(Tensors(wrapper, values))
    assert model.spec == models.load(config).spec
    for name in ("embed", "layers.1.q", "final_norm"):
        np.testing.assert_array_equal(model.load(name), models.open_model(plain).load(name))
    with pytest.raises(UnsupportedModel, match="quantization_config"):
        models.load(wrapper | {"quantization_config": {"quant_method": "fp8"}})


def test_what_gemma4_does_not_read_is_left_out(checkpoints: Path) -> None:
    """Matrices of layers that share keys and values in silence, pictures and sound with a word."""
    config = TINY_CONFIGS["gemma4_shared"]
    plain = tensors(config)
    values = {name.replace("model.", "model.language_model.", 1): x for name, x in plain.values.items()}
    attention = "model.language_model.layers.4.self_attn"
    values |= {f"{attention}.k_proj.weight": np.ones((64, 64), np.float32)}
    values |= {f"model.{part}.w": np.ones(3, np.float32) for part in ("vision_tower", "audio_tower")}
    model = models.open_model(Tensors({"model_type": "gemma4", "text_config": config}, values))
    assert "layers.4.k" not in model.tensors
    assert model.warnings == (
        "the text model alone is converted; left out of the checkpoint: audio_tower, vision_tower",
    )
    values |= {f"{attention}.gate.weight": np.ones((64, 64), np.float32)}
    with pytest.raises(UnsupportedModel, match="does not use 1 of"):
        models.open_model(Tensors({"model_type": "gemma4", "text_config": config}, values))


def test_rows_of_every_tensor_are_rows_of_the_whole(checkpoints: Path) -> None:
    usual = ("phi3", "lfm2_bias", "stablelm_qk_norm", "gemma2", "qwen3_moe")
    for name in (*usual, "helium_bias", "glm_plain", "gpt_oss", "apertus", "nanochat"):
        model = models.open_model(Checkpoint(make_checkpoint(name, checkpoints)))
        for tensor in model.tensors:
            whole = model.load(tensor)
            assert whole is not None and whole.shape == model.spec.shape(tensor)
            row = min(1, len(whole) - 1)
            np.testing.assert_array_equal(model.load(tensor, (row, row + 1)), whole[row : row + 1])


# ---- real models

PARAMETERS = {  # as their makers publish them
    "Llama-3.2-1B-Instruct": 1_235_814_400,
    "Llama-3.2-3B-Instruct": 3_212_749_824,
    "llama3-8B-instruct": 8_030_261_248,
    "Qwen2-1.5B-Instruct": 1_543_714_304,
    "Qwen2-7B-Instruct": 7_615_616_512,
    "Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen2.5-3B": 3_085_938_688,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "gemma2_2b_it": 2_614_341_888,
    "phi3.5-mini-instruct": 3_821_079_552,
}


def count(family: models.Family) -> int:
    return sum(math.prod(family.spec.shape(name)) for name, where in family.tensors.items() if where.name)


@pytest.mark.parametrize("name", PARAMETERS)
def test_real_configs_give_the_published_number_of_parameters(name: str) -> None:
    path = SHARED / "data" / "model-configs" / "executorch-mediatek" / f"{name}.config.json"
    if not path.exists():
        pytest.skip(f"needs {path}: set EDGEKIT_SHARED")
    assert count(models.load(json.loads(path.read_text()))) == PARAMETERS[name]


def test_every_real_config_of_a_known_family_loads() -> None:
    directory = SHARED / "data" / "model-configs"
    if not directory.exists():
        pytest.skip(f"needs {directory}: set EDGEKIT_SHARED")
    configs = [json.loads(path.read_text()) for path in sorted(directory.rglob("*.json"))]
    known = [config for config in configs if config.get("model_type") in models.known()]
    assert len(known) == len(PARAMETERS)
    for config in known:
        models.load(config)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_give_the_published_number_of_parameters(name: str) -> None:
    config, parameters = PUBLISHED[name]
    family = models.load(config)
    assert parameters is None or count(family) == parameters


def test_published_configs_of_gemma3_smollm3_ministral3_are_read_rightly() -> None:
    gemma3, smollm3, ministral3 = (
        models.load(PUBLISHED[name][0]).spec for name in ("gemma-3-4b-it", "SmolLM3-3B", "Ministral-3-3B")
    )
    assert [layer.window for layer in gemma3.layers[4:7]] == [1024, None, 1024]
    assert [layer.rope for layer in gemma3.layers[4:7]] == [1, 0, 1]
    assert [rope.inv_freq[0] for rope in gemma3.ropes] == [1 / 8, 1]
    assert [layer.rope for layer in smollm3.layers[:5]] == [0, 0, 0, None, 0]
    assert (ministral3.context, ministral3.tied) == (16384, True)


def test_published_configs_of_new_families_are_read_rightly() -> None:
    of = {name: models.load(config).spec for name, (config, _) in PUBLISHED.items()}
    olmo3, lfm3, swash = of["OLMo-3-7B"], of["LFM3-1.7B"], of["granite-swash-2b"]
    assert [layer.window for layer in olmo3.layers[:4]] == [4096, 4096, 4096, None]
    assert [olmo3.ropes[layer.rope or 0].factor > 1 for layer in olmo3.layers[2:4]] == [False, True]
    assert [layer.mixer for layer in lfm3.layers[:4]] == ["conv", "conv", "attention", "conv"]
    assert [layer.window for layer in lfm3.layers[2:5]] == [None, None, 256]
    assert [lfm3.ropes[0].inv_freq[i] > 0 for i in (31, 32)] == [True, False]
    assert (lfm3.attn_gate, len(swash.ropes), swash.layers[0].window) == ("head", 1, None)
    gpt_oss, command = of["gpt-oss-20b"], of["c4ai-command-r7b"]
    assert (gpt_oss.layers[0].window, gpt_oss.layers[1].window, gpt_oss.layers[0].n_experts) == (
        128,
        None,
        32,
    )
    assert gpt_oss.ropes[0].factor == pytest.approx(1.3466, abs=1e-4)
    assert [layer.rope for layer in command.layers[2:5]] == [0, None, 0]
    assert of["Hunyuan-1.8B"].qk_norm == "head_after_rope"
    assert of["MiniCPM-2B"].residual_scale == pytest.approx(1.4 / 40**0.5)
    assert of["GLM-4-9B-0414"].ropes[0].dim == 64


def test_published_configs_of_recurrent_families_are_read_rightly() -> None:
    families = {name: models.load(config) for name, (config, _) in PUBLISHED.items()}
    names = ("Falcon-H1-0.5B", "granite-4.0-h-tiny", "Nemotron-3-Nano-30B-A3B", "OLMo-Hybrid-7B")
    falcon, granite, nemotron, olmo = (families[name].spec for name in names)
    qwen, rwkv = families["Qwen3-Next-80B-A3B-Instruct"].spec, families["rwkv7-g1-0.1B"].spec
    assert not any(families[name].warnings for name in (*names, "rwkv7-g1-0.1B"))
    assert [(x.mixer, x.beside) for x in falcon.layers[:2]] == [("recurrent", True), ("attention", False)]
    assert families["Falcon-H1-0.5B"].tensors["layers.1.k"].scale == 0.390625
    assert [i for i, x in enumerate(granite.layers) if x.mixer == "attention"] == [5, 15, 25, 35]
    assert granite.moe == Moe(6, normalize=True, d_shared=1024)
    assert nemotron.moe == Moe(6, normalize=True, score="sigmoid", scale=2.5, d_shared=3712)
    assert [x.n_experts for x in nemotron.layers[:4]] == [128, 128, 0, 128]  # M E, M E, M, * E
    assert (olmo.layers[3].rope, olmo.layers[0].recurrence and olmo.layers[0].recurrence.beta_scale) == (
        None,
        2,
    )
    assert qwen.moe == Moe(10, normalize=True, d_shared=512, shared_gate=True)
    assert [x.rwkv.value_rank for x in rwkv.layers if x.mixer == "rwkv_time" and x.rwkv][:2] == [0, 32]


def test_published_configs_of_latent_attention_are_read_rightly() -> None:
    names = ("MiniCPM3-4B", "Youtu-LLM-2B", "Moonlight-16B-A3B", "GLM-4.7-Flash")
    minicpm3, youtu, moonlight, flash = (models.load(PUBLISHED[name][0]).spec for name in names)
    cells = [(x.layers[0].head_dim, x.cache_numbers(1000) // len(x.layers)) for x in (minicpm3, youtu, flash)]
    assert cells == [(288, 288_000), (576, 576_000), (576, 576_000)]
    assert [x.layers[0].latent for x in (youtu, flash)] == [
        Latent(64, 128, 128, 1536),
        Latent(64, 192, 256, 768),
    ]
    assert (minicpm3.attn_scale, minicpm3.residual_scale) == (96**-0.5, 1.4 / 62**0.5)
    assert minicpm3.ropes[0].inv_freq[0] == pytest.approx(1 / 1.0591234)
    assert [x.n_experts for x in moonlight.layers[:3]] == [0, 64, 64]
    assert moonlight.moe == Moe(6, True, "sigmoid", 2.446, 2816)
    assert flash.moe == Moe(4, True, "sigmoid", 1.8, 1536)


def test_published_configs_of_hybrids_are_read_rightly() -> None:
    of = {name: models.load(config).spec for name, (config, _) in PUBLISHED.items()}
    small, granite, nemotron = of["Qwen3.5-0.8B"], of["granite-4.0-h-micro"], of["NVIDIA-Nemotron-Nano-9B-v2"]
    assert [layer.mixer for layer in small.layers[2:5]] == ["recurrent", "attention", "recurrent"]
    states = [layer.recurrence for layer in small.layers if layer.recurrence]
    assert 4 * sum(x.n_heads * x.key_dim * x.value_dim for x in states) == 18_874_368  # bytes
    assert (small.ropes[0].dim, small.attn_gate, small.tied) == (64, "full", True)
    assert [i for i, x in enumerate(granite.layers) if x.mixer == "attention"] == [5, 15, 25, 35]
    assert len(nemotron.layers) == 31 and sum(x.mixer == "attention" for x in nemotron.layers) == 4
    experts = of["gemma-4-26B-A4B"]
    assert experts.moe == Moe(8, True, d_shared=2112, own_norms=True) and experts.ple is None
    assert {(x.head_dim, x.n_kv_heads, x.k_eq_v) for x in experts.layers} == {(256, 8, False), (512, 2, True)}
    assert of["Falcon-H1-0.5B"].layers[0].beside


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published configs are not here")
@pytest.mark.parametrize(
    ("size", "count", "own", "kv_heads", "d_ff", "every", "parameters"),
    [
        ("e2b", 35, 15, 1, (6144, 12288), 5, 4_628_283_392),
        ("e4b", 42, 24, 2, (10240, 10240), 6, 7_462_453_248),
    ],
)
def test_published_configs_of_gemma4_are_read_rightly(
    size: str, count: int, own: int, kv_heads: int, d_ff: tuple[int, int], every: int, parameters: int
) -> None:
    config = SHARED / f"data/model-configs/executorch-params/gemma4__{size}_config.json"
    family = models.load(json.loads(config.read_text()))
    spec, layers = family.spec, family.spec.layers
    assert family.warnings == () and len(layers) == count
    assert spec.model_type == "gemma4_text"  # by which the formats know it
    assert {(x.head_dim, x.window, x.rope) for x in layers} == {(256, 512, 1), (512, None, 0)}
    assert {x.n_kv_heads for x in layers} == {kv_heads}
    assert [i for i, x in enumerate(layers) if x.window is None] == list(range(every - 1, count, every))
    sharing = [own - 1 if x.window is None else own - 2 for x in layers[own:]]
    assert [x.kv_layer for x in layers] == [None] * own + sharing
    assert [x.d_ff for x in layers] == [d_ff[0]] * own + [d_ff[1]] * (count - own)
    assert (spec.attn_scale, spec.v_norm, spec.logit_softcap, spec.tied) == (1.0, True, 30.0, True)
    assert spec.ple is not None and (spec.ple.dim, spec.ple.embed_scale) == (256, 16.0)
    far, near = (np.array(rope.inv_freq) for rope in spec.ropes)
    np.testing.assert_allclose(far[:64], 1e6 ** -(np.arange(64) / 256))
    assert len(far) == 256 and not far[64:].any() and len(near) == 128 and near.all()
    assert spec.parameters(spec.matrices()) == parameters


ROPES: dict[str, dict[str, Any]] = {
    "llama3": {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": {"factor": 4.0},
    "longrope": {
        "short_factor": [1.0 + i / 9 for i in range(64)],
        "long_factor": [1.0 + i for i in range(64)],
    },
}


@pytest.mark.parametrize("kind", ROPES)
def test_rotary_scaling_of_real_models_equals_transformers(kind: str) -> None:
    """Angles with the sizes and factors real checkpoints have; the small models above cannot reach every
    branch.
    """
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters: dict[str, Any] = ROPES[kind] | {
        "rope_type": kind,
        "rope_theta": 500000.0,
        "original_max_position_embeddings": 8192,
    }
    config = transformers.LlamaConfig(
        **SMALL | {"head_dim": 128, "max_position_embeddings": 131072, "rope_parameters": dict(parameters)}
    )
    ours = _rotary.from_parameters(parameters, 128, 10000.0, 1.0, 131072)
    theirs, gain = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    np.testing.assert_allclose(ours.inv_freq, theirs.numpy(), rtol=3e-5)
    assert ours.factor == pytest.approx(gain, rel=1e-12)
    if kind == "longrope":
        theirs, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=8193)
        assert ours.long_inv_freq is not None
        np.testing.assert_allclose(ours.long_inv_freq, theirs.numpy(), rtol=3e-5)


def test_a_directory_without_transformers_files_still_loads(checkpoints: Path, tmp_path: Path) -> None:
    source = make_checkpoint("llama", checkpoints)
    for file in ("config.json", "model.safetensors"):
        shutil.copy(source / file, tmp_path / file)
    assert models.open_model(Checkpoint(tmp_path)).spec == models.load(LLAMA).spec
