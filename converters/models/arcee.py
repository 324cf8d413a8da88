"""Arcee AFM: Llama blocks with a plain feed-forward part of squared ReLU."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.models.llama import tensors
from edgekit.converters.spec import ModelSpec

__all__ = ["DEFAULTS", "spec", "tensors"]

DEFAULTS = {"hidden_act": "relu2", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}


def spec(config: Config) -> ModelSpec:
    return standard.spec(config, gated=False)
