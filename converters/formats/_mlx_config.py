"""config.json as mlx-lm reads it, and what mlx-lm's forward passes leave out of a spec.

mlx-lm takes defaults of its own for members that are missing, so every member that matters is spelled out.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from edgekit.converters.checkpoint_files import flat_config
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats._parts import attention_interval, regular
from edgekit.converters.spec import ModelSpec, Recurrence
from edgekit.errors import UnsupportedModel

# Families that mlx-lm computes with another's file.
MODEL_TYPE = {
    **dict.fromkeys(("ministral", "ernie4_5", "helium", "internlm3"), "llama"),
    "minicpm": "granite",
    "qwen3_5_text": "qwen3_5",
}
# Families that store norms minus 1 and whose files in mlx-lm read them whole.
WHOLE_NORMS = ("qwen3_5", "qwen3_5_text", "qwen3_next")
# Families whose files read `layer_types`; they need one layer without a window.
LAYER_TYPES = ("llama", "mistral", "ministral", "ministral3", "smollm3", "olmo3")
# Parts that may have a bias. In other families' files none may.
ATTENTION, FEED_FORWARD = ("q", "k", "v", "o"), ("gate", "up", "down")
BIASES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("llama", "mistral", "smollm3", "granite", "olmo2", "ministral", "ernie4_5", "helium", "internlm3",
         "minicpm"), ATTENTION + FEED_FORWARD
    ),
    "seed_oss": ATTENTION + FEED_FORWARD,
    "olmo3": ATTENTION,

    **dict.fromkeys(("qwen2", "stablelm"), ("q", "k", "v")),
    "phi": (*ATTENTION, "up", "down", "head"),
    "nemotron": (*ATTENTION, "up", "down"),
    "lfm2": ("conv_in", "conv", "conv_out"),
    **dict.fromkeys(("qwen3_5_text", "qwen3_next"), (*ATTENTION, "attn_gate", "state_dt")),
    "mamba2": ("state_dt", "taps_q", "taps_k", "taps_v"),
    "nemotron_h": (*ATTENTION, "up", "down", "state_dt", "taps_q", "taps_k", "taps_v"),
    **dict.fromkeys(
        ("ministral3", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "gemma4_text", "phi3", "olmoe",
         "openelm"), ()
    ),
}  # fmt: skip
ACTIVATION = {
    **dict.fromkeys(("gemma2", "gemma3_text", "gemma4_text", "phi"), "gelu_tanh"),
    **dict.fromkeys(("nemotron", "nemotron_h"), "relu2"),
}
WINDOWS = ("gemma3_text", "gemma4_text")  # families whose files have them
EPSILON = {"stablelm": "layer_norm_eps", "phi": "layer_norm_eps", "lfm2": "norm_eps", "nemotron": "norm_eps"}
EPSILON |= dict.fromkeys(("mamba2", "nemotron_h"), "layer_norm_epsilon")


def computed(spec: ModelSpec) -> ModelSpec:
    """The spec that mlx-lm computes: most of its files attend to everything, and take the long angles of
    longrope for texts of any length.
    """
    windows = [layer.window for layer in spec.layers]
    kept = spec.model_type in WINDOWS or (spec.model_type in LAYER_TYPES and None in windows)
    layers = spec.layers if kept else tuple(dataclasses.replace(layer, window=None) for layer in spec.layers)
    ropes = tuple(dataclasses.replace(r, inv_freq=r.long_inv_freq or r.inv_freq) for r in spec.ropes)
    return dataclasses.replace(spec, layers=layers, ropes=ropes)


def notes(spec: ModelSpec) -> list[str]:
    """What a reader of the model card should know."""
    ours, found = computed(spec), []
    if ours.layers != spec.layers:
        window = min(layer.window for layer in spec.layers if layer.window)
        found.append(f"mlx-lm attends to all tokens where the checkpoint has windows of {window} and more.")
    if ours.ropes != spec.ropes:
        found.append("mlx-lm takes the angles of long texts for texts of any length.")
    return found


def refuse(model: ConvertInput) -> None:
    """Raises UnsupportedModel for what mlx-lm would compute wrongly."""
    spec = model.spec
    if spec.model_type not in BIASES:
        raise UnsupportedModel(
            f"--format mlx does not know mlx-lm's {spec.model_type!r}; known: {', '.join(sorted(BIASES))}",
            hint="--format edge runs it on every CPU",
        )
    wanted = ACTIVATION.get(spec.model_type, "silu")
    allowed = BIASES[spec.model_type]
    if spec.norm == "layer":
        allowed = (*allowed, "attn_norm", "ffn_norm", "final_norm")
    parts = {
        name.rsplit(".", 1)[-1].removesuffix("_bias") for name in model.tensors if name.endswith("_bias")
    }
    why = None
    if spec.activation != wanted:
        why = f"activation {spec.activation} ({wanted} is what it has)"
    elif parts - set(allowed):
        why = f"biases of {', '.join(sorted(parts - set(allowed)))}"
    elif MODEL_TYPE.get(spec.model_type) == "llama" and "q" in parts and "o" not in parts:
        why = "biases of q, k and v without one of o"
    elif MODEL_TYPE.get(spec.model_type) == "granite" and any(rope.long_inv_freq for rope in spec.ropes):
        why = "angles of long texts (longrope)"
    elif spec.moe and spec.moe.own_norms:
        why = "experts, which have norms of their own"
    elif spec.model_type == "gemma2" and not (spec.attn_softcap and spec.logit_softcap):
        why = "no soft-caps"
    elif spec.model_type == "gemma3_text" and not _pattern(spec):
        why = "windows that do not come at regular intervals"
    elif spec.model_type in WHOLE_NORMS and not attention_interval(spec):
        why = "attention that does not come at regular intervals"
    elif spec.model_type == "mamba2" and any(
        x.recurrence.n_key_heads > 1 for x in spec.layers if x.recurrence
    ):
        why = "norms of groups"
    elif not spec.tied and spec.model_type in ("gemma2", "lfm2"):
        why = "output matrix of its own"
    if why:
        raise UnsupportedModel(
            f"mlx-lm's {spec.model_type} has no place for this checkpoint's {why}",
            hint="--format edge runs it on every CPU",
        )


def config(model: ConvertInput) -> dict[str, Any]:
    """The members, without quantization and type."""
    spec, given = model.spec, flat_config(model)
    layer = next((layer for layer in spec.layers if layer.mixer == "attention"), spec.layers[0])
    windows = sorted({layer.window for layer in spec.layers if layer.window})
    values: dict[str, Any] = {
        "hidden_size": spec.d_model,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": layer.n_heads,
        "num_key_value_heads": layer.n_kv_heads,
        "head_dim": layer.head_dim,
        "intermediate_size": max(layer.d_ff for layer in spec.layers),
        "max_position_embeddings": spec.context or None,
        EPSILON.get(spec.model_type, "rms_norm_eps"): spec.norm_eps,
    }
    biased = {name.rsplit(".", 1)[-1] for name in model.tensors if name.endswith("_bias")}
    if spec.model_type not in ("qwen2", "stablelm", "phi") and "q" in BIASES[spec.model_type]:
        values |= {"attention_bias": "q_bias" in biased, "mlp_bias": "up_bias" in biased}
    kind = MODEL_TYPE.get(spec.model_type, spec.model_type)
    if kind == "granite":
        values |= {
            "embedding_multiplier": spec.embed_scale,
            "attention_multiplier": spec.attn_scale,
            "residual_multiplier": spec.residual_scale,
            "logits_scaling": 1 / spec.logit_scale,
        }
    if spec.model_type in ("gemma2", "gemma3_text"):
        values["query_pre_attn_scalar"] = spec.attn_scale**-2
    if spec.model_type == "nemotron":
        values["hidden_act"] = spec.activation
    if spec.model_type == "stablelm":
        values |= {
            "use_qkv_bias": "q_bias" in biased,
            "qk_layernorm": spec.qk_norm == "layer_per_head",
            "use_parallel_residual": layer.parallel,
        }
    if spec.moe:
        values |= {
            "num_experts": max(layer.n_experts for layer in spec.layers),
            "num_experts_per_tok": spec.moe.top_k,
            "norm_topk_prob": spec.moe.normalize,
        }
    if spec.model_type == "qwen3_moe":
        dense = [i for i, layer in enumerate(spec.layers) if not layer.n_experts]
        values |= {"decoder_sparse_step": 1, "mlp_only_layers": dense}
    values |= _angles(model.spec, given)
    values |= {name: value for name, value in given.items() if value is not None}
    of = next((layer.recurrence for layer in spec.layers if layer.recurrence), None)
    if of is not None:
        values |= _delta(spec, of, values) if of.delta else _mamba(spec, of, "taps_v_bias" in biased)
    # What follows is said in the config in other words, or not at all.
    if spec.model_type == "lfm2":
        values |= {
            "layer_types": ["conv" if layer.mixer == "conv" else "full_attention" for layer in spec.layers],
            "conv_bias": "conv_bias" in biased,
            "conv_L_cache": max(layer.conv_kernel for layer in spec.layers),
            "block_dim": spec.d_model,
            "block_ff_dim": spec.layers[0].d_ff,
            "block_auto_adjust_ff_dim": False,
        }
        values.setdefault("block_multiple_of", 256)
        values.setdefault("block_ffn_dim_multiplier", 1.0)
    if spec.model_type in LAYER_TYPES:
        types = ["sliding_attention" if layer.window else "full_attention" for layer in computed(spec).layers]
        if "sliding_attention" in types:
            values |= {"layer_types": types, "sliding_window": windows[0]}
        else:
            values.pop("layer_types", None)
    if spec.model_type == "smollm3":
        values["no_rope_layers"] = [int(layer.rope is not None) for layer in spec.layers]
    if spec.model_type == "gemma3_text":
        values |= {
            "sliding_window_pattern": _pattern(spec),
            "sliding_window": windows[0] if windows else spec.context,
        }
    if spec.model_type == "gemma4_text":
        values |= _gemma4(spec)
    values["model_type"] = kind
    values["tie_word_embeddings"] = spec.tied
    return values


def _delta(spec: ModelSpec, of: Recurrence, values: dict[str, Any]) -> dict[str, Any]:
    rope = {name: values[name] for name in ("rope_theta", "partial_rotary_factor") if name in values}
    found = {
        "linear_num_value_heads": of.n_heads,
        "linear_num_key_heads": of.n_key_heads,
        "linear_key_head_dim": of.key_dim,
        "linear_value_head_dim": of.value_dim,
        "linear_conv_kernel_dim": of.kernel,
        "full_attention_interval": attention_interval(spec),
        "rope_parameters": {"rope_type": "default"} | rope | (values.get("rope_parameters") or {}),
    }
    if spec.moe:
        sparse = [i for i, layer in enumerate(spec.layers) if layer.n_experts]
        dense = [i for i in range(len(spec.layers)) if i not in sparse]
        found |= {
            "decoder_sparse_step": 1,
            "mlp_only_layers": dense,
            "moe_intermediate_size": spec.layers[sparse[0]].d_ff,
            "intermediate_size": spec.layers[dense[0] if dense else 0].d_ff,
            "shared_expert_intermediate_size": spec.moe.d_shared,
        }
    return found


def _mamba(spec: ModelSpec, of: Recurrence, conv_bias: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n_groups": of.n_key_heads,
        "conv_kernel": of.kernel,
        "use_bias": False,
        "use_conv_bias": conv_bias,
        "time_step_limit": [of.dt_min, float("inf")],
    }
    if spec.model_type == "mamba2":
        names = ("num_heads", "head_dim", "state_size")
        found |= {"time_step_rank": 0, "intermediate_size": of.values}
    else:
        names = ("mamba_num_heads", "mamba_head_dim", "ssm_state_size")
        kinds = [
            ("M" if x.recurrence else "*") + ("E" if x.n_experts else "-" if x.d_ff else "")
            for x in spec.layers
        ]
        found |= {"mamba_proj_bias": False, "hybrid_override_pattern": "".join(kinds)}
        if dense := [layer for layer in spec.layers if layer.d_ff and not layer.n_experts]:
            found["intermediate_size"] = dense[0].d_ff
    if spec.moe:
        sparse = next(layer for layer in spec.layers if layer.n_experts)
        found |= {
            "n_routed_experts": sparse.n_experts,
            "moe_intermediate_size": sparse.d_ff,
            "moe_shared_expert_intermediate_size": spec.moe.d_shared,
            "routed_scaling_factor": spec.moe.scale,
            **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
        }
    return found | dict(zip(names, (of.n_heads, of.value_dim, of.key_dim), strict=True))


def _gemma4(spec: ModelSpec) -> dict[str, Any]:
    far = next(layer for layer in spec.layers if layer.window is None)
    near = next((layer for layer in spec.layers if layer.window is not None), far)
    ropes = {}
    for kind, layer in (("full_attention", far), ("sliding_attention", near)):
        angles = spec.ropes[layer.rope or 0].inv_freq
        turned = sum(angle > 0 for angle in angles) / len(angles)
        ropes[kind] = {
            "rope_type": "proportional" if turned < 1 else "default",
            "rope_theta": round(angles[1] ** -len(angles), 3),
            "partial_rotary_factor": turned,
        }
    return {
        "head_dim": near.head_dim,
        "global_head_dim": far.head_dim,
        "num_key_value_heads": near.n_kv_heads,
        "num_global_key_value_heads": far.n_kv_heads,
        "attention_k_eq_v": far.k_eq_v,
        "num_kv_shared_layers": sum(layer.kv_layer is not None for layer in spec.layers),
        "intermediate_size": spec.layers[0].d_ff,
        "use_double_wide_mlp": spec.layers[-1].d_ff != spec.layers[0].d_ff,
        "hidden_size_per_layer_input": spec.ple.dim if spec.ple else 0,
        "vocab_size_per_layer_input": spec.vocab_size,
        "layer_types": ["sliding_attention" if x.window else "full_attention" for x in spec.layers],
        "sliding_window": near.window or spec.context,
        "rope_parameters": ropes,
        "final_logit_softcapping": spec.logit_softcap or None,
    }


def _angles(spec: ModelSpec, given: dict[str, Any]) -> dict[str, Any]:
    """The rotary members in the older dialect, which all of mlx-lm's files read."""
    layer = next((layer for layer in spec.layers if layer.rope is not None), None)
    if layer is None or layer.rope is None:
        return {}
    rope = given.get("rope_parameters") or {}
    found: dict[str, Any] = {}
    if spec.ropes[layer.rope].dim != layer.head_dim:
        found["partial_rotary_factor"] = spec.ropes[layer.rope].dim / layer.head_dim
    if isinstance(rope.get("full_attention"), dict):
        near = rope.get("sliding_attention") or {}
        if "rope_theta" in near:
            found["rope_local_base_freq"] = near["rope_theta"]
        rope = rope["full_attention"]
    scaled = rope if rope.get("rope_type", "default") != "default" else given.get("rope_scaling")
    if scaled:
        found["rope_scaling"] = scaled
    plain = spec.model_type == "olmo3"  # its last angles, which no rule scales
    inv_freq = spec.ropes[-1 if plain else 0].inv_freq
    if "rope_theta" in rope:
        found["rope_theta"] = rope["rope_theta"]
    elif (plain or not scaled) and len(inv_freq) > 1:
        found["rope_theta"] = round(inv_freq[1] ** -len(inv_freq), 3)
    else:
        found["rope_theta"] = 10000.0
    return found


def _pattern(spec: ModelSpec) -> int:
    """Every how many layers one attends to everything; 0 when that is not regular."""
    return regular([layer.window is None for layer in spec.layers])
