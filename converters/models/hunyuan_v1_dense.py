"""Hunyuan (dense, 0.5B to 7B): Llama blocks with a norm over each head of q and k after the rotation."""

import math

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}
LAYER = standard.LAYER | {"q_norm": "self_attn.query_layernorm", "k_norm": "self_attn.key_layernorm"}


def spec(config: Config) -> ModelSpec:
    config.only("use_qk_norm", True)
    config.only("use_cla", False)
    head_dim, given = standard.head_dim(config), _rotary.parameters(config)
    config.only("attention_head_dim", head_dim)
    theta = Config(given).number("rope_theta", config.number("rope_theta", 1e4))
    if given.get("rope_type", given.get("type")) == "dynamic" and given.get("alpha"):
        stretch = math.log(Config(given).number("alpha")) * head_dim / max(head_dim - 2, 1)
        theta, given = theta * math.exp(min(stretch, 700)), {}
    given = {**given, "rope_theta": theta}
    rope = _rotary.from_parameters(given, head_dim, theta, 1.0, config.integer("max_position_embeddings"))
    return standard.spec(config, ropes=(rope,), qk_norm="head_after_rope")


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, LAYER, biases=biases)
