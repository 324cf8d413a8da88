"""The same random weights of a 0.5B shape for every engine of the benchmark: .edge, GGUF, Transformers.js.

python runtimes/web/bench/models.py build/bench-web    # --small: a tiny shape, to try it all
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import edgekit
from edgekit.converters import convert
from edgekit.converters.formats import onnx
from edgekit.converters.synth import synth

VOCABULARY = 128_000
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
}
SMALL = {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2}


def tokenizer() -> dict[str, Any]:
    """Byte-level BPE with a merge that never applies: every byte is a token, the rest of the vocabulary is
    never made. (llama.cpp refuses a model without merges.)
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]
    special = ["<|begin|>", "<|end|>"]
    filler = ["~~", *(f"~{i:06d}" for i in range(VOCABULARY - len(letters) - len(special) - 1))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": VOCABULARY - len(special) + place,
                "content": content,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for place, content in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: id for id, token in enumerate([*letters, *filler])},
            "merges": ["~ ~"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    out: Path = arguments.out
    checkpoint = out / "checkpoint"
    if not checkpoint.exists():
        synth(SHAPE | SMALL if arguments.small else SHAPE, checkpoint)
        (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer()))
        names = {
            "bos_token": "<|begin|>",
            "eos_token": "<|end|>",
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(names))
    for file, form in (("model.edge", "edge"), ("model.gguf", "gguf")):
        if not (out / file).exists():
            edgekit.convert(checkpoint, out / file, format=form, scheme="q4", verify=False)
    if not (out / "transformers.js").exists():
        onnx.write_transformers_js(convert.read(checkpoint, "bench"), out / "transformers.js", "q4")


if __name__ == "__main__":
    main()
