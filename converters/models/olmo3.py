"""OLMo 3: OLMo 2 with a window in three of four layers; what scales the rotary angles spares those."""

from edgekit.converters.models import _rotary, olmo2
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.models.olmo2 import tensors
from edgekit.converters.spec import ModelSpec

__all__ = ["DEFAULTS", "spec", "tensors"]

DEFAULTS = olmo2.DEFAULTS | {"sliding_window": 4096}


def spec(config: Config) -> ModelSpec:
    types = standard.layer_types(config, standard.one_full_in(config, 4))
    sliding = [kind == "sliding_attention" for kind in types]
    layers = standard.attention_layers(
        config, windows=standard.windows(config, types), ropes=list(map(int, sliding))
    )
    ropes = _rotary.full_and_sliding(config, layers[0].head_dim, theta=5e5)
    return standard.spec(config, layers=layers, ropes=ropes, qk_norm="full")
