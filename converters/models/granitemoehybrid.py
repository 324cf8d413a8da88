"""Granite 4 without Mamba and experts (350M, 1B, Micro): Granite 3 with gate and up stored together."""

import dataclasses

from edgekit.converters.models import _standard as standard
from edgekit.converters.models import granite
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = {"num_local_experts": 8, "shared_intermediate_size": 1024, "max_position_embeddings": 2048}
MAMBA = "chunk_size conv_bias d_conv d_head d_state expand n_groups n_heads proj_bias".split()
LAYER = (
    standard.LAYER
    | dict.fromkeys(("gate", "up"), "shared_mlp.input_linear")
    | {"down": "shared_mlp.output_linear"}
)


def spec(config: Config) -> ModelSpec:
    config.only("num_local_experts", 0)
    config.only("normalization_function", "rmsnorm")
    config.ignore("num_experts_per_tok", "intermediate_size", "layers_block_type", "time_step_limit")
    config.ignore(*(f"mamba_{name}" for name in MAMBA))
    count = standard.layer_count(config)
    standard.layer_types(config, ["linear_attention"] * count, known=("attention", "full_attention"))
    rotates = config.get("position_embedding_type") == "rope"
    layers = standard.attention_layers(
        config,
        ropes=[0 if rotates else None] * count,
        d_ff=config.integer("shared_intermediate_size"),
    )
    return dataclasses.replace(granite.spec(config), layers=layers)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    return standard.tensors(spec, LAYER, biases=biases)
