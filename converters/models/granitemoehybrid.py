"""Granite 4: Granite 3 with gate and up stored together, and Mamba-2 in most layers of a hybrid; that part is
the shared one where there are experts (Tiny, Small).
"""

import dataclasses

from edgekit.converters.models import _mamba, granite
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, MAX_HEADS, Config
from edgekit.converters.spec import ModelSpec, Recurrence, Source

DEFAULTS = {"num_local_experts": 8, "num_experts_per_tok": 2, "shared_intermediate_size": 1024}
DEFAULTS |= {"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4}
DEFAULTS |= {"mamba_expand": 2, "mamba_conv_bias": True}
MAMBA = "chunk_size conv_bias d_conv d_head d_state expand n_groups n_heads proj_bias".split()
TYPES = ("mamba", "linear_attention", "attention", "full_attention")
SHARED = dict.fromkeys(("gate", "up"), "shared_mlp.input_linear") | {"down": "shared_mlp.output_linear"}
EXPERTS = {
    "router": "block_sparse_moe.router.layer",
    **dict.fromkeys(("experts.gate", "experts.up"), "block_sparse_moe.input_linear"),
    "experts.down": "block_sparse_moe.output_linear",
    **{f"shared.{part}": name for part, name in SHARED.items()},
}
LAYER = standard.LAYER | SHARED | EXPERTS | _mamba.layer("mamba")


def spec(config: Config) -> ModelSpec:
    config.only("normalization_function", "rmsnorm")
    config.ignore("num_experts_per_tok", "intermediate_size", "layers_block_type")
    experts = config.integer("num_local_experts", minimum=0, maximum=MAX_EXPERTS)
    shared = config.integer("shared_intermediate_size")
    moe = standard.moe(config, experts, normalize=True, d_shared=shared) if experts else None
    config.ignore(*(f"mamba_{name}" for name in MAMBA), "time_step_limit")
    count = standard.layer_count(config)
    types = standard.layer_types(config, ["linear_attention"] * count, known=TYPES)
    rotates = config.get("position_embedding_type") == "rope"
    attention = standard.attention_layers(
        config,
        ropes=[0 if rotates else None] * count,
        n_experts=experts,
        d_ff=config.integer("intermediate_size") if experts else shared,
    )
    layers = tuple(
        standard.recurrent(layer, _recurrence(config)) if kind in TYPES[:2] else layer
        for layer, kind in zip(attention, types, strict=True)
    )
    return dataclasses.replace(granite.spec(config), layers=layers, moe=moe)


def _recurrence(config: Config) -> Recurrence:
    heads = config.integer("mamba_n_heads", maximum=MAX_HEADS)
    width = config.integer("mamba_expand") * config.integer("hidden_size")
    config.only("mamba_d_head", "auto", width // heads)
    config.only("mamba_proj_bias", False)
    return _mamba.recurrence(
        config,
        heads=heads,
        groups=config.integer("mamba_n_groups", maximum=MAX_HEADS),
        head_dim=width // heads,
        state=config.integer("mamba_d_state"),
        kernel=config.integer("mamba_d_conv"),
        norm_eps=config.number("rms_norm_eps", 1e-6),
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ["q", "k", "v", "o"] if config.flag("attention_bias") else []
    biases += _mamba.CONVOLUTIONS if config.flag("mamba_conv_bias") else []
    return standard.tensors(spec, LAYER, biases=biases)
