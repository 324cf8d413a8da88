"""Nemotron (Minitron 4B): LayerNorm stored minus 1, a plain feed-forward part of squared ReLU, half a head
rotated.
"""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"hidden_act": "relu2", "norm_eps": 1e-5, "max_position_embeddings": 4096}


def spec(config: Config) -> ModelSpec:
    layers = standard.attention_layers(config)
    config.only("kv_channels", layers[0].head_dim)
    config.only("rope_percent", config.number("partial_rotary_factor", 0.5))
    return standard.spec(
        config,
        layers=layers,
        ropes=(_rotary.rope(config, layers[0].head_dim, partial=0.5),),
        norm="layer",
        eps="norm_eps",
        gated=False,
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    mlp = ("up", "down") if config.flag("mlp_bias") else ()
    biases = ("attn_norm", "ffn_norm", "final_norm", *attention, *mlp)
    return standard.tensors(spec, biases=biases, norm_offset=1.0)
