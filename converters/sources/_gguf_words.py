"""GGUF's keys of a model in Hugging Face's words: config.json."""

from __future__ import annotations

import math
from typing import Any

from edgekit.converters.formats._gguf_architecture import BY_MODEL_TYPE, GRANITE_HYBRID, STILL
from edgekit.errors import InvalidFile, UnsupportedModel

# Architecture -> the family that reads it. llama.cpp's "llama" is Mistral's too.
MODEL_TYPES = {arch.name: kind for kind, arch in reversed(BY_MODEL_TYPE.items())}
MODEL_TYPES[GRANITE_HYBRID.name] = "granitemoehybrid"
# Families with LayerNorm, and what others than "rms_norm_eps" call its epsilon.
LAYER_NORM = ("stablelm", "phi", "starcoder2", "nemotron")
EPSILON = {
    "stablelm": "layer_norm_eps",
    "phi": "layer_norm_eps",
    "starcoder2": "norm_epsilon",
    "nemotron": "norm_eps",
    "lfm2": "norm_eps",
}
Shapes = dict[str, tuple[int, ...]]

REQUIRED: Any = object()
# Words that say nothing of what is computed, or say it once more.
HARMLESS = frozenset(
    """
    vocab_size attention.value_length attention.causal rope.scaling.finetuned tensor_data_layout
    use_parallel_residual attention.value_length_swa rope.dimension_count_swa
    full_attention_interval rope.dimension_sections
    """.split()
)


class Words:
    """The keys of a file's architecture, without its name before them; they remember which were read."""

    def __init__(self, keys: dict[str, Any]) -> None:
        self.architecture = str(keys.get("general.architecture"))
        prefix = f"{self.architecture}."
        self.values = {key.removeprefix(prefix): keys[key] for key in keys if key.startswith(prefix)}
        self.read: set[str] = set()

    def get(self, word: str, default: Any = REQUIRED) -> Any:
        """Raises InvalidFile for a missing word without a default. Of heads, the most that a layer has."""
        value = self.each(word, default)
        return max(value) if isinstance(value, list) and word.startswith("attention.head_count") else value

    def each(self, word: str, default: Any = REQUIRED) -> Any:
        """The same, but lists stay lists."""
        self.read.add(word)
        value = self.values.get(word, default)
        if value is REQUIRED:
            raise InvalidFile(f"the GGUF file has no key {self.architecture}.{word}")
        return value

    def unread(self) -> dict[str, Any]:
        """What nobody asked for and may change what the model computes."""
        return {
            word: value
            for word, value in sorted(self.values.items())
            if word not in self.read and word not in HARMLESS and value not in (None, 0, False, "", [])
        }


