"""OLMo Hybrid: gated delta nets with norms before their parts; in every fourth layer OLMo 2's attention, with
norms after them.
"""

from edgekit.converters.models import _delta, _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {
    "hidden_size": 3840,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 30,
    "linear_conv_kernel_dim": 4,
    "linear_allow_neg_eigval": True,
    "max_position_embeddings": 65536,
}
DENSE = {part: name for part, name in standard.LAYER.items() if not part.endswith("norm")}
RECURRENT = DENSE | {
    "attn_norm": "attention_layer_norm",
    "ffn_norm": "feedforward_layer_norm",
    **{f"state_{part}": f"linear_attn.{part}_proj" for part in "qkvo"},
    **{f"taps_{part}": f"linear_attn.{part}_conv1d" for part in "qkv"},
    "state_z": "linear_attn.g_proj",
    "state_beta": "linear_attn.b_proj",
    "state_dt": "linear_attn.a_proj",
    "state_dt_bias": "linear_attn.dt_bias",
    "state_a": "linear_attn.A_log",
    "state_scale": "linear_attn.o_norm",
}
LAYERS = {"attention": DENSE | standard.POST_NORM | standard.QK_NORM, "recurrent": RECURRENT}


def spec(config: Config) -> ModelSpec:
    config.ignore(
        *(f"linear_{name}" for name in ("a_log_min", "a_log_max", "dt_min", "dt_max", "dt_init_floor"))
    )
    rotated = config.members("rope_parameters").get("rope_theta", 0.0) is not None
    count = standard.layer_count(config)
    attention = standard.attention_layers(config, ropes=[0 if rotated else None] * count)
    usual = ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(count)]
    scale = 2.0 if config.flag("linear_allow_neg_eigval") else 1.0
    return standard.spec(
        config,
        layers=_delta.layers(config, attention, usual, beta_scale=scale, norm_eps=1e-5),
        ropes=(_rotary.rope(config, attention[0].head_dim),) if rotated else (),
        qk_norm="full",
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    of = {mixer: standard.tensors(spec, layer, biases=biases) for mixer, layer in LAYERS.items()}
    at = [f"layers.{index}." for index in range(len(spec.layers))]
    found = {name: where for name, where in of["attention"].items() if not name.startswith("layers.")}
    for prefix, layer in zip(at, spec.layers, strict=True):
        found |= {name: where for name, where in of[layer.mixer].items() if name.startswith(prefix)}
    return found
