"""Qwen3 mixture of experts: Qwen3 with experts in most layers."""

import dataclasses
from collections.abc import Sequence

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, Config
from edgekit.converters.spec import Layer, ModelSpec, Source

DEFAULTS = {
    "num_key_value_heads": 4,
    "sliding_window": 4096,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "max_position_embeddings": 32768,
}


def spec(config: Config) -> ModelSpec:
    count = standard.layer_count(config)
    sliding = config.flag("use_sliding_window")
    window = config.integer("sliding_window", None)
    layers = standard.attention_layers(config, windows=[window if sliding else None] * count)
    layers, experts = with_experts(config, layers)
    config.ignore("max_window_layers")  # Transformers ignores it in this family
    moe = standard.moe(config, experts) if experts else None
    return standard.spec(config, layers=layers, moe=moe, qk_norm="head")


def with_experts(config: Config, layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], int]:
    """The layers, most of them with experts, and how many of these there are."""
    step, dense = config.integer("decoder_sparse_step", 1), config.integers("mlp_only_layers", [])
    experts = config.integer("num_experts", minimum=0)
    experts = config.integer("num_local_experts", experts, minimum=0, maximum=MAX_EXPERTS)
    width = config.integer("moe_intermediate_size")
    mixed = tuple(
        layer
        if i in dense or (i + 1) % step
        else dataclasses.replace(layer, n_experts=experts, d_ff=width if experts else layer.d_ff)
        for i, layer in enumerate(layers)
    )
    return mixed, experts


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, standard.LAYER | standard.QK_NORM | standard.EXPERTS, biases=biases)
