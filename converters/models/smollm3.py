"""SmolLM3: Llama blocks, every fourth without positional encoding."""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"num_key_value_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": 32768}


def spec(config: Config) -> ModelSpec:
    config.ignore("max_window_layers")  # a trace of Qwen2: layer_types decides
    count = standard.layer_count(config)
    every = config.integer("no_rope_layer_interval", 4)
    rotated = config.items("no_rope_layers", count, [int((i + 1) % every != 0) for i in range(count)])
    sliding = config.flag("use_sliding_window") and config.integer("sliding_window", None) is not None
    usual = ["sliding_attention" if sliding and not rotates else "full_attention" for rotates in rotated]
    types = standard.layer_types(config, usual)
    layers = standard.attention_layers(
        config,
        windows=standard.windows(config, types) if sliding else None,
        ropes=[0 if rotates else None for rotates in rotated],
    )
    return standard.spec(config, layers=layers, ropes=(_rotary.rope(config, layers[0].head_dim, theta=2e6),))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    mlp = ("gate", "up", "down") if config.flag("mlp_bias") else ()
    return standard.tensors(spec, biases=attention + mlp)
