"""Gemma 2: norms before and after each part, stored minus 1; soft-caps; every other layer has a window."""

from typing import Any

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "head_dim": 256,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
LAYER = standard.LAYER | standard.POST_NORM | {"ffn_norm": "pre_feedforward_layernorm"}


def spec(config: Config) -> ModelSpec:
    count = standard.layer_count(config)
    types = standard.layer_types(
        config, ["full_attention" if i % 2 else "sliding_attention" for i in range(count)]
    )
    layers = standard.attention_layers(config, windows=standard.windows(config, types))
    return standard.spec(config, layers=layers, **fields(config))


def fields(config: Config) -> dict[str, Any]:
    """The members of ModelSpec that Gemma 2 and 3 set."""
    config.ignore("hidden_act")  # Gemma reads hidden_activation
    config.only("use_bidirectional_attention", False)
    return {
        "activation": standard.activation(config, "hidden_activation"),
        "embed_scale": config.integer("hidden_size") ** 0.5,
        "attn_scale": config.number("query_pre_attn_scalar") ** -0.5,
        "attn_softcap": config.number("attn_logit_softcapping", None) or 0.0,
        "logit_softcap": config.number("final_logit_softcapping", None) or 0.0,
    }


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, LAYER, biases=biases, norm_offset=1.0)
