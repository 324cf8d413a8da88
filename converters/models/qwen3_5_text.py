"""Qwen3.5, and the text part of its image and text models: gated delta nets, and in every fourth layer
attention with a gate on its output. Checkpoints keep each head's queries and gate together.
"""

from edgekit.converters.models import _delta, _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = _delta.DEFAULTS | {
    "vocab_size": 248320,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 32768,
}


def spec(config: Config) -> ModelSpec:
    config.only("attn_output_gate", True)
    config.ignore("mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")
    attention = standard.attention_layers(config)
    return standard.spec(
        config,
        layers=_delta.layers(config, attention, _delta.every_fourth(config)),
        ropes=(_rotary.rope(config, attention[0].head_dim, partial=0.25),),
        qk_norm="head",
        attn_gate="full",
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    layer = standard.LAYER | standard.QK_NORM | _delta.LAYER
    found = standard.tensors(spec, layer, biases=biases, norm_offset=1.0)
    return _delta.queries_and_gates(spec, found)
