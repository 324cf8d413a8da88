"""Nemotron-H: Mamba-2, attention without positions, and feed-forward parts, each a block with a norm of its
own. A block of feed-forward belongs to the one before it.
"""

import dataclasses
import itertools

from edgekit.converters.models import _mamba
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, Config
from edgekit.converters.spec import Layer, ModelSpec, Source
from edgekit.errors import InvalidFile, UnsupportedModel

DEFAULTS = {
    "vocab_size": 131072,
    "hidden_size": 4096,
    "intermediate_size": 21504,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "mlp_hidden_act": "relu2",
    "ssm_state_size": 128,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "n_groups": 8,
    "conv_kernel": 4,
    "time_step_min": 0.001,
    "layer_norm_epsilon": 1e-5,
    "use_conv_bias": True,
}
KINDS = {
    **{"M": "mamba", "mamba": "mamba", "linear_attention": "mamba"},
    **{"*": "attention", "attention": "attention", "full_attention": "attention"},
    **{"-": "mlp", "mlp": "mlp"},
}
# Of training, of storage, and of blocks with experts, which are refused where there are any.
IGNORED = """
    chunk_size expand mamba_proj_bias mamba_ssm_cache_dtype num_logits_to_keep num_hidden_layers
    residual_in_fp32 rescale_prenorm_residual time_step_limit time_step_max time_step_floor use_mamba_kernels
    num_nextn_predict_layers mtp_layers_block_type mtp_hybrid_override_pattern sliding_window
    rope_theta partial_rotary_factor attention_head_dim n_routed_experts n_shared_experts
    moe_intermediate_size
    moe_shared_expert_intermediate_size moe_latent_size moe_shared_expert_overlap num_experts_per_tok
    routed_scaling_factor n_group topk_group norm_topk_prob
""".split()
ATTENTION = {part: f"mixer.{part}_proj" for part in "qkvo"}
FED = "fed."  # what a layer takes from its second block
LAYER = (
    {
        "attn_norm": "norm",
        "ffn_norm": f"{FED}norm",
        "up": f"{FED}mixer.up_proj",
        "down": f"{FED}mixer.down_proj",
    }
    | ATTENTION
    | _mamba.layer("mixer")
)


def spec(config: Config) -> ModelSpec:
    config.ignore(*IGNORED)
    config.only("mamba_hidden_act", "silu")
    config.only("use_bias", False)
    of = _mamba.recurrence(
        config,
        heads=config.integer("mamba_num_heads", maximum=MAX_HEADS),
        groups=config.integer("n_groups", maximum=MAX_HEADS),
        head_dim=config.integer("mamba_head_dim", maximum=MAX_HEAD_DIM),
        state=config.integer("ssm_state_size", maximum=MAX_HEAD_DIM),
        kernel=config.integer("conv_kernel"),
        norm_eps=config.number("layer_norm_epsilon"),
        dt_min=config.number("time_step_min"),
    )
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    attention = Layer(
        n_heads=heads,
        n_kv_heads=config.integer("num_key_value_heads", maximum=MAX_HEADS),
        head_dim=standard.head_dim(config),
        rope=None,
    )
    mixers = {"attention": attention, "mamba": standard.recurrent(attention, of)}
    d_ff = config.integer("intermediate_size")
    layers = [
        dataclasses.replace(mixers[kind], d_ff=d_ff if fed else 0) for kind, fed in _pairs(_blocks(config))
    ]
    return standard.spec(
        config,
        layers=layers,
        ropes=(),
        eps="layer_norm_epsilon",
        gated=False,
        activation=standard.activation(config, "mlp_hidden_act"),
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ["q", "k", "v", "o"] if config.flag("attention_bias") else []
    biases += _mamba.CONVOLUTIONS if config.flag("use_conv_bias") else []
    biases += ["up", "down"] if config.flag("mlp_bias") else []
    found = standard.tensors(
        spec, LAYER, biases=biases, root="backbone.", embed="embeddings", final_norm="norm_f"
    )
    block, place = 0, {}
    for index, layer in enumerate(spec.layers):
        place[f"backbone.layers.{index}."] = block
        block += 2 if layer.d_ff else 1
    return {
        name: dataclasses.replace(where, name=_of_block(where.name, place)) for name, where in found.items()
    }


def _of_block(name: str, place: dict[str, int]) -> str:
    """A layer's tensor by the number of its block."""
    for prefix, block in place.items():
        if name.startswith(prefix):
            part = name.removeprefix(prefix)
            block += part.startswith(FED)
            return f"backbone.layers.{block}.{part.removeprefix(FED)}"
    return name


def _blocks(config: Config) -> list[str]:
    names = ("hybrid_override_pattern", "layers_block_type", "layer_types")
    given = next(filter(None, [config.get(name) for name in names]), None)
    if not isinstance(given, (str, list)) or len(given) > 2 * MAX_LAYERS:
        raise InvalidFile(f"config: the blocks are {given!r}; a hybrid_override_pattern is expected")
    for kind in given:
        if not isinstance(kind, str) or kind not in KINDS:
            raise UnsupportedModel(f"config: block type {kind!r} is not supported; known: {', '.join(KINDS)}")
    return [KINDS[kind] for kind in given]


def _pairs(blocks: list[str]) -> list[tuple[str, bool]]:
    """Each mixer, and whether a feed-forward block follows it."""
    if any(one == other == "mlp" for one, other in itertools.pairwise(["mlp", *blocks])):
        raise UnsupportedModel("config: a block of type 'mlp' that follows no mixer is not supported")
    return [
        (kind, following == "mlp")
        for kind, following in zip(blocks, [*blocks[1:], ""], strict=True)
        if kind != "mlp"
    ]
