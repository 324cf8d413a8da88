"""BitNet b1.58 (2B4T): Llama blocks with squared ReLU, and norms before the last matrix of each part."""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 5,
    "hidden_act": "relu2",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
}
LAYER = standard.LAYER | {"o_norm": "self_attn.attn_sub_norm", "down_norm": "mlp.ffn_sub_norm"}


def spec(config: Config) -> ModelSpec:
    return standard.spec(config, ropes=(_rotary.rope(config, standard.head_dim(config), theta=5e5),))


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, LAYER, biases=biases)
