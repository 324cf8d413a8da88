"""OLMo 2: norms after attention and feed-forward instead of before, and over all of q and of k at once."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"rms_norm_eps": 1e-5}
LAYER = {k: v for k, v in standard.LAYER.items() if k not in ("attn_norm", "ffn_norm")}


def spec(config: Config) -> ModelSpec:
    return standard.spec(config, qk_norm="full")


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, LAYER | standard.QK_NORM | standard.POST_NORM, biases=biases)
