"""LFM2: short gated convolutions, with attention in some layers."""

from collections.abc import Sequence

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import Layer, ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 8,
    "intermediate_size": 12288,
    "norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128000,
}
LAYER = {
    "attn_norm": "operator_norm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "q_norm": "self_attn.q_layernorm",
    "k_norm": "self_attn.k_layernorm",
    "o": "self_attn.out_proj",
    "conv_in": "conv.in_proj",
    "conv": "conv.conv",
    "conv_out": "conv.out_proj",
    "ffn_norm": "ffn_norm",
    "gate": "feed_forward.w1",
    "up": "feed_forward.w3",
    "down": "feed_forward.w2",
}


def spec(config: Config) -> ModelSpec:
    for key in ("block_dim", "conv_dim", "conv_dim_out"):
        config.only(key, config.integer("hidden_size"))
    for key in ("block_use_swiglu", "use_pos_enc"):
        config.only(key, True)
    config.ignore("block_norm_eps", "block_mlp_init_scale", "block_out_init_scale", "block_use_xavier_init")
    config.ignore("conv_use_xavier_init", "num_heads", "theta")
    count = standard.layer_count(config)
    attending = config.integers("full_attn_idxs", list(range(count)))
    usual = ["full_attention" if i in attending else "conv" for i in range(count)]
    types = standard.layer_types(config, usual, known=("full_attention", "conv"))
    attention = standard.attention_layers(config, d_ff=_d_ff(config))
    return standard.spec(
        config,
        layers=with_convolutions(attention, types, config.integer("conv_L_cache", 3)),
        ropes=(_rotary.rope(config, attention[0].head_dim, theta=1e6),),
        eps="norm_eps",
        qk_norm="head",
        tied=config.flag("tie_embedding", config.flag("tie_word_embeddings")),
    )


def with_convolutions(attention: Sequence[Layer], types: Sequence[str], kernel: int) -> list[Layer]:
    """Layers of attention, those of type "conv" replaced."""
    return [
        Layer("conv", rope=None, d_ff=layer.d_ff, conv_kernel=kernel) if kind == "conv" else layer
        for layer, kind in zip(attention, types, strict=True)
    ]


def _d_ff(config: Config) -> int:
    """Width of the feed-forward part: two thirds of what is asked for, scaled, rounded up."""
    asked = config.integer("block_ff_dim", config.integer("intermediate_size"))
    scale, multiple = (
        config.number("block_ffn_dim_multiplier", None),
        config.integer("block_multiple_of", 256),
    )
    if not config.flag("block_auto_adjust_ff_dim", True):
        return asked
    width = int(2 * asked / 3)
    if scale is None:
        return width
    return -(-int(scale * width) // multiple) * multiple


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("conv_in", "conv", "conv_out") if config.flag("conv_bias") else ()
    return standard.tensors(spec, LAYER, biases=biases, final_norm="embedding_norm")
