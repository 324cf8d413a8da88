"""Phi-1, 1.5 and 2: LayerNorm, attention and a plain feed-forward part side by side, biases everywhere, half
a head rotated.
"""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}
LAYER = {
    "attn_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.dense",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}


def spec(config: Config) -> ModelSpec:
    config.only("qk_layernorm", False)
    layers = standard.attention_layers(config, parallel=True)
    return standard.spec(
        config,
        layers=layers,
        ropes=(_rotary.rope(config, layers[0].head_dim, partial=0.5),),
        norm="layer",
        eps="layer_norm_eps",
        gated=False,
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return standard.tensors(spec, LAYER, biases=(*LAYER, "final_norm", "head"), final_norm="final_layernorm")
