"""gpt-oss: experts with bounded, gated parts and biases; every other layer has a window; heads may attend to
nothing.
"""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, Config
from edgekit.converters.spec import ModelSpec, Moe, Source

DEFAULTS = {
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "rms_norm_eps": 1e-5,
    "sliding_window": 128,
    "max_position_embeddings": 131072,
    "rope_parameters": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                        "truncate": False, "original_max_position_embeddings": 4096},
}  # fmt: skip
LAYER = standard.LAYER | {"sinks": "self_attn.sinks", "router": "mlp.router"}


def spec(config: Config) -> ModelSpec:
    config.only("hidden_act", "silu")
    config.only("swiglu_alpha", 1.702)
    config.only("swiglu_limit", 7.0)
    usual = ["full_attention" if i % 2 else "sliding_attention" for i in range(standard.layer_count(config))]
    experts = config.integer("num_local_experts", maximum=MAX_EXPERTS)
    windows = standard.windows(config, standard.layer_types(config, usual))
    layers = standard.attention_layers(config, windows=windows, n_experts=experts)
    rope = _rotary.rope(config, layers[0].head_dim, theta=150000.0)
    moe = Moe(config.integer("num_experts_per_tok", maximum=experts), normalize=True)
    return standard.spec(config, layers=layers, ropes=(rope,), moe=moe, activation="swiglu_oai")


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v", "o") if config.flag("attention_bias", True) else ()
    found = standard.tensors(spec, LAYER, biases=(*attention, "router"))
    for index, layer in enumerate(spec.layers):
        theirs = f"model.layers.{index}.mlp.experts"
        for expert in range(layer.n_experts):
            at = f"layers.{index}.experts.{expert}"
            found[f"{at}.down"] = Source(f"{theirs}.down_proj", index=expert, transpose=True)
            found[f"{at}.down_bias"] = Source(f"{theirs}.down_proj_bias", index=expert)
            for row, part in enumerate(("gate", "up")):  # side by side
                rows = {"index": expert, "period": 2, "order": (row,)}
                found[f"{at}.{part}"] = Source(f"{theirs}.gate_up_proj", transpose=True, **rows)
                found[f"{at}.{part}_bias"] = Source(f"{theirs}.gate_up_proj_bias", **rows)
    return found
