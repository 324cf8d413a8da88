"""GLM-4 (2024) and GLM-Edge: Llama blocks with gate and up stored together; half a head is rotated,
neighbouring numbers together.
"""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 2,
    "head_dim": 128,
    "rms_norm_eps": 1.5625e-07,
    "max_position_embeddings": 131072,
}
LAYER = standard.LAYER | dict.fromkeys(("gate", "up"), "mlp.gate_up_proj")


def spec(config: Config) -> ModelSpec:
    rope = _rotary.rope(config, standard.head_dim(config), partial=0.5)
    return standard.spec(config, ropes=(rope,))


def tensors(config: Config, spec: ModelSpec, layer: dict[str, str] = LAYER) -> dict[str, Source]:
    biases = ("q", "k", "v") if config.flag("attention_bias", True) else ()
    return standard.tensors(spec, layer, biases=biases, pairs=True)
