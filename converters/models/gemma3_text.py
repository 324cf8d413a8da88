"""Gemma 3, and the text part of its image and text models: Gemma 2 with QK-norm; five of six layers have a
window and rotary angles of their own.
"""

from edgekit.converters.models import _rotary, gemma2
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = gemma2.DEFAULTS | {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "max_position_embeddings": 131072,
}


def spec(config: Config) -> ModelSpec:
    every = config.integer("sliding_window_pattern", 6)
    types = standard.layer_types(config, standard.one_full_in(config, every))
    layers = standard.attention_layers(
        config,
        windows=standard.windows(config, types),
        ropes=[1 if kind == "sliding_attention" else 0 for kind in types],
    )
    ropes = _rotary.full_and_sliding(
        config,
        layers[0].head_dim,
        theta=1e6,
        sliding_theta=config.number("rope_local_base_freq", 1e4),
    )
    return standard.spec(config, layers=layers, ropes=ropes, qk_norm="head", **gemma2.fields(config))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, gemma2.LAYER | standard.QK_NORM, biases=biases, norm_offset=1.0)
