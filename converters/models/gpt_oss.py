"""gpt-oss: stacked experts with bounded parts; every other layer has a window; heads may attend to none."""

from dataclasses import replace
from itertools import product

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, Config
from edgekit.converters.spec import ModelSpec, Moe, Source

YARN = {"rope_type": "yarn", "factor": 32.0, "truncate": False, "original_max_position_embeddings": 4096}
DEFAULTS = {
    "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4,
    "rms_norm_eps": 1e-5, "sliding_window": 128, "max_position_embeddings": 131072, "rope_parameters": YARN,
}  # fmt: skip
LAYER = standard.LAYER | {"sinks": "self_attn.sinks", "router": "mlp.router"}
EXPERT = {"gate": ("gate_up_proj", (0,)), "up": ("gate_up_proj", (1,)), "down": ("down_proj", ())}


def spec(config: Config) -> ModelSpec:
    config.ignore("experts_per_token", "initial_context_length")  # said again in other words
    for key, value in {"hidden_act": "silu", "swiglu_alpha": 1.702, "swiglu_limit": 7.0}.items():
        config.only(key, value)
    windows = standard.windows(config, standard.layer_types(config, standard.one_full_in(config, 2)))
    experts = config.integer("num_local_experts", maximum=MAX_EXPERTS)
    layers = standard.attention_layers(config, windows=windows, n_experts=experts)
    rope = _rotary.rope(config, layers[0].head_dim, theta=150000.0)
    moe = Moe(config.integer("num_experts_per_tok", maximum=experts), normalize=True)
    return standard.spec(config, layers=layers, ropes=(rope,), moe=moe, activation="swiglu_oai")


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    attention = ("q", "k", "v", "o") if config.flag("attention_bias", True) else ()
    found = standard.tensors(spec, LAYER, biases=(*attention, "router"))
    for i, layer in enumerate(spec.layers):
        for expert, (part, (theirs, rows)) in product(range(layer.n_experts), EXPERT.items()):
            name, stack = f"layers.{i}.experts.{expert}.{part}", f"model.layers.{i}.mlp.experts.{theirs}"
            where = Source(f"{stack}_bias", index=expert, period=2 * len(rows), order=rows)
            found |= {name: replace(where, name=stack, transpose=True), f"{name}_bias": where}
    return found
