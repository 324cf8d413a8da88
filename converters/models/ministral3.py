"""Ministral 3 (3B, 8B; also the text part of Mistral 3): Mistral with YaRN.

Beyond `original_max_position_embeddings` the model scales its queries by the position
(`llama_4_scaling_beta`). A spec has no such rule; the scale is exactly 1 before, so the context is what the
model was first trained for.
"""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source
from edgekit.errors import InvalidFile

DEFAULTS = {
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 262144,
}
NOT_ANGLES = ("llama_4_scaling_beta", "max_position_embeddings")


def spec(config: Config) -> ModelSpec:
    given = _rotary.parameters(config)
    if not given:
        raise InvalidFile(
            "config: 'rope_parameters' is missing", hint="take config.json from where the weights came from"
        )
    angles = {k: v for k, v in given.items() if k not in NOT_ANGLES}
    context = config.integer("max_position_embeddings")
    rope = _rotary.from_parameters(
        angles, standard.head_dim(config), config.number("rope_theta", 1e6), 1.0, context
    )
    if given.get("llama_4_scaling_beta"):
        context = min(context, Config(given).integer("original_max_position_embeddings", context))
    window = config.integer("sliding_window", None)
    layers = standard.attention_layers(config, windows=[window] * standard.layer_count(config))
    return standard.spec(config, layers=layers, ropes=(rope,), context=context)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return standard.tensors(spec)
