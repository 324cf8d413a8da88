"""MiniCPM 1, 2 and 4: Llama blocks with multipliers on embedding, residuals and logits (muP)."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.models.llama import tensors
from edgekit.converters.spec import ModelSpec

__all__ = ["DEFAULTS", "spec", "tensors"]

DEFAULTS = {"tie_word_embeddings": True, "scale_emb": 1, "dim_model_base": 1, "scale_depth": 1}


def spec(config: Config) -> ModelSpec:
    config.ignore("mup_denominator")  # of training
    return standard.spec(
        config,
        embed_scale=config.number("scale_emb"),
        residual_scale=config.number("scale_depth") / standard.layer_count(config) ** 0.5,
        logit_scale=config.number("dim_model_base") / config.integer("hidden_size"),
    )
