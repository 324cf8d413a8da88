"""Mistral: Llama blocks that all attend through the same window."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"sliding_window": 4096, "num_key_value_heads": 8, "max_position_embeddings": 131072}


def spec(config: Config) -> ModelSpec:
    window = config.integer("sliding_window", None)
    layers = standard.attention_layers(config, windows=[window] * standard.layer_count(config))
    return standard.spec(config, layers=layers)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return standard.tensors(spec)
