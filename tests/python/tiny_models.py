"""Small random-weight Transformers models, two or more for each family, as checkpoints on disk.

`TINY_CONFIGS` maps a name to a config in Hugging Face's words (either dialect). `make_checkpoint(name, dir)`
builds the model through Transformers' own class (OpenELM: openelm_torch.py), gives norms and biases values
that are not 0 or 1, and saves it; `torch_logits` runs it.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import json
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import convert
from edgekit.converters.formats import edge

SMALL = {
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
YARN_TUNED = {
    "rope_type": "yarn",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 20.0,
    "beta_slow": 2.0,
    "mscale": 1.2,
    "mscale_all_dim": 0.7,
    "truncate": False,
}


def _longrope(pairs: int, **members: Any) -> dict[str, Any]:
    return {
        "short_factor": [1.0 + 0.05 * i for i in range(pairs)],
        "long_factor": [1.0 + 1.5 * i for i in range(pairs)],
    } | members


OPENELM = {
    "model_type": "openelm",
    "vocab_size": 199,
    "model_dim": 48,
    "head_dim": 12,
    "num_transformer_layers": 3,
    "num_query_heads": [2, 4, 6],
    "num_kv_heads": [1, 2, 2],
    "num_gqa_groups": 2,
    "ffn_multipliers": [0.5, 1.3, 2.2],
    "ffn_dim_divisor": 16,
    "ffn_with_glu": True,
    "activation_fn_name": "swish",
    "normalization_layer_name": "rms_norm",
    "normalize_qk_projections": True,
    "qkv_multipliers": [0.5, 1.0],
    "rope_freq_constant": 10000,
    "rope_max_length": 4096,
    "max_context_length": 2048,
    "share_input_output_layers": True,
}
OPENELM_WIDTHS = [32, 64, 112]  # 48 times the multipliers, to multiples of 16

GRANITE = SMALL | {
    "model_type": "granite",
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
    "tie_word_embeddings": True,
}
GRANITE4 = GRANITE | {
    "model_type": "granitemoehybrid",
    "layer_types": ["attention"] * 3,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "shared_intermediate_size": 96,
    "position_embedding_type": "rope",
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
}

FALCON_H1 = SMALL | {
    "model_type": "falcon_h1",
    "mamba_d_ssm": 96,
    "mamba_n_heads": 6,
    "mamba_d_head": 16,
    "mamba_d_state": 20,
    "mamba_chunk_size": 16,
}

GPT_OSS = SMALL | {
    "model_type": "gpt_oss",
    "head_dim": 24,
    "intermediate_size": 48,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 9,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "truncate": False,
        "original_max_position_embeddings": 32,
    },
}

DEEPSEEK = SMALL | {
    "model_type": "deepseek_v3",
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "n_group": 1,
    "topk_group": 1,
}

NOT_IN_TRANSFORMERS = ("openelm", "minicpm")
GEMMA4 = SMALL | {
    "model_type": "gemma4_text",
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": 10,
    "tie_word_embeddings": True,
}

TINY_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"model_type": "llama", "rope_theta": 10000.0, "rms_norm_eps": 1e-5},
    # heads of 24, one key/value head, all biases, tied, Llama 3's rotary scaling in the new dialect
    "llama_mqa": SMALL
    | {
        "model_type": "llama",
        "hidden_size": 72,
        "num_attention_heads": 6,
        "num_key_value_heads": 1,
        "head_dim": 24,
        "intermediate_size": 100,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_parameters": LLAMA3 | {"rope_theta": 500000.0},
    },
    "llama_llama3": SMALL | {"model_type": "llama", "rope_theta": 500000.0, "rope_scaling": LLAMA3},
    "llama_linear": SMALL
    | {
        "model_type": "llama",
        "num_key_value_heads": 4,
        "hidden_act": "gelu",
        "rope_scaling": {"type": "linear", "factor": 2.5},
    },
    "llama_yarn": SMALL | {"model_type": "llama", "rope_scaling": YARN},
    "llama_yarn_tuned": SMALL | {"model_type": "llama", "rope_parameters": YARN_TUNED},
    "mistral": SMALL | {"model_type": "mistral", "sliding_window": 11, "rope_theta": 1000000.0},
    "mistral_global": SMALL
    | {"model_type": "mistral", "sliding_window": None, "head_dim": 20, "hidden_act": "relu"},
    "ministral": SMALL
    | {
        "model_type": "ministral",
        "sliding_window": 9,
        "head_dim": 32,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    },
    "ministral3": SMALL
    | {
        "model_type": "ministral3",
        "head_dim": 24,
        "max_position_embeddings": 512,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1000000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    },
    "qwen2": SMALL | {"model_type": "qwen2", "rope_theta": 1000000.0, "tie_word_embeddings": True},
    "qwen2_window": SMALL
    | {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 7,
        "max_window_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
    },
    "qwen3": SMALL
    | {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True, "rope_theta": 1000000},
    "qwen3_bias": SMALL
    | {
        "model_type": "qwen3",
        "head_dim": 12,
        "attention_bias": True,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "use_sliding_window": True,
        "sliding_window": 13,
        "rope_scaling": YARN,
    },
    "gemma2": SMALL
    | {"model_type": "gemma2", "head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 12},
    "gemma2_no_caps": SMALL
    | {
        "model_type": "gemma2",
        "head_dim": 12,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": 5.0,
        "attention_bias": True,
        "sliding_window": 12,
        "num_key_value_heads": 4,
    },
    "gemma3": SMALL
    | {
        "model_type": "gemma3_text",
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "sliding_window": 10,
        "sliding_window_pattern": 2,
        "rope_local_base_freq": 10000.0,
        "rope_theta": 1000000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gemma3_nested": SMALL
    | {
        "model_type": "gemma3_text",
        "head_dim": 20,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 20,
        "sliding_window": 10,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
        },
    },
    "gemma4_shared": GEMMA4
    | {
        "num_hidden_layers": 5,
        "layer_types": ["sliding_attention"] * 2 + ["full_attention", "sliding_attention", "full_attention"],
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 199,
        "final_logit_softcapping": 30.0,
    },
    "gemma4_experts": GEMMA4
    | {
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 5,
        "top_k_experts": 2,
        "moe_intermediate_size": 48,
    },
    # as the larger ones: no per-layer embeddings, values that are the keys
    "gemma4_k_eq_v": GEMMA4
    | {
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 0,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
    },
    "phi3": SMALL | {"model_type": "phi3", "sliding_window": 15, "pad_token_id": 0},
    "phi3_short": SMALL
    | {
        "model_type": "phi3",
        "pad_token_id": 0,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 64,
        "rope_scaling": _longrope(8, type="longrope"),
    },
    # a text of 40 tokens is longer than the original context: the long factors apply
    "phi3_long": SMALL
    | {
        "model_type": "phi3",
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        "partial_rotary_factor": 0.75,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 32,
        "rope_scaling": _longrope(6, type="longrope"),
    },
    "smollm3": SMALL
    | {"model_type": "smollm3", "num_hidden_layers": 5, "rope_theta": 5000000.0, "pad_token_id": 0},
    "smollm3_listed": SMALL
    | {
        "model_type": "smollm3",
        "no_rope_layers": [0, 1, 1],
        "attention_bias": True,
        "tie_word_embeddings": False,
        "use_sliding_window": True,
        "sliding_window": 8,
        "pad_token_id": 0,
    },
    "olmo2": SMALL | {"model_type": "olmo2", "rope_theta": 500000},
    "olmo2_bias": SMALL | {"model_type": "olmo2", "attention_bias": True, "num_key_value_heads": 4},
    "granite": GRANITE,
    "granite_plain": SMALL | {"model_type": "granite", "attention_bias": True, "mlp_bias": True},
    "stablelm": SMALL
    | {"model_type": "stablelm", "use_qkv_bias": True, "partial_rotary_factor": 0.25, "head_dim": 16},
    "stablelm_parallel": SMALL
    | {
        "model_type": "stablelm",
        "use_parallel_residual": True,
        "rope_parameters": {"rope_theta": 10000, "partial_rotary_factor": 0.5},
    },
    "stablelm_qk_norm": SMALL
    | {"model_type": "stablelm", "qk_layernorm": True, "num_key_value_heads": 1, "num_hidden_layers": 2},
    "lfm2": SMALL
    | {
        "model_type": "lfm2",
        "layer_types": ["conv", "full_attention", "conv"],
        "block_auto_adjust_ff_dim": False,
        "rope_theta": 1000000.0,
    },
    "lfm2_bias": SMALL
    | {
        "model_type": "lfm2",
        "full_attn_idxs": [2],
        "conv_bias": True,
        "conv_L_cache": 4,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.3,
        "tie_embedding": False,
    },
    "olmoe": SMALL
    | {"model_type": "olmoe", "num_experts": 6, "num_experts_per_tok": 2, "intermediate_size": 48},
    "olmoe_normalized": SMALL
    | {
        "model_type": "olmoe",
        "num_experts": 5,
        "num_experts_per_tok": 3,
        "norm_topk_prob": True,
        "num_key_value_heads": 4,
    },
    "qwen3_moe": SMALL
    | {
        "model_type": "qwen3_moe",
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "norm_topk_prob": True,
        "mlp_only_layers": [1],
    },
    "qwen3_moe_plain": SMALL
    | {
        "model_type": "qwen3_moe",
        "head_dim": 24,
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 36,
        "decoder_sparse_step": 2,
        "attention_bias": True,
    },
    "mamba2": {
        "model_type": "mamba2",
        "vocab_size": 199,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_heads": 8,
        "head_dim": 16,
        "state_size": 24,
        "n_groups": 2,
        "chunk_size": 16,
    },
    "mamba2_plain": {
        "model_type": "mamba2",
        "vocab_size": 199,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_heads": 6,
        "head_dim": 16,
        "state_size": 16,
        "n_groups": 1,
        "conv_kernel": 3,
        "use_conv_bias": False,
        "tie_word_embeddings": True,
        "chunk_size": 16,
    },
    "qwen3_5": SMALL
    | {
        "model_type": "qwen3_5_text",
        "num_hidden_layers": 4,
        "head_dim": 32,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 24,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    },
    "qwen3_5_tied": SMALL
    | {
        "model_type": "qwen3_5_text",
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "head_dim": 16,
        "linear_key_head_dim": 12,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 3,
        "linear_num_value_heads": 3,
        "tie_word_embeddings": True,
        "attention_bias": True,
    },
    "nemotron_h": SMALL
    | {
        "model_type": "nemotron_h",
        "hybrid_override_pattern": "M-M*-",
        "num_hidden_layers": 5,
        "head_dim": 16,
        "ssm_state_size": 20,
        "mamba_num_heads": 6,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "chunk_size": 16,
    },
    "nemotron_h_moe": SMALL
    | {
        "model_type": "nemotron_h",
        "hybrid_override_pattern": "MEM*EM-",
        "num_hidden_layers": 7,
        "head_dim": 16,
        "ssm_state_size": 16,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "chunk_size": 16,
        "n_routed_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 40,
        "moe_shared_expert_intermediate_size": 72,
        "routed_scaling_factor": 2.5,
    },
    "nemotron_h_bias": SMALL
    | {
        "model_type": "nemotron_h",
        "layers_block_type": ["attention", "mlp", "mamba", "mlp", "mamba"],
        "num_hidden_layers": 5,
        "head_dim": 24,
        "mlp_bias": True,
        "use_conv_bias": False,
        "ssm_state_size": 16,
        "mamba_num_heads": 4,
        "mamba_head_dim": 24,
        "n_groups": 1,
        "chunk_size": 16,
    },
    "qwen3_next": SMALL
    | {
        "model_type": "qwen3_next",
        "num_hidden_layers": 4,
        "head_dim": 32,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 24,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "shared_expert_intermediate_size": 56,
    },
    "qwen3_next_plain": SMALL
    | {
        "model_type": "qwen3_next",
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "head_dim": 16,
        "linear_key_head_dim": 12,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 3,
        "linear_num_value_heads": 3,
        "num_experts": 4,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 36,
        "shared_expert_intermediate_size": 36,
        "norm_topk_prob": False,
        "mlp_only_layers": [0],
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
    "falcon_h1": FALCON_H1
    | {
        "embedding_multiplier": 5.6,
        "lm_head_multiplier": 0.2,
        "attention_in_multiplier": 0.9,
        "attention_out_multiplier": 1.3,
        "key_multiplier": 0.7,
        "ssm_in_multiplier": 1.2,
        "ssm_out_multiplier": 0.8,
        "ssm_multipliers": [0.8, 0.9, 0.7, 1.1, 0.6],
        "mlp_multipliers": [0.9, 1.4],
    },
    "falcon_h1_norm": FALCON_H1
    | {
        "mamba_rms_norm": True,
        "mamba_norm_before_gate": False,
        "mamba_n_groups": 2,
        "mamba_conv_bias": False,
        "tie_word_embeddings": True,
        "num_hidden_layers": 2,
    },
    # (Transformers writes the convolutions of q, k and v in three equal parts)
    "olmo_hybrid": SMALL
    | {
        "model_type": "olmo_hybrid",
        "num_hidden_layers": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 24,
        "linear_value_head_dim": 12,
        "rope_parameters": {"rope_type": "default", "rope_theta": None},
        "pad_token_id": 0,
    },
    "olmo_hybrid_rotated": SMALL
    | {
        "model_type": "olmo_hybrid",
        "layer_types": ["full_attention", "linear_attention", "linear_attention"],
        "linear_value_head_dim": 12,
        "linear_allow_neg_eigval": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "pad_token_id": 0,
    },
    "gemma": SMALL | {"model_type": "gemma", "head_dim": 24, "num_key_value_heads": 1, "hidden_act": "gelu"},
    "gemma_untied": SMALL
    | {"model_type": "gemma", "head_dim": 16, "tie_word_embeddings": False, "attention_bias": True},
    "phi": SMALL | {"model_type": "phi", "num_key_value_heads": 4, "hidden_act": "gelu_new"},
    "phi_gqa": SMALL
    | {"model_type": "phi", "partial_rotary_factor": 0.25, "hidden_act": "gelu", "tie_word_embeddings": True},
    "arcee": SMALL | {"model_type": "arcee", "head_dim": 16},
    "arcee_bias": SMALL
    | {
        "model_type": "arcee",
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_scaling": YARN,
    },
    "starcoder2": SMALL | {"model_type": "starcoder2", "sliding_window": 10},
    "starcoder2_no_bias": SMALL | {"model_type": "starcoder2", "use_bias": False, "hidden_act": "relu"},
    "nemotron": SMALL | {"model_type": "nemotron"},
    "nemotron_bias": SMALL
    | {"model_type": "nemotron", "partial_rotary_factor": 0.75, "attention_bias": True, "mlp_bias": True},
    "exaone4": SMALL | {"model_type": "exaone4", "sliding_window": 9, "sliding_window_pattern": 2},
    "exaone4_global": SMALL
    | {
        "model_type": "exaone4",
        "sliding_window": None,
        "layer_types": ["full_attention"] * 3,
        "num_key_value_heads": 4,
        "rope_scaling": LLAMA3,
    },
    "openelm": OPENELM,
    "openelm_untied": OPENELM
    | {"share_input_output_layers": False, "head_dim": 16, "num_kv_heads": [2, 1, 3]},
    "ministral_tied": SMALL
    | {"model_type": "ministral", "sliding_window": 14, "head_dim": 20, "tie_word_embeddings": True},
    "ministral3_window": SMALL
    | {
        "model_type": "ministral3",
        "head_dim": 16,
        "num_key_value_heads": 1,
        "sliding_window": 12,
        "rope_parameters": YARN | {"rope_theta": 10000.0, "factor": 2.0, "llama_4_scaling_beta": 0.0},
    },
    "olmo3": SMALL | {"model_type": "olmo3", "num_hidden_layers": 4, "sliding_window": 9},
    "olmo3_yarn": SMALL
    | {
        "model_type": "olmo3",
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "attention_bias": True,
        "sliding_window": 12,
        "rope_scaling": YARN | {"rope_type": "yarn"},
    },
    "seed_oss": SMALL | {"model_type": "seed_oss", "head_dim": 24},
    "seed_oss_plain": SMALL
    | {
        "model_type": "seed_oss",
        "attention_bias": False,
        "attention_out_bias": True,
        "mlp_bias": True,
        "head_dim": 16,
    },
    "granitemoehybrid": GRANITE4,
    "granitemoehybrid_no_positions": GRANITE4
    | {"position_embedding_type": "nope", "attention_bias": True, "num_key_value_heads": 4},
    "granitemoehybrid_mamba": GRANITE4
    | {"layer_types": ["mamba", "attention", "mamba"], "mamba_d_state": 20, "mamba_n_groups": 2},
    "granitemoehybrid_experts": GRANITE4
    | {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 48},
    "granitemoehybrid_mamba_experts": GRANITE4
    | {
        "layer_types": ["mamba", "mamba", "attention"],
        "mamba_d_state": 16,
        "position_embedding_type": "nope",
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "intermediate_size": 40,
    },
    "internlm3": SMALL | {"model_type": "internlm3", "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}},
    "internlm3_bias": SMALL | {"model_type": "internlm3", "head_dim": 24, "qkv_bias": True, "bias": True},
    "vaultgemma": SMALL
    | {"model_type": "vaultgemma", "head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 12},
    "vaultgemma_bias": SMALL
    | {
        "model_type": "vaultgemma",
        "head_dim": 16,
        "attention_bias": True,
        "attn_logit_softcapping": None,
        "layer_types": ["full_attention"] * 3,
    },
    "minicpm": SMALL | {"model_type": "minicpm", "scale_emb": 12, "dim_model_base": 16, "scale_depth": 1.4},
    "minicpm_long": SMALL
    | {
        "model_type": "minicpm",
        "tie_word_embeddings": False,
        "scale_emb": 3,
        "dim_model_base": 32,
        "scale_depth": 0.7,
        "original_max_position_embeddings": 32,
        "rope_scaling": _longrope(8, rope_type="longrope"),
    },
    "ernie4_5": SMALL | {"model_type": "ernie4_5", "head_dim": 16},
    "ernie4_5_bias": SMALL
    | {"model_type": "ernie4_5", "head_dim": 24, "use_bias": True, "tie_word_embeddings": False},
    "helium": SMALL | {"model_type": "helium", "head_dim": 16, "num_key_value_heads": 4},
    "helium_bias": SMALL | {"model_type": "helium", "head_dim": 16, "attention_bias": True, "mlp_bias": True},
    "glm": SMALL | {"model_type": "glm", "head_dim": 16, "pad_token_id": 0},
    "glm_plain": SMALL
    | {
        "model_type": "glm",
        "head_dim": 24,
        "attention_bias": False,
        "partial_rotary_factor": 0.25,
        "pad_token_id": 0,
    },
    "glm4": SMALL | {"model_type": "glm4", "head_dim": 16, "pad_token_id": 0},
    "glm4_plain": SMALL
    | {
        "model_type": "glm4",
        "head_dim": 24,
        "attention_bias": False,
        "partial_rotary_factor": 1.0,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    },
    "cohere2": SMALL | {"model_type": "cohere2", "num_hidden_layers": 4, "sliding_window": 9},
    "cohere2_bias": SMALL
    | {
        "model_type": "cohere2",
        "attention_bias": True,
        "logit_scale": 0.25,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "sliding_window": 12,
    },
    "lfm3": SMALL
    | {
        "model_type": "lfm3",
        "head_dim": 16,
        "layer_types": ["conv", "full_attention", "sliding_attention", "conv"],
        "num_hidden_layers": 4,
        "sliding_window": 9,
        "pad_token_id": 0,
    },
    "lfm3_plain": SMALL
    | {
        "model_type": "lfm3",
        "head_dim": 24,
        "layer_types": ["sliding_attention", "conv", "full_attention"],
        "use_sandwich_norm": False,
        "use_attention_gate": False,
        "conv_bias": True,
        "attention_bias": True,
        "conv_L_cache": 3,
        "sliding_window": 12,
        "pad_token_id": 0,
    },
    "granite_swa": GRANITE
    | {"model_type": "granite_swa", "sliding_window": 9, "layer_rope_theta": [0, 10000.0, 500000.0]},
    "granite_swa_plain": SMALL
    | {"model_type": "granite_swa", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    "hunyuan": SMALL
    | {
        "model_type": "hunyuan_v1_dense",
        "head_dim": 24,
        "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0},
    },
    "hunyuan_bias": SMALL | {"model_type": "hunyuan_v1_dense", "head_dim": 16, "attention_bias": True},
    "bitnet": SMALL | {"model_type": "bitnet"},
    "bitnet_bias": SMALL
    | {"model_type": "bitnet", "attention_bias": True, "tie_word_embeddings": True, "hidden_act": "silu"},
    "apertus": SMALL | {"model_type": "apertus"},
    "apertus_bias": SMALL
    | {
        "model_type": "apertus",
        "attention_bias": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "gpt_oss": GPT_OSS,
    "gpt_oss_plain": GPT_OSS
    | {
        "attention_bias": False,
        "tie_word_embeddings": True,
        "num_local_experts": 5,
        "num_experts_per_tok": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "layer_types": ["full_attention", "full_attention", "sliding_attention"],
    },
    "minicpm3": SMALL
    | {
        "model_type": "minicpm3",
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "kv_lora_rank": 40,
        "q_lora_rank": 48,
        "qk_nope_head_dim": 24,
        "qk_rope_head_dim": 16,
        "v_head_dim": 20,
        "dim_model_base": 16,
        "rope_scaling": _longrope(8, rope_type="longrope", original_max_position_embeddings=32),
    },
    "minicpm3_bias": SMALL
    | {
        "model_type": "minicpm3",
        "num_key_value_heads": 4,
        "kv_lora_rank": 32,
        "q_lora_rank": None,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
    },
    "youtu": SMALL
    | {
        "model_type": "youtu",
        "num_key_value_heads": 4,
        "kv_lora_rank": 48,
        "q_lora_rank": 32,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "attention_bias": True,
        "rope_parameters": YARN_TUNED,
    },
    "youtu_halves": SMALL
    | {
        "model_type": "youtu",
        "num_key_value_heads": 4,
        "kv_lora_rank": 32,
        "q_lora_rank": None,
        "qk_nope_head_dim": 24,
        "qk_rope_head_dim": 24,
        "v_head_dim": 16,
        "rope_interleave": False,
        "tie_word_embeddings": False,
    },
    "deepseek_v3": DEEPSEEK,
    "deepseek_v3_plain": DEEPSEEK
    | {
        "q_lora_rank": 32,
        "first_k_dense_replace": 0,
        "n_shared_experts": 2,
        "norm_topk_prob": False,
        "rope_interleave": False,
        "attention_bias": True,
        "rope_parameters": YARN_TUNED,
    },
    "glm4_moe_lite": DEEPSEEK | {"model_type": "glm4_moe_lite", "q_lora_rank": 48},
    "glm4_moe_lite_dense": DEEPSEEK
    | {
        "model_type": "glm4_moe_lite",
        "q_lora_rank": None,
        "mlp_layer_types": ["dense", "dense", "sparse"],
        "routed_scaling_factor": 1.0,
        "tie_word_embeddings": True,
    },
    "nanochat": SMALL | {"model_type": "nanochat", "num_key_value_heads": 4},
    "nanochat_bias": SMALL
    | {"model_type": "nanochat", "attention_bias": True, "final_logit_softcapping": 3.0},
}


# Of those above, the ones of which a state is computed.
RECURRENT = (
    *("mamba2", "mamba2_plain", "nemotron_h", "nemotron_h_bias", "nemotron_h_moe"),
    *("qwen3_5", "qwen3_5_tied", "qwen3_next", "qwen3_next_plain", "olmo_hybrid", "olmo_hybrid_rotated"),
    *("granitemoehybrid_mamba", "granitemoehybrid_mamba_experts", "falcon_h1", "falcon_h1_norm"),
)
# The ones that --format edge alone has a form for.
EDGE_ALONE = (
    *("minicpm3", "minicpm3_bias", "youtu", "youtu_halves", "deepseek_v3", "deepseek_v3_plain"),
    *("glm4_moe_lite", "glm4_moe_lite_dense", "gemma4_experts"),
)
OFFSET_NORMS = ("gemma", "gemma2", "gemma3_text", "nemotron")  # 1 + w


@functools.cache
def make_model(name: str) -> Any:
    """The torch model, float32, in evaluation mode; the same weights every time."""
    import torch
    import transformers

    torch.manual_seed(sum(name.encode()))
    family = TINY_CONFIGS[name]["model_type"]
    if family == "openelm":
        from openelm_torch import OpenElm

        model: Any = OpenElm(TINY_CONFIGS[name], OPENELM_WIDTHS).eval()
    else:
        given = _as_granite(TINY_CONFIGS[name]) if family == "minicpm" else TINY_CONFIGS[name]
        config = transformers.AutoConfig.for_model(**json.loads(json.dumps(given)))
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, values in model.named_parameters():
            if key.endswith("A_log"):  # states that forget little by little
                values.copy_(torch.randn_like(values) - 3.0)
            elif values.ndim == 1:
                centre = 0.0 if key.endswith("bias") or family in OFFSET_NORMS else 1.0
                values.copy_(centre + 0.3 * torch.randn_like(values))
                if family == "gemma4_text" and key.endswith("q_norm.weight"):
                    values.mul_(0.1)  # scores that nothing else scales
            else:
                values.copy_(torch.randn_like(values) * (0.8 / values.shape[-1] ** 0.5))
        for key, values in model.named_buffers():
            if key.endswith("layer_scalar"):
                values.copy_(0.7 + 0.3 * torch.rand_like(values))
            if key.endswith("e_score_correction_bias"):
                values.copy_(0.3 * torch.randn_like(values))
    return model


def _as_granite(minicpm: dict[str, Any]) -> dict[str, Any]:
    """MiniCPM, whose class is not Transformers' own, in the words of one that is."""
    return minicpm | {
        "model_type": "granite",
        "tie_word_embeddings": minicpm.get("tie_word_embeddings", True),
        "embedding_multiplier": minicpm["scale_emb"],
        "attention_multiplier": (minicpm["hidden_size"] / minicpm["num_attention_heads"]) ** -0.5,
        "residual_multiplier": minicpm["scale_depth"] / minicpm["num_hidden_layers"] ** 0.5,
        "logits_scaling": minicpm["hidden_size"] / minicpm["dim_model_base"],
    }


