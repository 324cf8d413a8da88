"""Qwen2 and 2.5, DeepSeek-R1-Distill-Qwen: Llama blocks with biases on q, k, v; upper layers may have a
window.
"""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"sliding_window": 4096, "num_key_value_heads": 32, "max_position_embeddings": 32768}


def windows(config: Config) -> list[int | None]:
    """The window of each layer: only with `use_sliding_window`, by default from layer `max_window_layers`
    on.
    """
    count = standard.layer_count(config)
    first = config.integer("max_window_layers", 28, minimum=0)
    sliding = config.flag("use_sliding_window") and config.integer("sliding_window", None) is not None
    usual = ["sliding_attention" if sliding and i >= first else "full_attention" for i in range(count)]
    return standard.windows(config, standard.layer_types(config, usual))


def spec(config: Config) -> ModelSpec:
    return standard.spec(config, layers=standard.attention_layers(config, windows=windows(config)))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return standard.tensors(spec, biases=("q", "k", "v"))
