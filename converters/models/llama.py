"""Llama: Llama 2 and 3, SmolLM2, TinyLlama."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source


def spec(config: Config) -> ModelSpec:
    return standard.spec(config)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    mlp = ("gate", "up", "down") if config.flag("mlp_bias") else ()
    return standard.tensors(spec, biases=attention + mlp)