def make_checkpoint(name: str, directory: Path) -> Path:
    """`directory/name` with config.json (as TINY_CONFIGS spells it) and model.safetensors."""
    path = directory / name
    if not path.exists():
        shutil.copytree(_built(name), path)
    return path


def make_package(name: str, directory: Path, scheme: str = "f32") -> Path:
    """The same as an `.edge` file; made once per directory."""
    path = directory / f"{name}-{scheme}.edge"
    if not path.exists():
        edge.write(convert.read(make_checkpoint(name, directory), name), path, scheme)
    return path


def _built(name: str) -> Path:
    """The checkpoint, made by whichever process of whichever run asks first."""
    path = _cache() / name
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part, model = Path(folder) / name, make_model(name)
        part.mkdir()
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(part)
            if model.config.model_type == "olmo_hybrid":
                _rename_norms(part / "model.safetensors", model.config.layer_types)
        else:
            from safetensors.torch import save_file

            save_file(model.state_dict(), part / "model.safetensors")
        (part / "config.json").write_text(json.dumps(TINY_CONFIGS[name], indent=2))
        with contextlib.suppress(OSError):  # another process was faster
            part.rename(path)
    return path


def _rename_norms(path: Path, layer_types: list[str]) -> None:
    """As OLMo Hybrid's checkpoints name those of attention: Transformers saves them as of others."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    for index, kind in enumerate(layer_types):
        if kind == "full_attention":
            saved = f"model.layers.{index}.feedforward_layer_norm.weight"
            tensors[saved.replace("feedforward_layer_norm", "post_attention_layernorm")] = tensors.pop(saved)
    save_file(tensors, path, {"format": "pt"})


@functools.cache
def _cache() -> Path:
    """A folder for what these sources make of these versions of torch and Transformers."""
    sources = (Path(__file__), Path(__file__).with_name("openelm_torch.py"))
    made_of = b"".join(source.read_bytes() for source in sources)
    made_of += "".join(metadata.version(name) for name in ("torch", "transformers")).encode()
    key = hashlib.sha256(made_of).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"edgekit-tiny-models-{getpass.getuser()}-{key}"


def torch_logits(name: str, ids: list[int]) -> NDArray[np.float32]:
    """`[len(ids), vocab_size]`"""
    import torch

    with torch.no_grad():
        logits = make_model(name)(torch.tensor([ids])).logits[0]
    return np.asarray(logits.numpy(), np.float32)
