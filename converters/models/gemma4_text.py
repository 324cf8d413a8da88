"""Gemma 4's text model (E2B, E4B, 31B, 26B-A4B): Gemma 3 with heads of another size in its global
layers, values normalised without weights, per-layer embeddings, and last layers that attend to the keys and
values of earlier ones.
"""

import dataclasses

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, MAX_HEAD_DIM, MAX_HEADS, Config
from edgekit.converters.spec import Layer, ModelSpec, Moe, PerLayerEmbedding, Rope, Source
from edgekit.errors import InvalidFile, UnsupportedModel

DEFAULTS = {
    "vocab_size": 262144,
    "vocab_size_per_layer_input": 262144,
    "hidden_size": 2304,
    "hidden_size_per_layer_input": 256,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131072,
    "sliding_window": 512,
    "tie_word_embeddings": True,
}
EXPERTS = {
    "router": "router.proj",
    "experts_norm": "pre_feedforward_layernorm_2",
    "experts_post_norm": "post_feedforward_layernorm_2",
    "shared_post_norm": "post_feedforward_layernorm_1",
    **{f"shared.{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}
SLIDING, GLOBAL = "sliding_attention", "full_attention"
LAYER = standard.LAYER | standard.POST_NORM | standard.QK_NORM | {"ffn_norm": "pre_feedforward_layernorm"}
PER_LAYER = {
    "ple_gate": "per_layer_input_gate",
    "ple_out": "per_layer_projection",
    "ple_post_norm": "post_per_layer_input_norm",
}


def spec(config: Config) -> ModelSpec:
    config.only("use_bidirectional_attention", "vision")  # text is causal then too
    d_model, dim = config.integer("hidden_size"), config.integer("hidden_size_per_layer_input", 0, minimum=0)
    rows = config.integer("vocab_size_per_layer_input")
    if dim and rows != config.integer("vocab_size"):
        raise InvalidFile(
            f"config: 'vocab_size_per_layer_input' is {rows}; as many as 'vocab_size' are expected"
        )
    if dim % 16:
        raise UnsupportedModel(f"config: hidden_size_per_layer_input is {dim}; a multiple of 16 is supported")
    layers, moe = _layers(config), _moe(config)
    if moe:  # beside the dense part, which is as an expert that all tokens take
        experts, width = config.integer("num_experts"), config.integer("moe_intermediate_size")
        layers = [dataclasses.replace(layer, n_experts=experts, d_ff=width) for layer in layers]
    return standard.spec(
        config,
        layers=layers,
        ropes=_ropes(config, layers),
        activation=standard.activation(config, "hidden_activation"),
        qk_norm="head",
        v_norm=True,
        attn_scale=1.0,
        embed_scale=d_model**0.5,
        logit_softcap=config.number("final_logit_softcapping", 0.0, zero=True),
        moe=moe,
        ple=PerLayerEmbedding(dim, d_model**-0.5, dim**0.5, 0.5**0.5) if dim else None,
    )


def _moe(config: Config) -> Moe | None:
    if not config.flag("enable_moe_block"):
        config.ignore("num_experts", "top_k_experts", "moe_intermediate_size")
        return None
    config.only("use_double_wide_mlp", False)
    experts = config.integer("num_experts", maximum=MAX_EXPERTS)
    top_k = config.integer("top_k_experts", maximum=experts)
    return Moe(top_k, normalize=True, d_shared=config.integer("intermediate_size"), own_norms=True)


def _layers(config: Config) -> list[Layer]:
    count = standard.layer_count(config)
    types = standard.layer_types(config, [GLOBAL if i % 6 == 5 else SLIDING for i in range(count)])
    types[-1] = GLOBAL  # as Transformers has it
    own = count - config.integer("num_kv_shared_layers", 0, minimum=0, maximum=count - 1)
    k_eq_v = config.flag("attention_k_eq_v")
    heads = config.integer("num_global_key_value_heads", None, maximum=MAX_HEADS) if k_eq_v else None
    given = config.members("per_layer_config")
    usual = standard.attention_layers(
        config, windows=standard.windows(config, types), ropes=[int(kind == SLIDING) for kind in types]
    )
    layers: list[Layer] = []
    for index, (kind, layer) in enumerate(zip(types, usual, strict=True)):
        if kind == GLOBAL:
            ours = Config({"head_dim": config.integer("global_head_dim", 512), "num_key_value_heads": heads})
            ours = Config(given.get(str(index), ours.data))
            layer = dataclasses.replace(
                layer,
                head_dim=ours.integer("head_dim", layer.head_dim, maximum=MAX_HEAD_DIM),
                n_kv_heads=ours.integer("num_key_value_heads", layer.n_kv_heads, maximum=MAX_HEADS),
                k_eq_v=k_eq_v,
            )
        if index >= own:
            if kind not in types[:own]:
                raise InvalidFile(f"config: no layer of type {kind!r} has keys and values that others share")
            layer = dataclasses.replace(
                layer,
                kv_layer=own - 1 - types[:own][::-1].index(kind),
                k_eq_v=False,
                d_ff=layer.d_ff * (1 + config.flag("use_double_wide_mlp")),
            )
        layers.append(layer)
    return layers


def _ropes(config: Config, layers: list[Layer]) -> list[Rope]:
    """Of global layers, and of those with a window."""
    partial = config.number("partial_rotary_factor", 0.25)
    theta = config.number("rope_theta", 1e6), config.number("rope_local_base_freq", 1e4)
    usual = {
        GLOBAL: {"rope_type": "proportional", "rope_theta": theta[0], "partial_rotary_factor": partial},
        SLIDING: {"rope_type": "default", "rope_theta": theta[1]},
    }
    given = Config(_rotary.parameters(config) or usual)
    context = config.integer("max_position_embeddings")
    heads = {kind: next((x.head_dim for x in layers if x.rope == rope), 2) for rope, kind in enumerate(usual)}
    return [
        _rotary.from_parameters(given.members(kind), heads[kind], base, 1.0, context)
        for kind, base in zip(usual, theta, strict=True)
    ]


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    parts = LAYER | (PER_LAYER if spec.ple else {}) | (EXPERTS if spec.moe else {})
    found = standard.tensors(spec, parts, biases=biases)
    if spec.ple:
        found |= {
            "ple_embed": Source("model.embed_tokens_per_layer.weight"),
            "ple_proj": Source("model.per_layer_model_projection.weight"),
            "ple_norm": Source("model.per_layer_projection_norm.weight"),
        }
    for index, layer in enumerate(spec.layers):
        found |= _experts(f"layers.{index}", layer, spec)
        found[f"layers.{index}.scalar"] = Source(f"model.layers.{index}.layer_scalar")
    return found


def _experts(at: str, layer: Layer, spec: ModelSpec) -> dict[str, Source]:
    """Tensors without ".weight": stacks of matrices, of which one holds gate and up, and the router's."""
    theirs, width = f"model.{at}", layer.d_ff
    if not layer.n_experts:
        return {}
    found = {
        f"{at}.router_norm": Source(f"{theirs}.router.scale", scale=spec.d_model**-0.5),
        f"{at}.router_scale": Source(f"{theirs}.router.per_expert_scale"),
    }
    for expert in range(layer.n_experts):
        ours, both = f"{at}.experts.{expert}", f"{theirs}.experts.gate_up_proj"
        found[f"{ours}.gate"] = Source(both, rows=(0, width), index=expert)
        found[f"{ours}.up"] = Source(both, rows=(width, 2 * width), index=expert)
        found[f"{ours}.down"] = Source(f"{theirs}.experts.down_proj", index=expert)
    return found


def unused(spec: ModelSpec) -> list[str]:
    """Layers that share keys and values have matrices for their own all the same."""
    parts = ("k_proj.weight", "v_proj.weight", "k_norm.weight", "v_norm.weight")
    return [
        f"model.layers.{index}.self_attn.{part}"
        for index, layer in enumerate(spec.layers)
        if layer.kv_layer is not None
        for part in parts
    ]
