"""LFM3: LFM2 with norms after each part, layers with a window, and gates on the heads of attention."""

from edgekit.converters.models import _rotary, lfm2
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 4, "head_dim": 128, "norm_eps": 1e-5, "sliding_window": 256,
    "tie_word_embeddings": True, "max_position_embeddings": 128000,
    "rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5}},
}  # fmt: skip
LAYER = lfm2.LAYER | standard.QK_NORM | {"o": "self_attn.o_proj"}
SANDWICH = {"attn_post_norm": "post_operator_norm", "ffn_post_norm": "post_ffn_norm"}
GATE = {"attn_gate": "self_attn.gate_proj"}


def spec(config: Config) -> ModelSpec:
    usual = ["full_attention" if i % 4 == 2 else "conv" if i % 2 or not i else "sliding_attention"
             for i in range(standard.layer_count(config))]  # fmt: skip
    types = standard.layer_types(config, usual, known=("conv", "full_attention", "sliding_attention"))
    attention = standard.attention_layers(
        config, windows=standard.windows(config, types), ropes=[int("sliding" in kind) for kind in types]
    )
    return standard.spec(
        config,
        layers=lfm2.with_convolutions(attention, types, config.integer("conv_L_cache", 7)),
        ropes=_rotary.full_and_sliding(config, attention[0].head_dim, theta=1e6, sliding_theta=1e4),
        eps="norm_eps",
        qk_norm="head",
        attn_gate="head" if config.flag("use_attention_gate", True) else "none",
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    layer = LAYER | (SANDWICH if config.flag("use_sandwich_norm", True) else {})
    layer |= GATE if spec.attn_gate == "head" else {}
    conv = ("conv_in", "conv", "conv_out") if config.flag("conv_bias") else ()
    attention = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, layer, biases=conv + attention, final_norm="embedding_norm")
