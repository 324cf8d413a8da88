"""Gemma (2024, first version): Llama blocks with GELU, a scaled embedding, and norms stored minus 1."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "head_dim": 256,
    "num_key_value_heads": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}


def spec(config: Config) -> ModelSpec:
    config.only("hidden_activation", "gelu_pytorch_tanh")
    config.only("use_bidirectional_attention", False)
    activation = standard.activation(config, "hidden_act")
    return standard.spec(
        config,
        activation="gelu_tanh"
        if activation == "gelu"
        else activation,  # early configs say "gelu" and mean this
        embed_scale=config.integer("hidden_size") ** 0.5,
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, biases=biases, norm_offset=1.0)
