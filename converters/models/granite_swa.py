"""Granite with windows: Granite 3 whose layers have rotary bases of their own (0: none), and whose heads may
attend to nothing.
"""

import dataclasses

from edgekit.converters.models import _rotary, granite
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "sliding_window": 128,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
LAYER = standard.LAYER | {"sinks": "self_attn.sinks"}


def spec(config: Config) -> ModelSpec:
    count, given = standard.layer_count(config), _rotary.parameters(config)
    usual = ["sliding_attention" if i % 4 else "full_attention" for i in range(count)]
    windows = standard.windows(config, standard.layer_types(config, usual))
    theta = Config(given).number("rope_theta", config.number("rope_theta", 1e4))
    thetas = config.numbers("layer_rope_theta", count, [theta] * count, zero=True)
    bases, context = sorted({*thetas} - {0.0}), config.integer("max_position_embeddings")
    head_dim = standard.head_dim(config)
    ropes = [_rotary.from_parameters({**given, "rope_theta": b}, head_dim, b, 1.0, context) for b in bases]
    layers = standard.attention_layers(
        config, windows=windows, ropes=[bases.index(base) if base else None for base in thetas]
    )
    return dataclasses.replace(granite.spec(config), layers=layers, ropes=tuple(ropes))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    mlp = ("gate", "up", "down") if config.flag("mlp_bias") else ()
    return standard.tensors(spec, LAYER, biases=attention + mlp)
