"""Ministral (2024): Mistral with a window for some layers."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"sliding_window": 4096, "num_key_value_heads": 8, "max_position_embeddings": 131072}


def spec(config: Config) -> ModelSpec:
    usual = "full_attention" if config.integer("sliding_window", None) is None else "sliding_attention"
    types = standard.layer_types(config, [usual] * standard.layer_count(config))
    return standard.spec(
        config, layers=standard.attention_layers(config, windows=standard.windows(config, types))
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return standard.tensors(spec)
