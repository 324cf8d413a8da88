"""Helium 1: Llama blocks in which neighbouring numbers of a head are rotated together."""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 20,
    "head_dim": 128,
    "rms_norm_eps": 1e-8,
    "max_position_embeddings": 4096,
}


def spec(config: Config) -> ModelSpec:
    return standard.spec(config, ropes=(_rotary.rope(config, standard.head_dim(config), theta=1e5),))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v") if config.flag("attention_bias") else ()
    mlp = ("gate", "up", "down") if config.flag("mlp_bias") else ()
    return standard.tensors(spec, biases=attention + mlp, pairs=True)
