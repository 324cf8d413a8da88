"""DeepSeek-V3 without groups of experts (Moonlight): latent attention; experts in all but the first layers,
of which a router of sigmoids chooses, and one that every token takes.
"""

import dataclasses

from edgekit.converters.models import _latent
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = _latent.DEFAULTS | {
    "n_group": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "max_position_embeddings": 4096,
}
PARTS = {
    **_latent.PARTS,
    **standard.EXPERTS,
    "router_choice": "mlp.gate.e_score_correction_bias",
    **{f"shared.{part}": f"mlp.shared_experts.{part}_proj" for part in ("gate", "up", "down")},
}
# Transformers knows no other values of these; the rest is of training, or of layers that it leaves out.
IGNORED = """
    topk_group topk_method scoring_func moe_layer_freq ep_size seq_aux aux_loss_alpha
    num_nextn_predict_layers
""".split()


# Of the layer that guesses a token ahead, beside the parts of the others.
GUESSING = "eh_proj enorm hnorm embed_tokens shared_head.norm shared_head.head".split()


def spec(config: Config, dense: int | None = None) -> ModelSpec:
    """`dense`: how many of the first layers have no experts, where that is not `first_k_dense_replace`."""
    config.only("n_group", 1)
    config.ignore(*IGNORED)
    experts = config.integer("n_routed_experts", maximum=MAX_EXPERTS)
    width = config.integer("moe_intermediate_size")
    if dense is None:
        dense = config.integer("first_k_dense_replace", minimum=0)
    layer = _latent.layer(config)
    routed = dataclasses.replace(layer, n_experts=experts, d_ff=width)
    layers = [layer if index < dense else routed for index in range(standard.layer_count(config))]
    moe = standard.moe(
        config,
        experts,
        score="sigmoid",
        scale=config.number("routed_scaling_factor"),
        d_shared=width * config.integer("n_shared_experts"),
    )
    return _latent.spec(config, layers, moe=moe)


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    return _latent.tensors(config, spec, PARTS)


def unused(spec: ModelSpec) -> list[str]:
    """A layer after the last one guesses a token ahead."""
    parts = {*GUESSING, *PARTS.values(), *_latent.SHARED_OUT}
    names = {part.format(expert) for part in parts for expert in range(spec.layers[-1].n_experts)}
    last = f"model.layers.{len(spec.layers)}"
    return [f"{last}.{name}" if name.endswith("_bias") else f"{last}.{name}.weight" for name in names]
