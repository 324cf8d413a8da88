"""Nemotron-H and Nemotron 3: Mamba-2, attention without positions, and feed-forward parts or experts, each a
block with a norm of its own. A block of feed-forward belongs to the one before it.
"""

import dataclasses
import itertools
from typing import Any

from edgekit.converters.models import _mamba
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_EXPERTS, MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, Config
from edgekit.converters.spec import Layer, ModelSpec, Moe, Source
from edgekit.errors import InvalidFile, UnsupportedModel

DEFAULTS = {
    "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 21504, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 4096, "mlp_hidden_act": "relu2",
    "ssm_state_size": 128, "mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8, "conv_kernel": 4,
    "time_step_min": 0.001, "layer_norm_epsilon": 1e-5, "use_conv_bias": True, "n_routed_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688,
    "norm_topk_prob": True,
}  # fmt: skip
KINDS = {
    **{"M": "mamba", "mamba": "mamba", "linear_attention": "mamba"},
    **{"*": "attention", "attention": "attention", "full_attention": "attention"},
    **{"-": "mlp", "mlp": "mlp", "E": "moe", "moe": "moe"},
}
FED = ("mlp", "moe")  # what follows a mixer
# Of training and of storage, or said again in other words.
IGNORED = """
    chunk_size expand mamba_proj_bias mamba_ssm_cache_dtype num_logits_to_keep num_hidden_layers
    residual_in_fp32 rescale_prenorm_residual time_step_limit time_step_max time_step_floor use_mamba_kernels
    num_nextn_predict_layers mtp_layers_block_type mtp_hybrid_override_pattern sliding_window
    rope_theta partial_rotary_factor attention_head_dim n_shared_experts moe_shared_expert_overlap
    topk_group
""".split()
ATTENTION = {part: f"mixer.{part}_proj" for part in "qkvo"}
MLP = {part: f"{part}_proj" for part in ("up", "down")}
LAYER = (
    {"attn_norm": "norm", "ffn_norm": "+norm", "router": "+mixer.gate"}
    | {"router_choice": "+mixer.gate.e_score_correction_bias"}
    | {part: f"+mixer.{theirs}" for part, theirs in MLP.items()}
    | {f"experts.{part}": f"+mixer.experts.{{}}.{theirs}" for part, theirs in MLP.items()}
    | {f"shared.{part}": f"+mixer.shared_experts.{theirs}" for part, theirs in MLP.items()}
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
    blocks, experts = _blocks(config), config.integer("n_routed_experts", maximum=MAX_EXPERTS)
    widths: dict[str, dict[str, Any]] = {
        "": {},
        "mlp": {"d_ff": config.integer("intermediate_size")},
        "moe": {"d_ff": config.integer("moe_intermediate_size"), "n_experts": experts},
    }
    moe = _moe(config, experts)
    layers = [dataclasses.replace(mixers[kind], **widths[fed]) for kind, fed in _pairs(blocks)]
    return standard.spec(
        config,
        layers=layers,
        ropes=(),
        eps="layer_norm_epsilon",
        gated=False,
        moe=moe if "moe" in blocks else None,
        activation=standard.activation(config, "mlp_hidden_act"),
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ["q", "k", "v", "o"] if config.flag("attention_bias") else []
    biases += _mamba.CONVOLUTIONS if config.flag("use_conv_bias") else []
    biases += ["up", "down", "shared.up", "shared.down"] if config.flag("mlp_bias") else []
    blocks = list(itertools.accumulate((2 if layer.d_ff else 1 for layer in spec.layers), initial=0))
    return standard.tensors(
        spec,
        LAYER,
        biases=biases,
        root="backbone.",
        embed="embeddings",
        final_norm="norm_f",
        blocks=blocks,
    )


def _moe(config: Config, experts: int) -> Moe:
    config.only("n_group", 1)
    config.only("moe_latent_size", 0)
    return standard.moe(
        config,
        experts,
        score="sigmoid",
        scale=config.number("routed_scaling_factor", 1.0),
        d_shared=config.integer("moe_shared_expert_intermediate_size"),
    )


def _blocks(config: Config) -> list[str]:
    names = ("hybrid_override_pattern", "layers_block_type", "layer_types")
    given = next(filter(None, [config.get(name) for name in names]), None)
    if not isinstance(given, (str, list)) or len(given) > 2 * MAX_LAYERS:
        raise InvalidFile(f"config: the blocks are {given!r}; a hybrid_override_pattern is expected")
    for kind in given:
        if not isinstance(kind, str) or kind not in KINDS:
            raise UnsupportedModel(f"config: block type {kind!r} is not supported; known: {', '.join(KINDS)}")
    return [KINDS[kind] for kind in given]


def _pairs(blocks: list[str]) -> list[tuple[str, str]]:
    """Each mixer, and the kind of feed-forward block that follows it, or ""."""
    for before, kind in itertools.pairwise(["", *blocks]):
        if kind in FED and before not in ("mamba", "attention"):
            raise UnsupportedModel(f"config: a block of type {kind!r} that follows no mixer is not supported")
    return [
        (kind, following if following in FED else "")
        for kind, following in zip(blocks, [*blocks[1:], ""], strict=True)
        if kind not in FED
    ]
