"""A checkpoint as an ExecuTorch program, by ExecuTorch's own export of Llama blocks.

python tools/executorch_model.py CHECKPOINT MODEL.pte [--group 32] [--kv f32] [--context 2048]

For the XNNPACK delegate: 4-bit weights with a scale for each `--group` columns and activations quantized to
8 bits as they come ("8da4w"), 8-bit embedding rows, attention and its cache as ExecuTorch's own operators.
CHECKPOINT is whatever `edgekit convert` reads of plain Llama blocks: Llama, Qwen2, Qwen3, Mistral. Takes
minutes. Beside edgekit, in an environment of its own since torch is large:

    pip install executorch==1.5.1 torch==2.13.0
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from executorch.examples.models.llama.export_llama_lib import export_llama
from executorch.extension.llm.export.config.llm_config import LlmConfig, ModelType

from edgekit.converters import models
from edgekit.converters.sources import open_source
from edgekit.converters.spec import Layer, ModelSpec

# Our name of a tensor -> ExecuTorch's, which is Meta's.
TOP = {"embed": "tok_embeddings.weight", "final_norm": "norm.weight", "head": "output.weight"}
LAYER = {
    "attn_norm": "attention_norm.weight",
    "q": "attention.wq.weight",
    "q_bias": "attention.wq.bias",
    "k": "attention.wk.weight",
    "k_bias": "attention.wk.bias",
    "v": "attention.wv.weight",
    "v_bias": "attention.wv.bias",
    "o": "attention.wo.weight",
    "q_norm": "attention.q_norm_fn.weight",
    "k_norm": "attention.k_norm_fn.weight",
    "ffn_norm": "ffn_norm.weight",
    "gate": "feed_forward.w1.weight",
    "down": "feed_forward.w2.weight",
    "up": "feed_forward.w3.weight",
}
CHUNK = 512  # tokens a call takes at most


def parameters(model: models.Model) -> dict[str, Any]:
    """ExecuTorch's ModelArgs. Raises SystemExit for a model that is more than plain Llama blocks."""
    spec = model.spec
    layer, rope = spec.layers[0], spec.ropes[0]
    theta = rope.inv_freq[1] ** (-rope.dim / 2)
    plain = ModelSpec(
        model_type=spec.model_type,
        vocab_size=spec.vocab_size,
        d_model=spec.d_model,
        layers=(
            Layer(
                n_heads=layer.n_heads,
                n_kv_heads=layer.n_kv_heads,
                head_dim=layer.head_dim,
                d_ff=layer.d_ff,
            ),
        )
        * len(spec.layers),
        ropes=spec.ropes,
        norm_eps=spec.norm_eps,
        qk_norm="head" if spec.qk_norm == "head" else "none",
        attn_scale=layer.head_dim**-0.5,
        tied=spec.tied,
        context=spec.context,
    )
    powers = (theta ** (-2 * i / rope.dim) for i in range(rope.dim // 2))
    rotates_all = rope.dim == layer.head_dim and all(map(math.isclose, rope.inv_freq, powers))
    if spec != plain or not rotates_all or not _parts(model) <= {*TOP, *LAYER}:
        raise SystemExit(f"{spec.model_type}: only plain Llama blocks are exported")
    return {
        "dim": spec.d_model,
        "n_layers": len(spec.layers),
        "n_heads": layer.n_heads,
        "n_kv_heads": layer.n_kv_heads,
        "head_dim": layer.head_dim,
        "hidden_dim": layer.d_ff,
        "vocab_size": spec.vocab_size,
        "norm_eps": spec.norm_eps,
        "rope_theta": theta,
        "use_hf_rope": True,
        "attention_qkv_bias": "q_bias" in _parts(model),
        "use_qk_norm": spec.qk_norm == "head",
        "qk_norm_before_rope": True,
    }


def weights(model: models.Model) -> dict[str, torch.Tensor]:
    found = {}
    for ours in model.tensors:
        layer, _, part = ours.rpartition(".")
        found[f"{layer}.{LAYER[part]}" if layer else TOP[part]] = torch.from_numpy(model.load(ours))
    found.setdefault("output.weight", found["tok_embeddings.weight"])
    return found


def _parts(model: models.Model) -> set[str]:
    return {name.rpartition(".")[2] for name in model.tensors}


def export(checkpoint: Path, target: Path, group: int, kv: str, context: int) -> None:
    model = models.open_model(open_source(checkpoint))
    config = LlmConfig()
    config.base.model_class = ModelType.llama3  # any whose parameters come from a file
    config.model.use_kv_cache = config.model.use_sdpa_with_kv_cache = True
    config.model.quantize_kv_cache = kv == "int8"
    config.export.max_seq_length, config.export.max_context_length = min(CHUNK + 1, context), context
    config.export.output_name = str(target.resolve())
    config.quantization.qmode, config.quantization.group_size = "8da4w", group
    config.quantization.embedding_quantize = "8,0"
    config.backend.xnnpack.enabled = config.backend.xnnpack.extended_ops = True
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        config.base.params, config.base.checkpoint = f"{work}/params.json", f"{work}/weights.pth"
        Path(config.base.params).write_text(json.dumps(parameters(model)))
        torch.save(weights(model), config.base.checkpoint)
        export_llama(config)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("target", type=Path, metavar="MODEL.pte")
    parser.add_argument("--group", type=int, default=32, help="columns with one scale")
    parser.add_argument("--kv", choices=("f32", "int8"), default="f32", help="keys and values")
    parser.add_argument("--context", type=int, default=2048, help="positions of the cache")
    args = parser.parse_args()
    export(args.checkpoint, args.target, args.group, args.kv, args.context)


if __name__ == "__main__":
    main()