def config(words: Words, shapes: Shapes) -> dict[str, Any]:
    """Raises UnsupportedModel for an unknown architecture, InvalidFile when keys are missing."""
    kind = _model_type(words)
    key = words.get
    if "token_embd.weight" not in shapes:
        raise InvalidFile("the GGUF file has no tensor token_embd.weight")
    heads, width = key("attention.head_count"), key("embedding_length")
    layers = key("block_count")
    head_dim = key("attention.key_length", width // max(heads, 1))
    if kind == "openelm":
        return _openelm(words, shapes)
    if kind == "mamba2":
        return _mamba2(words, shapes)
    norm = "layer_norm_epsilon" if kind in LAYER_NORM else "layer_norm_rms_epsilon"
    eps = key(f"attention.{norm}")
    found: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": shapes["token_embd.weight"][0],
        "hidden_size": width,
        "intermediate_size": key("expert_feed_forward_length", key("feed_forward_length")),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "head_dim": head_dim,
        "num_key_value_heads": key("attention.head_count_kv", heads),
        "max_position_embeddings": key("context_length"),
        "rope_theta": key("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in shapes,
        EPSILON.get(kind, "rms_norm_eps"): eps,
    }
    biased = {name.split(".", 2)[-1] for name in shapes if name.endswith(".bias")}
    if kind in ("llama", "granite", "granitemoehybrid", "smollm3", "nemotron"):
        found |= {"attention_bias": "attn_q.bias" in biased, "mlp_bias": "ffn_up.bias" in biased}
    if kind == "llama" and ("attn_q.bias" in biased) != ("attn_output.bias" in biased):
        found |= {"model_type": "seed_oss", "attention_out_bias": "attn_output.bias" in biased}
    if kind == "starcoder2":
        found["use_bias"] = "attn_q.bias" in biased
    if key("rope.dimension_count", head_dim) != head_dim or kind in LAYER_NORM:
        found["partial_rotary_factor"] = key("rope.dimension_count", head_dim) / head_dim
    if kind == "stablelm":
        found |= {
            "qk_layernorm": "blk.0.attn_q_norm.weight" in shapes,
            "use_qkv_bias": "attn_q.bias" in biased,
            "use_parallel_residual": key("use_parallel_residual", True)
            and "blk.0.ffn_norm.weight" not in shapes,
        }
    if kind in ("granite", "granitemoehybrid"):
        found |= {
            "embedding_multiplier": key("embedding_scale", 1.0),
            "attention_multiplier": key("attention.scale", head_dim**-0.5),
            "residual_multiplier": key("residual_scale", 1.0),
            "logits_scaling": key("logit_scale", 1.0),
        }
    if kind in ("granitemoehybrid", "qwen3_5_text"):
        states = [f"blk.{i}.ssm_a" in shapes for i in range(layers)]
        found["layer_types"] = ["linear_attention" if state else "full_attention" for state in states]
    if kind == "granitemoehybrid":
        found |= _granite_hybrid(words, shapes)
    if kind == "qwen3_5_text":
        found |= _delta(words)
    if kind == "phi3":
        context = key("rope.scaling.original_context_length", key("context_length"))
        found["original_max_position_embeddings"] = context
        found["sliding_window"] = key("attention.sliding_window", 0) or None
    if kind in ("gemma2", "gemma3_text"):
        found |= {"query_pre_attn_scalar": head_dim} | _windows(key, kind, layers)
    if kind == "gemma4_text":
        found |= _gemma4(words, shapes)
    if kind == "gemma2":
        found["attn_logit_softcapping"] = key("attn_logit_softcapping", 50.0)
        found["final_logit_softcapping"] = key("final_logit_softcapping", 30.0)
    if kind in ("olmoe", "qwen3_moe"):
        found |= {
            "num_experts": key("expert_count"),
            "num_experts_per_tok": key("expert_used_count"),
            "norm_topk_prob": kind == "qwen3_moe",
        }
    if kind == "qwen3_moe":
        found["moe_intermediate_size"] = found["intermediate_size"]
    if kind == "lfm2":
        has_conv = [f"blk.{i}.shortconv.conv.weight" in shapes for i in range(layers)]
        found |= {
            "layer_types": ["conv" if conv else "full_attention" for conv in has_conv],
            "conv_L_cache": key("shortconv.l_cache"),
            "block_auto_adjust_ff_dim": False,
        }
    return found


def _mamba2(words: Words, shapes: Shapes) -> dict[str, Any]:
    key = words.get
    words.get("attention.head_count", 0), words.get("feed_forward_length", 0)
    return {
        "model_type": "mamba2",
        "vocab_size": shapes["token_embd.weight"][0],
        "hidden_size": key("embedding_length"),
        "num_hidden_layers": key("block_count"),
        "num_heads": key("ssm.time_step_rank"),
        "head_dim": key("ssm.inner_size") // max(key("ssm.time_step_rank"), 1),
        "state_size": key("ssm.state_size"),
        "n_groups": key("ssm.group_count"),
        "conv_kernel": key("ssm.conv_kernel"),
        "layer_norm_epsilon": key("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": key("context_length"),
        "tie_word_embeddings": "output.weight" not in shapes,
    }


def _granite_hybrid(words: Words, shapes: Shapes) -> dict[str, Any]:
    key = words.get
    return {
        "num_local_experts": key("expert_count", 0),
        "shared_intermediate_size": key("feed_forward_length"),
        "position_embedding_type": "rope" if key("rope.scaling.finetuned", True) else "nope",
        "mamba_n_heads": key("ssm.time_step_rank"),
        "mamba_n_groups": key("ssm.group_count"),
        "mamba_d_state": key("ssm.state_size"),
        "mamba_d_conv": key("ssm.conv_kernel"),
        "mamba_expand": key("ssm.inner_size") // max(key("embedding_length"), 1),
        "mamba_conv_bias": any(name.endswith("ssm_conv1d.bias") for name in shapes),
    }


def _delta(words: Words) -> dict[str, Any]:
    key = words.get
    heads, key_heads = key("ssm.time_step_rank"), key("ssm.group_count")
    if heads != key_heads:
        raise UnsupportedModel(
            f"the GGUF file has {heads} value heads of states and {key_heads} key heads; as many of both are "
            "read",
            hint="convert the checkpoint that it was made from",
        )
    return {
        "linear_num_value_heads": heads,
        "linear_num_key_heads": key_heads,
        "linear_key_head_dim": key("ssm.state_size"),
        "linear_value_head_dim": key("ssm.inner_size") // max(heads, 1),
        "linear_conv_kernel_dim": key("ssm.conv_kernel"),
    }


def _model_type(words: Words) -> str:
    """The family; "mistral3" is Ministral 3's architecture, and that of Mistral models without YaRN."""
    name = words.architecture
    if name == "mistral3":
        return "ministral3" if words.get("rope.scaling.type", None) == "yarn" else "mistral"
    if name not in MODEL_TYPES:
        known = ", ".join(sorted([*MODEL_TYPES, "mistral3"]))
        raise UnsupportedModel(f"GGUF architecture {name!r} is not supported; known: {known}")
    return MODEL_TYPES[name]


def _openelm(words: Words, shapes: Shapes) -> dict[str, Any]:
    """Every layer has its own numbers of heads and width."""
    key = words.get
    layers, width = key("block_count"), key("embedding_length")

    def each(word: str) -> list[int]:
        value = words.each(word)
        return value if isinstance(value, list) else [value] * layers

    return {
        "model_type": "openelm",
        "vocab_size": shapes["token_embd.weight"][0],
        "model_dim": width,
        "head_dim": key("attention.key_length"),
        "num_transformer_layers": layers,
        "num_query_heads": each("attention.head_count"),
        "num_kv_heads": each("attention.head_count_kv"),
        "ffn_multipliers": [size / max(width, 1) for size in each("feed_forward_length")],
        "ffn_dim_divisor": 1,
        "ffn_with_glu": True,
        "activation_fn_name": "swish",
        "normalization_layer_name": "rms_norm",
        "normalize_qk_projections": "blk.0.attn_q_norm.weight" in shapes,
        "share_input_output_layers": "output.weight" not in shapes,
        "rope_freq_constant": key("rope.freq_base", 10000.0),
        "max_context_length": key("context_length"),
    }


def scaling(words: Words, factors: dict[str, list[float]], config: dict[str, Any]) -> dict[str, Any]:
    """`rope_scaling` for a file's angles; `factors` are its rope tensors."""

    def key(word: str, default: Any = None) -> Any:
        return words.get(f"rope.scaling.{word}", default)

    kind = key("type", "linear")
    stretch = key("factor", words.get("rope.scale_linear", 0.0)) or 1.0
    gain = key("attn_factor", 1.0)
    context = key("original_context_length", config.get("max_position_embeddings"))
    short = factors.get("rope_freqs.weight") or factors.get("rope_factors_short.weight")
    long = factors.get("rope_factors_long.weight", short)
    if short and max(short) >= STILL:
        turned = sum(value < STILL for value in short) / len(short)
        theta, near = words.get("rope.freq_base"), words.get("rope.freq_base_swa")
        far = {"rope_type": "proportional", "rope_theta": theta, "partial_rotary_factor": turned}
        return {"full_attention": far, "sliding_attention": {"rope_type": "default", "rope_theta": near}}
    if kind == "yarn" and not short:
        usual = 0.1 * math.log(max(stretch, 1.0)) + 1.0
        given = {
            "factor": stretch,
            "original_max_position_embeddings": context,
            "beta_fast": key("yarn_beta_fast"),
            "beta_slow": key("yarn_beta_slow"),
            "attention_factor": key("yarn_attn_factor"),
            "llama_4_scaling_beta": words.get("attention.temperature_scale", None),
        }
        if (log := key("yarn_log_multiplier")) and given["attention_factor"] is None:
            given |= {"mscale": 1.0, "mscale_all_dim": log}
        elif gain != 1.0:
            given["attention_factor"] = (given["attention_factor"] or usual) * gain
        return {"rope_type": "yarn"} | {name: value for name, value in given.items() if value is not None}
    stretch = stretch if kind == "linear" else 1.0
    if short is None and gain != 1.0:
        pairs = words.get("rope.dimension_count", config.get("head_dim")) // 2
        short = long = [1.0] * pairs
    if short:
        return {
            "rope_type": "longrope",
            "short_factor": [stretch * value for value in short],
            "long_factor": [stretch * value for value in long or short],
            "attention_factor": gain,
            "original_max_position_embeddings": context,
        }
    return {} if stretch == 1.0 else {"rope_type": "linear", "factor": stretch}


def _gemma4(words: Words, shapes: Shapes) -> dict[str, Any]:
    key = words.get
    windows = _windows(key, "gemma4_text", key("block_count"))
    kv_heads, d_ff = words.each("attention.head_count_kv"), words.each("feed_forward_length")
    sliding = windows["layer_types"].index("sliding_attention") if windows["sliding_window"] else 0
    full = windows["layer_types"].index("full_attention")
    near, far = (kv_heads[i] if isinstance(kv_heads, list) else kv_heads for i in (sliding, full))
    return windows | {
        "head_dim": key("attention.key_length_swa"),
        "global_head_dim": key("attention.key_length"),
        "num_key_value_heads": near,
        "num_global_key_value_heads": far,
        "num_kv_shared_layers": key("attention.shared_kv_layers", 0),
        "hidden_size_per_layer_input": key("embedding_length_per_layer_input", 0),
        "vocab_size_per_layer_input": shapes["token_embd.weight"][0],
        "attention_k_eq_v": f"blk.{full}.attn_v.weight" not in shapes,
        "intermediate_size": d_ff[0] if isinstance(d_ff, list) else d_ff,
        "use_double_wide_mlp": isinstance(d_ff, list),
        "final_logit_softcapping": key("final_logit_softcapping", None),
    }


def _windows(key: Any, kind: str, layers: int) -> dict[str, Any]:
    pattern = key("attention.sliding_window_pattern", 2 if kind == "gemma2" else 6)
    if isinstance(pattern, list):
        sliding = [bool(value) for value in pattern]
    else:
        sliding = [(i + 1) % pattern != 0 for i in range(layers)]
    window = key("attention.sliding_window", 4096 if kind == "gemma2" else 0)
    found: dict[str, Any] = {
        "layer_types": ["sliding_attention" if window and slides else "full_attention" for slides in sliding],
        "sliding_window": window or None,
    }
    if kind == "gemma3_text":
        found["rope_local_base_freq"] = key("rope.freq_base_swa", 10000.0)
    return found
