"""Qwen3-Next: Qwen3.5 with experts, one of which every token takes. Checkpoints keep what a key head and its
value heads read together.
"""

from edgekit.converters.models import _delta, _rotary, qwen3_moe
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import Config
from edgekit.converters.spec import ModelSpec, Source

DEFAULTS = _delta.DEFAULTS | {
    "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 48,
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "max_position_embeddings": 32768,
    "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "num_experts_per_tok": 10,
    "num_experts": 512, "norm_topk_prob": True,
}  # fmt: skip
SHARED = {f"shared.{part}": f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")}
LAYER = standard.LAYER | standard.QK_NORM | standard.EXPERTS | SHARED | _delta.LAYER
LAYER |= {"shared_gate": "mlp.shared_expert_gate"}
LAYER |= dict.fromkeys((f"state_{part}" for part in "qkvz"), "linear_attn.in_proj_qkvz")
LAYER |= dict.fromkeys(("state_beta", "state_dt"), "linear_attn.in_proj_ba")


def spec(config: Config) -> ModelSpec:
    attention, experts = qwen3_moe.with_experts(config, standard.attention_layers(config))
    width = config.integer("shared_expert_intermediate_size")
    return standard.spec(
        config,
        layers=_delta.layers(config, attention, _delta.every_fourth(config)),
        ropes=(_rotary.rope(config, attention[0].head_dim, partial=0.25),),
        qk_norm="head",
        attn_gate="full",
        moe=standard.moe(config, experts, d_shared=width, shared_gate=True) if experts else None,
    )


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    biases = ("q", "k", "v", "o") if config.flag("attention_bias") else ()
    found = standard.tensors(spec, LAYER, biases=biases, norm_offset=1.0)
    found = _delta.queries_and_gates(spec, found)
    for index, layer in enumerate(spec.layers):
        if (of := layer.recurrence) is not None:
            each, at = of.n_heads // of.n_key_heads, f"layers.{index}.state_"
            rows = {"q": of.key_dim, "k": of.key_dim, "v": each * of.value_dim, "z": each * of.value_dim}
            for parts in (rows, {"beta": each, "dt": each}):
                where = found[f"{at}{next(iter(parts))}"]
                found |= _delta.in_turns(where, {f"{at}{part}": count for part, count in parts.items()})
    return found
