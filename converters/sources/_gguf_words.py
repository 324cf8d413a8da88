"""GGUF's keys in Hugging Face's words: config.json, and the tokenizer's files."""

from __future__ import annotations

from typing import Any

from edgekit.converters.formats import _gguf_tokenizer
from edgekit.converters.formats._gguf_architecture import BY_MODEL_TYPE
from edgekit.errors import InvalidFile, UnsupportedModel

# Architecture -> the family that reads it. llama.cpp's "llama" is Mistral's too.
MODEL_TYPES = {arch.name: kind for kind, arch in reversed(BY_MODEL_TYPE.items())}
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

GPT2_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def config(keys: dict[str, Any], shapes: Shapes) -> dict[str, Any]:
    """Raises UnsupportedModel for an unknown architecture, InvalidFile when keys are missing."""
    name = keys.get("general.architecture")
    kind = MODEL_TYPES.get(str(name))
    if kind is None:
        known = ", ".join(sorted(MODEL_TYPES))
        raise UnsupportedModel(f"GGUF architecture {name!r} is not supported; known: {known}")

    def key(word: str, default: Any = ...) -> Any:
        value = keys.get(f"{name}.{word}", default)
        if value is ...:
            raise InvalidFile(f"the GGUF file has no key {name}.{word}")
        return max(value) if isinstance(value, list) and word.startswith("attention.head_count") else value

    if "token_embd.weight" not in shapes:
        raise InvalidFile("the GGUF file has no tensor token_embd.weight")
    heads, width = key("attention.head_count"), key("embedding_length")
    layers = key("block_count")
    head_dim = key("attention.key_length", width // max(heads, 1))
    if kind == "openelm":
        return _openelm(key, keys, shapes)
    norm = "layer_norm_epsilon" if kind in LAYER_NORM else "layer_norm_rms_epsilon"
    eps = key(f"attention.{norm}")
    found: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": shapes["token_embd.weight"][0],
        "hidden_size": width,
        "intermediate_size": key("expert_feed_forward_length", key("feed_forward_length")),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key("attention.head_count_kv", heads),
        "max_position_embeddings": key("context_length"),
        "rope_theta": key("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in shapes,
        EPSILON.get(kind, "rms_norm_eps"): eps,
    }
    biased = {name.split(".", 2)[-1] for name in shapes if name.endswith(".bias")}
    if head_dim * heads != width or kind.startswith("gemma"):
        found["head_dim"] = head_dim
    if kind in ("llama", "granite", "smollm3", "nemotron"):
        found |= {"attention_bias": "attn_q.bias" in biased, "mlp_bias": "ffn_up.bias" in biased}
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
    if kind == "granite":
        found |= {
            "embedding_multiplier": key("embedding_scale", 1.0),
            "attention_multiplier": key("attention.scale", head_dim**-0.5),
            "residual_multiplier": key("residual_scale", 1.0),
            "logits_scaling": key("logit_scale", 1.0),
        }
    if kind == "phi3":
        context = key("rope.scaling.original_context_length", key("context_length"))
        found["original_max_position_embeddings"] = context
    if kind in ("gemma2", "gemma3_text"):
        found |= {"query_pre_attn_scalar": head_dim, "tie_word_embeddings": True} | _windows(
            key, kind, layers
        )
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


def _openelm(key: Any, keys: dict[str, Any], shapes: Shapes) -> dict[str, Any]:
    """Every layer has its own numbers of heads and width."""
    layers, width = key("block_count"), key("embedding_length")

    def each(word: str) -> list[int]:
        key(word)
        value = keys[f"openelm.{word}"]
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


def scaling(keys: dict[str, Any], factors: dict[str, list[float]], config: dict[str, Any]) -> dict[str, Any]:
    """`rope_scaling` for a GGUF file's angles; `factors` are its rope tensors."""
    name = keys["general.architecture"]
    kind = keys.get(f"{name}.rope.scaling.type", "none")
    gain = keys.get(f"{name}.rope.scaling.attn_factor", 1.0)
    context = keys.get(f"{name}.rope.scaling.original_context_length", config.get("max_position_embeddings"))
    if short := factors.get("rope_freqs.weight") or factors.get("rope_factors_short.weight"):
        long = factors.get("rope_factors_long.weight", short)
        return {
            "rope_type": "longrope",
            "short_factor": short,
            "long_factor": long,
            "attention_factor": gain,
            "original_max_position_embeddings": context,
        }
    if kind == "linear":
        return {"rope_type": "linear", "factor": keys[f"{name}.rope.scaling.factor"]}
    if kind == "yarn":
        given = {"rope_type": "yarn", "factor": keys[f"{name}.rope.scaling.factor"]}
        return given | {"original_max_position_embeddings": context}
    return {}


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


def files(keys: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json, tokenizer_config.json and generation_config.json; nothing without a vocabulary."""
    tokens, types = keys.get("tokenizer.ggml.tokens"), keys.get("tokenizer.ggml.token_type")
    kind = keys.get("tokenizer.ggml.model")
    if not tokens or kind not in ("gpt2", "llama"):
        return {}
    types = types or [_gguf_tokenizer.NORMAL] * len(tokens)
    special = (_gguf_tokenizer.CONTROL, _gguf_tokenizer.UNKNOWN)
    added = [
        {
            "id": id,
            "content": text,
            "special": types[id] in special,
            "normalized": False,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
        }
        for id, text in enumerate(tokens)
        if types[id] in (*special, _gguf_tokenizer.USER_DEFINED)
    ]
    before = [keys.get("tokenizer.ggml.bos_token_id")]
    if not keys.get("tokenizer.ggml.add_bos_token", kind == "llama") or before == [None]:
        before = []
    definition = {
        "version": "1.0",
        "added_tokens": added,
        "post_processor": _template(before, tokens),
        **(_byte_level(keys) if kind == "gpt2" else _sentencepiece(keys, tokens)),
    }
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    words: dict[str, Any] = {}
    for ours, theirs in names.items():
        id = keys.get(f"tokenizer.ggml.{ours}_token_id")
        if isinstance(id, int) and id < len(tokens):
            words[theirs] = tokens[id]
    if template := keys.get("tokenizer.chat_template"):
        words["chat_template"] = template
    ends = [keys.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    generation = {"eos_token_id": [id for id in dict.fromkeys(ends) if isinstance(id, int)]}
    return {
        "tokenizer.json": definition,
        "tokenizer_config.json": words,
        "generation_config.json": generation,
    }


def _template(before: list[Any], tokens: list[str]) -> dict[str, Any] | None:
    if not before:
        return None
    text = tokens[before[0]]
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {text: {"id": text, "ids": before, "tokens": [text]}},
    }


def _byte_level(keys: dict[str, Any]) -> dict[str, Any]:
    pre = keys.get("tokenizer.ggml.pre", "gpt-2")
    ignore = pre in ("llama-bpe", "llama3", "llama-v3")
    name = (
        "dbrx"
        if ignore
        else {"refact": "smollm", "stablelm2": "qwen2", "lfm2": "dbrx", "smaug-bpe": "dbrx"}.get(pre, pre)
    )
    pattern = next((text for text, known in _gguf_tokenizer.PRE_TYPES.items() if known == name), None)
    if pattern is None:
        raise UnsupportedModel(
            f"the GGUF file's tokenizer cuts words as {pre!r}, which edgekit does not know"
        )
    if name == "gpt-2":
        words: list[dict[str, Any]] = [GPT2_WORDS]
    elif name == "smollm":
        words = [{"type": "Digits", "individual_digits": True}, GPT2_WORDS]
    else:
        words = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            BYTES,
        ]
    tokens = keys["tokenizer.ggml.tokens"]
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": words},
        "decoder": GPT2_WORDS,
        "model": {
            "type": "BPE",
            "ignore_merges": ignore,
            "byte_fallback": False,
            "vocab": {text: id for id, text in enumerate(tokens)},
            "merges": keys.get("tokenizer.ggml.merges", []),
        },
    }


def _sentencepiece(keys: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """Pairs are merged in the order of their scores."""
    scores = keys.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
    ids = {text: id for id, text in enumerate(tokens)}
    merges = []
    for id, text in enumerate(tokens):
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                merges.append((-scores[id], ids[left], ids[right], [left, right]))
    merges.sort(key=lambda merge: merge[:3])
    prefix = keys.get("tokenizer.ggml.add_space_prefix", True)
    steps: list[dict[str, Any]] = [{"type": "Prepend", "prepend": "▁"}] if prefix else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = keys.get("tokenizer.ggml.unknown_token_id")
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "byte_fallback": "<0x00>" in ids,
            "fuse_unk": True,
            "unk_token": tokens[unknown] if isinstance(unknown, int) and unknown < len(tokens) else None,
            "vocab": ids,
            "merges": [merge[3] for merge in merges],
        },
    }
