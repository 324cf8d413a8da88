"""MiniCPM 3 (4B): MiniCPM with multi-head latent attention."""

from edgekit.converters.models import _latent
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "vocab_size": 73448,
    "hidden_size": 2560,
    "intermediate_size": 6400,
    "num_hidden_layers": 62,
    "num_attention_heads": 40,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "kv_lora_rank": 256,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 256,
}


def spec(config: Config) -> ModelSpec:
    count = standard.layer_count(config)
    return _latent.spec(
        config,
        [_latent.layer(config)] * count,
        embed_scale=config.number("scale_emb"),
        residual_scale=config.number("scale_depth") / count**0.5,
        logit_scale=config.number("dim_model_base") / config.integer("hidden_size"),
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("gate", "up", "down") if config.flag("mlp_bias") else ()
    return _latent.tensors(config, spec, biases=biases)
