"""InternLM 3: Llama blocks. Its rotary angles change only beyond `max_position_embeddings`."""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 2,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 32768,
}


def spec(config: Config) -> ModelSpec:
    given = _rotary.parameters(config)
    if given.get("rope_type", given.get("type")) == "dynamic":
        given = {key: value for key, value in given.items() if key == "rope_theta"}
    theta, context = config.number("rope_theta", 1e4), config.integer("max_position_embeddings")
    rope = _rotary.from_parameters(given, standard.head_dim(config), theta, 1.0, context)
    return standard.spec(config, ropes=(rope,))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v", "o") if config.flag("qkv_bias", config.flag("attention_bias")) else ()
    mlp = ("gate", "up", "down") if config.flag("bias", config.flag("mlp_bias")) else ()
    return standard.tensors(spec, biases=attention + mlp)
