"""StarCoder2: LayerNorm, biases, a plain feed-forward part, one window for all layers."""

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "hidden_act": "gelu_pytorch_tanh",
    "num_key_value_heads": 2,
    "norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
LAYER = {k: v for k, v in standard.LAYER.items() if k != "gate"} | {"up": "mlp.c_fc", "down": "mlp.c_proj"}


def spec(config: Config) -> ModelSpec:
    config.only("norm_type", "layer_norm")
    config.only("mlp_type", "default")
    config.ignore("activation_function", "layer_norm_epsilon")  # hidden_act and norm_epsilon are read
    config.ignore("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "scale_attn_weights")
    config.ignore("residual_dropout", "embedding_dropout")
    window = config.integer("sliding_window", None)
    layers = standard.attention_layers(config, windows=[window] * standard.layer_count(config))
    return standard.spec(config, layers=layers, norm="layer", eps="norm_epsilon", gated=False)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    linear = ("q", "k", "v", "o", "up", "down") if config.flag("use_bias", True) else ()
    return standard.tensors(spec, LAYER, biases=("attn_norm", "ffn_norm", "final_norm", *linear))
