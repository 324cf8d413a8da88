"""Apertus: a plain feed-forward part of xIELU, whose two slopes each layer has learned; QK-norm."""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "hidden_act": "xielu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 65536,
    "rope_parameters": {"rope_type": "llama3", "rope_theta": 12e6, "factor": 8.0, "low_freq_factor": 1.0,
                        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}  # fmt: skip
LAYER = {
    "attn_norm": "attention_layernorm",
    "ffn_norm": "feedforward_layernorm",
    **{part: name for part, name in standard.LAYER.items() if "norm" not in part and part != "gate"},
    **standard.QK_NORM,
    "alpha_p": "mlp.act_fn.alpha_p",
    "alpha_n": "mlp.act_fn.alpha_n",
}


def spec(config: Config) -> ModelSpec:
    config.only("qk_norm", True)
    config.only("post_norm", False)
    rope = _rotary.rope(config, standard.head_dim(config), theta=12e6)
    return standard.spec(config, ropes=(rope,), gated=False, qk_norm="head")


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, LAYER, biases=biases)
