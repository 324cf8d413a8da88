"""Phi-3, Phi-3.5-mini, Phi-4-mini: Llama blocks with q, k, v and gate, up stored together; longrope, partial
rotary.
"""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
LAYER = (
    standard.LAYER
    | dict.fromkeys(("q", "k", "v"), "self_attn.qkv_proj")
    | dict.fromkeys(("gate", "up"), "mlp.gate_up_proj")
)


def spec(config: Config) -> ModelSpec:
    config.only("full_attn_mod", 1)
    config.only("interpolate_factor", 1)
    window = config.integer("sliding_window", None)
    layers = standard.attention_layers(config, windows=[window] * standard.layer_count(config))
    return standard.spec(config, layers=layers)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return standard.tensors(spec, LAYER)
