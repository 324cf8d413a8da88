"""OpenELM: every layer has its own number of heads and width; q, k, v and gate, up stored together."""

from edgekit.converters.models import _rotary
from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_HEAD_DIM, MAX_HEADS, Config
from edgekit.converters.spec import Layer, ModelSpec, Source
from edgekit.errors import InvalidFile

LAYER = {
    "attn_norm": "attn_norm",
    **dict.fromkeys(("q", "k", "v"), "attn.qkv_proj"),
    "o": "attn.out_proj",
    "ffn_norm": "ffn_norm",
    "gate": "ffn.proj_1",
    "up": "ffn.proj_1",
    "down": "ffn.proj_2",
}
QK_NORM = {"q_norm": "attn.q_norm", "k_norm": "attn.k_norm"}


def spec(config: Config) -> ModelSpec:
    config.only("normalization_layer_name", "rms_norm")
    config.only("ffn_with_glu", True)
    config.ignore("num_gqa_groups", "qkv_multipliers", "rope_max_length")  # the lists below say it all
    count = standard.layer_count(config, "num_transformer_layers")
    width, head_dim = config.integer("model_dim"), config.integer("head_dim", maximum=MAX_HEAD_DIM)
    divisor = config.integer("ffn_dim_divisor", 256)
    widths = [_divisible(scale * width, divisor) for scale in config.numbers("ffn_multipliers", count)]
    heads, kv_heads = (
        config.integers(key, minimum=1, maximum=MAX_HEADS) for key in ("num_query_heads", "num_kv_heads")
    )
    if not len(heads) == len(kv_heads) == count or any(n % kv for n, kv in zip(heads, kv_heads, strict=True)):
        raise InvalidFile(
            f"config: 'num_query_heads' {heads} and 'num_kv_heads' {kv_heads} do not fit {count} layers"
        )
    layers = [
        Layer(n_heads=n, n_kv_heads=kv, head_dim=head_dim, d_ff=d_ff)
        for n, kv, d_ff in zip(heads, kv_heads, widths, strict=True)
    ]
    theta = config.number("rope_freq_constant", 10000.0)
    context = config.integer("max_context_length", 2048)
    return ModelSpec(
        model_type="openelm",
        vocab_size=config.integer("vocab_size"),
        d_model=width,
        layers=tuple(layers),
        ropes=(_rotary.from_parameters({}, head_dim, theta, 1.0, context),),
        norm_eps=1e-6,
        activation=standard.activation(config, "activation_fn_name"),
        qk_norm="head" if config.flag("normalize_qk_projections") else "none",
        attn_scale=head_dim**-0.5,
        tied=config.flag("share_input_output_layers"),
        context=context,
    )


def _divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `value`, at least 90 % of it."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


def tensors(config: Config, spec: ModelSpec) -> dict[str, Source]:
    layer = LAYER | (QK_NORM if spec.qk_norm == "head" else {})
    return standard.tensors(spec, layer, root="transformer.", embed="token_embeddings")
