"""Granite 3: Llama blocks with multipliers on embedding, attention, residuals and logits."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.models.llama import tensors
from edgekit.converters.spec import ModelSpec

__all__ = ["spec", "tensors"]


def spec(config: Config) -> ModelSpec:
    return standard.spec(
        config,
        embed_scale=config.number("embedding_multiplier", 1.0),
        attn_scale=config.number("attention_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        logit_scale=1.0 / config.number("logits_scaling", 1.0),
    )
