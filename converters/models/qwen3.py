"""Qwen3: Qwen2 with a norm over each head of q and k, and without biases."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models import qwen2
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = qwen2.DEFAULTS | {"head_dim": 128}


def spec(config: Config) -> ModelSpec:
    layers = standard.attention_layers(config, windows=qwen2.windows(config))
    return standard.spec(config, layers=layers, qk_norm="head")


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, standard.LAYER | standard.QK_NORM, biases=biases)
