"""Youtu-LLM (2B): Llama blocks with multi-head latent attention."""

from edgekit.converters.models import _latent
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = _latent.DEFAULTS | {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}


def spec(config: Config) -> ModelSpec:
    config.ignore("embedding_initializer_range")
    return _latent.spec(config, [_latent.layer(config)] * standard.layer_count(config))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return _latent.tensors(config, spec)
