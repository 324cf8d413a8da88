"""EXAONE 4: norms after each part and over each head of q and k; where some layers have a window, only those
rotate.
"""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models import olmo2
from edgekit.converters.models._config import Config
from edgekit.converters.models.olmo2 import tensors
from edgekit.converters.spec import ModelSpec

__all__ = ["DEFAULTS", "spec", "tensors"]

DEFAULTS = olmo2.DEFAULTS | {"num_key_value_heads": 32, "sliding_window": 4096, "sliding_window_pattern": 4}


def spec(config: Config) -> ModelSpec:
    hybrid = config.integer("sliding_window", None) is not None
    if config.get("layer_types"):
        config.ignore("sliding_window_pattern")
        every = 1
    else:
        every = config.integer("sliding_window_pattern") if hybrid else 1
    types = standard.layer_types(config, standard.one_full_in(config, every))
    layers = standard.attention_layers(
        config,
        windows=standard.windows(config, types),
        ropes=[None if hybrid and kind == "full_attention" else 0 for kind in types],
    )
    return standard.spec(config, layers=layers, qk_norm="head")
