"""nanochat: norms without weights, one of them on the embedding; squared ReLU; heads rotated backwards."""

import dataclasses

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"hidden_act": "relu2", "max_position_embeddings": 2048, "final_logit_softcapping": 15.0}
LAYER = {
    **{part: name for part, name in standard.LAYER.items() if part in ("q", "k", "v", "o")},
    **dict.fromkeys(("attn_norm", "ffn_norm", "q_norm", "k_norm"), ""),
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}


def spec(config: Config) -> ModelSpec:
    # A norm without weights gives the same before a rotation and after it.
    rope = _rotary.rope(config, standard.head_dim(config))
    rope = dataclasses.replace(rope, inv_freq=tuple(-angle for angle in rope.inv_freq))
    softcap = config.number("final_logit_softcapping", None) or 0.0
    return standard.spec(config, ropes=(rope,), gated=False, qk_norm="head", logit_softcap=softcap)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    ones = Source("", add=1.0, shape=(spec.d_model,))
    return standard.tensors(spec, LAYER, biases=biases, final_norm="") | {"embed_norm": ones}
