"""Multi-head latent attention, as checkpoints of DeepSeek and those after it hold it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_HEAD_DIM, MAX_HEADS, Config
from edgekit.converters.spec import Latent, Layer, ModelSpec, Source

PARTS = {part: name for part, name in standard.LAYER.items() if part not in "qkv"} | {
    "q_down": "self_attn.q_a_proj",
    "q_down_norm": "self_attn.q_a_layernorm",
    "latent_norm": "self_attn.kv_a_layernorm",
}


# Matrices of which several parts are rows.
SHARED_OUT = ("self_attn.q_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj")

# DeepSeek-V3's, which those after it begin with.
DEFAULTS = {
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "rope_interleave": True,
}


def layer(config: Config) -> Layer:
    """A layer with a dense feed-forward part."""
    config.ignore("num_key_value_heads", "head_dim", "qk_head_dim")  # no head has keys or values of its own
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    of = Latent(
        config.integer("qk_rope_head_dim", maximum=MAX_HEAD_DIM),
        config.integer("qk_nope_head_dim", maximum=MAX_HEAD_DIM),
        config.integer("v_head_dim", config.integer("hidden_size") // heads, maximum=MAX_HEAD_DIM),
        config.integer("q_lora_rank", 0, minimum=0),
    )
    rank = config.integer("kv_lora_rank", maximum=MAX_HEAD_DIM)
    d_ff = config.integer("intermediate_size")
    return Layer("latent", heads, 1, of.rope_dim + rank, d_ff=d_ff, latent=of)


def spec(config: Config, layers: Sequence[Layer], **fields: Any) -> ModelSpec:
    of = layers[0].latent
    assert of is not None
    rope, given = _rotary.rope(config, of.rope_dim), Config(_rotary.parameters(config))
    # Where YaRN stretches the angles, scores grow as well, as `mscale_all_dim` says.
    all_dim, factor = given.number("mscale_all_dim", 0.0, zero=True), given.number("factor", 1.0)
    grown = _rotary.mscale(factor, all_dim)
    scale = (of.key_dim + of.rope_dim) ** -0.5 * grown * grown
    return standard.spec(config, layers=layers, ropes=(rope,), attn_scale=scale, **fields)


def tensors(
    config: Config, spec: ModelSpec, parts: Mapping[str, str] = PARTS, biases: Iterable[str] = ()
) -> dict[str, Source]:
    """As `standard.tensors`; biases of attention are those of what reads and writes the residual."""
    bias, pairs = config.flag("attention_bias"), config.flag("rope_interleave")
    found = standard.tensors(spec, parts, biases=[*biases, *(("q_down", "o") if bias else ())])
    for index, layer in enumerate(spec.layers):
        found |= _projections(layer, f"layers.{index}", bias, pairs)
    return found


def _projections(layer: Layer, at: str, bias: bool, pairs: bool) -> dict[str, Source]:
    of = layer.latent
    assert of is not None
    rank, key, value, rope = layer.head_dim - of.rope_dim, of.key_dim, of.value_dim, range(of.rope_dim)
    turned = (*rope[::2], *rope[1::2]) if pairs else rope
    theirs = f"model.{at}.self_attn"
    q = f"{theirs}.{'q_b_proj' if of.q_rank else 'q_proj'}"
    cells, heads = f"{theirs}.kv_a_proj_with_mqa", f"{theirs}.kv_b_proj.weight"

    def some(tensor: str, before: int, rows: Iterable[int]) -> Source:
        """Rows of every head of q, or of the cells', which have `before` that are not rotated."""
        return Source(tensor, period=before + of.rope_dim, order=tuple(rows))

    found = {
        f"{at}.q": some(f"{q}.weight", key, range(key)),
        f"{at}.q_rope": some(f"{q}.weight", key, (key + i for i in turned)),
    }
    for end, tail in (("", ".weight"), *([("_bias", ".bias")] if bias else [])):
        found[f"{at}.latent{end}"] = some(f"{cells}{tail}", rank, range(rank))
        found[f"{at}.k_rope{end}"] = some(f"{cells}{tail}", rank, (rank + i for i in turned))
    for head in range(layer.n_heads):
        first = head * (key + value)
        found[f"{at}.heads.{head}.k_up"] = Source(heads, transpose=True, columns=(first, first + key))
        found[f"{at}.heads.{head}.v_up"] = Source(heads, rows=(first + key, first + key + value))
    return found
