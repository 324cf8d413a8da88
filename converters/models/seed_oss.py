"""Seed-OSS: Llama blocks; q, k and v have biases, the output projection need not."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 524288}


def spec(config: Config) -> ModelSpec:
    return standard.spec(config)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    qkv = ("q", "k", "v") if config.flag("attention_bias", True) else ()
    out = ("o",) if config.flag("attention_out_bias") else ()
    mlp = ("gate", "up", "down") if config.flag("mlp_bias") else ()
    return standard.tensors(spec, biases=qkv + out + mlp)
