"""ERNIE 4.5 (0.3B, dense): Llama blocks in which neighbouring numbers of a head are rotated together."""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 2,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131072,
}


def spec(config: Config) -> ModelSpec:
    return standard.spec(config, ropes=(_rotary.rope(config, standard.head_dim(config), theta=5e5),))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o", "gate", "up", "down") if config.flag("use_bias") else ()
    return standard.tensors(spec, biases=biases, pairs=True)
