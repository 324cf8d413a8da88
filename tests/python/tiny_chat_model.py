"""A small Llama-shaped checkpoint with a byte-level tokenizer and a chat template, written without torch.

Its weights are random, so its text is noise; what tests look at is everything around it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SPECIAL = ["<|begin|>", "<|end|>", "<|start|>", "<|stop|>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|stop|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 256 + len(SPECIAL),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": [257, 259],
}


def write(directory: Path, *, tokenizer: bool = True, template: str | None = TEMPLATE, **config: Any) -> Path:
    """Writes the checkpoint; `config` replaces members of its config."""
    directory.mkdir(parents=True, exist_ok=True)
    members = CONFIG | config
    (directory / "config.json").write_text(json.dumps(members))
    save_file(_weights(members), directory / "model.safetensors")
    (directory / "README.md").write_text("---\nlicense: cc0-1.0\n---\n\nNoise.\n")
    (directory / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [257, 259], "temperature": 0.7, "top_k": 20, "do_sample": True})
    )
    if tokenizer:
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(SPECIAL)))
        facts: dict[str, Any] = {"bos_token": SPECIAL[0], "eos_token": {"content": SPECIAL[1]}}
        if template is not None:
            facts["chat_template"] = template
        (directory / "tokenizer_config.json").write_text(json.dumps(facts))
    return directory


def _weights(config: dict[str, Any]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    width, ff = config["hidden_size"], config["intermediate_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}."
        shapes |= {
            at + "input_layernorm.weight": (width,),
            at + "post_attention_layernorm.weight": (width,),
            at + "self_attn.q_proj.weight": (q, width),
            at + "self_attn.k_proj.weight": (kv, width),
            at + "self_attn.v_proj.weight": (kv, width),
            at + "self_attn.o_proj.weight": (width, q),
            at + "mlp.gate_proj.weight": (ff, width),
            at + "mlp.up_proj.weight": (ff, width),
            at + "mlp.down_proj.weight": (width, ff),
        }
    shapes["model.norm.weight"] = (width,)
    return {
        name: (
            rng.uniform(0.8, 1.2, shape) if len(shape) == 1 else rng.normal(0, 2 / np.sqrt(shape[1]), shape)
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def tokenizer_json(special: list[str]) -> dict[str, Any]:
    """Bytes, then special tokens; the first of them begins a text."""
    vocabulary = {symbol: id for id, symbol in enumerate(_byte_symbols())}
    added = [
        {
            "id": 256 + n,
            "content": text,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for n, text in enumerate(special)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    bos = {"SpecialToken": {"id": special[0], "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {special[0]: {"id": special[0], "ids": [256], "tokens": [special[0]]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    symbols, spare = [], 256
    for byte in range(256):
        if byte in printable:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(spare))
            spare += 1
    return symbols
