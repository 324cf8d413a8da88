"""Small GGUF files for tests: a Llama of random weights with a byte-level vocabulary, any key changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.text.tokenizer_steps import BYTE_OF_CHARACTER

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|user|>"]
BOS, EOS, EOT, USER = range(256, 260)
CONTROL = 3
Keys = dict[str, Any]

MODEL: Keys = {
    "block_count": 1,
    "context_length": 64,
    "embedding_length": 32,
    "feed_forward_length": 32,
    "attention.head_count": 2,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
TOKENIZER: Keys = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": [*BYTE_OF_CHARACTER, *SPECIAL],
    "tokenizer.ggml.token_type": [1] * 256 + [CONTROL] * len(SPECIAL),
    "tokenizer.ggml.merges": ["h i"],
    "tokenizer.ggml.bos_token_id": BOS,
    "tokenizer.ggml.eos_token_id": EOS,
}


def write(
    path: Path,
    keys: Keys | None = None,
    *,
    architecture: str = "llama",
    parts: int = 1,
    big_endian: bool = False,
) -> Path:
    """A GGUF file, or the first of its `parts`. `keys` replace others, those that are None go; words without
    a namespace before them are the architecture's.
    """
    import gguf

    tokenizer = dict(TOKENIZER)
    tokenizer["tokenizer.ggml.tokens"] = [*tokenizer["tokenizer.ggml.tokens"], "hi"]
    tokenizer["tokenizer.ggml.token_type"] = [*tokenizer["tokenizer.ggml.token_type"], 1]
    all_keys = {f"{architecture}.{word}": value for word, value in MODEL.items()} | tokenizer | (keys or {})
    random, tokens = np.random.default_rng(0), all_keys["tokenizer.ggml.tokens"]
    shapes = {
        "token_embd.weight": (len(tokens) if isinstance(tokens, list) else 1, 32),
        "output_norm.weight": (32,),
        **{f"blk.0.{name}.weight": (32, 32) for name in "attn_q attn_k attn_v attn_output".split()},
        **{f"blk.0.{name}.weight": (32, 32) for name in "ffn_gate ffn_up ffn_down".split()},
        **{f"blk.0.{name}.weight": (32,) for name in ("attn_norm", "ffn_norm")},
        **({f"blk.0.attn_{x}_norm.weight": (16,) for x in "qk"} if architecture == "qwen3" else {}),
    }
    tensors = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    endian = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    files = [path]
    if parts > 1:
        files = [path.with_name(f"{path.stem}-{i + 1:05d}-of-{parts:05d}.gguf") for i in range(parts)]
    for number, file in enumerate(files):
        writer = gguf.GGUFWriter(file, architecture, endianess=endian)
        if number == 0:
            for key, value in all_keys.items():
                if value is not None:
                    _add(writer, key, value)
        if parts > 1:
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", parts)
            writer.add_int32("split.tensors.count", len(tensors))
        for name in [*tensors][number::parts]:
            writer.add_tensor(name, tensors[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return files[0]


def _add(writer: Any, key: str, value: Any) -> None:
    add = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}
    getattr(writer, add[type(value)])(key, value)
