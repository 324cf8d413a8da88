"""What most families share: the Llama block, in Hugging Face's names. A family says how it differs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgekit.converters.models import _rotary
from edgekit.converters.models._config import MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, Config
from edgekit.converters.spec import (
    MIXER_MATRICES,
    NORMS_OF_EXPERTS,
    Layer,
    ModelSpec,
    Moe,
    Recurrence,
    Rope,
    Source,
)
from edgekit.errors import InvalidFile, UnsupportedModel

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    **dict.fromkeys(("relu2", "sqrelu"), "relu2"),
    "xielu": "xielu",
}

# The spec's name of a layer's part -> Hugging Face's, without ".weight". Parts that name the same tensor are
# its rows, in this order; "{}" is the number of the expert (without it they are a stack), or of the head of a
# norm per head. A name that begins with "+" lies in the next of the checkpoint's blocks.
LAYER: dict[str, str] = {
    "attn_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
QK_NORM = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
POST_NORM = {"attn_post_norm": "post_attention_layernorm", "ffn_post_norm": "post_feedforward_layernorm"}
EXPERTS = {
    "router": "mlp.gate",
    "experts.gate": "mlp.experts.{}.gate_proj",
    "experts.up": "mlp.experts.{}.up_proj",
    "experts.down": "mlp.experts.{}.down_proj",
}

MIXER_PARTS = {
    "attention": {"q", "k", "v", "attn_gate", "o", "q_norm", "k_norm", "sinks", "o_norm"},
    "conv": {"conv_in", "conv", "conv_out"},
    "recurrent": {
        *("state_q", "state_k", "state_v", "state_z", "state_dt", "state_beta", "state_o"),
        *("taps_q", "taps_k", "taps_v", "state_a", "state_d", "state_dt_bias", "state_scale"),
    },
    "rwkv_time": {
        *MIXER_MATRICES["rwkv_time"],
        *("rwkv_removed", "rwkv_replaced", "rwkv_bonus", "rwkv_norm"),
    },
    "rwkv_channels": {*MIXER_MATRICES["rwkv_channels"], "rwkv_mix"},
    "latent": {"q_down", "q_down_norm", "q", "q_rope", "latent", "latent_norm", "k_rope", "o"},
}
ALL_MIXERS_PARTS = frozenset().union(*MIXER_PARTS.values())
TAPS = {"conv", "taps_q", "taps_k", "taps_v"}  # Conv1d keeps an axis for the channels of its only group
ROUTED = {
    "router",
    "router_choice",
    "shared.gate",
    "shared.up",
    "shared.down",
    "shared_gate",
    *NORMS_OF_EXPERTS,
}
DENSE_PARTS = {"gate", "up", "down", "down_norm", "alpha_p", "alpha_n"}
SLOPES = {"alpha_p": 0.0, "alpha_n": 0.5}  # of xIELU: the least that each may be
# Parts whose names have no ".weight".
BARE = {"sinks", "router_choice", *SLOPES, "state_a", "state_d", "state_dt_bias"}
BARE |= {"rwkv_mix", "rwkv_removed", "rwkv_replaced", "rwkv_bonus"}
MAX_KERNEL = 64  # taps of a convolution


def spec(
    config: Config,
    *,
    layers: Sequence[Layer] | None = None,
    ropes: Sequence[Rope] | None = None,
    eps: str = "rms_norm_eps",
    **fields: Any,
) -> ModelSpec:
    """A ModelSpec of Llama blocks, but for `fields`; `eps` is the config's name of `norm_eps`."""
    layers = layers if layers is not None else attention_layers(config)
    heads = next((layer for layer in layers if layer.mixer == "attention"), Layer())
    values: dict[str, Any] = {
        "norm_eps": config.number(eps, 1e-6),
        "activation": activation(config, "hidden_act"),
        "attn_scale": max(heads.head_dim, 1) ** -0.5,
        "tied": config.flag("tie_word_embeddings", False),
        "context": config.integer("max_position_embeddings", 2048),
    } | fields
    return ModelSpec(
        model_type=config.get("model_type"),
        vocab_size=config.integer("vocab_size"),
        d_model=config.integer("hidden_size"),
        layers=tuple(layers),
        ropes=tuple(ropes) if ropes is not None else (_rotary.rope(config, heads.head_dim),),
        **values,
    )


def layer_count(config: Config, key: str = "num_hidden_layers") -> int:
    return config.integer(key, maximum=MAX_LAYERS)


def head_dim(config: Config) -> int:
    """`head_dim`, or the share of a head in `hidden_size`."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads", maximum=MAX_HEADS)
    if config.integer("head_dim", None) is None and width % heads:
        raise InvalidFile(
            f"config: no head_dim, and hidden_size {width} is no multiple of num_attention_heads {heads}"
        )
    return config.integer("head_dim", width // heads, maximum=MAX_HEAD_DIM)


def moe(config: Config, n_experts: int, **fields: Any) -> Moe:
    """How many experts a token takes, never more than there are; `fields` are members of Moe."""
    top_k = config.integer("num_experts_per_tok", maximum=max(n_experts, 1))
    return Moe(**{"top_k": top_k, "normalize": config.flag("norm_topk_prob")} | fields)


def attention_layers(
    config: Config,
    *,
    windows: Sequence[int | None] | None = None,
    ropes: Sequence[int | None] | None = None,
    **fields: Any,
) -> tuple[Layer, ...]:
    """Attention layers, alike but for window (tokens) and rope (index); `fields` are members of Layer."""
    count = layer_count(config)
    heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    layer = Layer(
        n_heads=heads,
        n_kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=head_dim(config),
        d_ff=config.integer("intermediate_size"),
    )
    if layer.n_heads % layer.n_kv_heads:
        raise UnsupportedModel(
            f"config: {heads} attention heads cannot share {layer.n_kv_heads} key/value heads evenly"
        )
    layer = dataclasses.replace(layer, **fields)
    windows = windows or [None] * count
    ropes = ropes or [0] * count
    return tuple(dataclasses.replace(layer, window=w, rope=r) for w, r in zip(windows, ropes, strict=True))


def recurrent(layer: Layer, of: Recurrence) -> Layer:
    """The layer with a recurrent mixer in place of its attention."""
    return Layer("recurrent", rope=None, d_ff=layer.d_ff, n_experts=layer.n_experts, recurrence=of)


def layer_types(
    config: Config, default: Sequence[str], known: Iterable[str] = ("full_attention", "sliding_attention")
) -> list[str]:
    """`layer_types`, checked, or `default`."""
    types = config.items("layer_types", len(default), list(default))
    for kind in types:
        if kind not in known:
            raise UnsupportedModel(f"config: layer type {kind!r} is not supported; known: {', '.join(known)}")
    return types


def one_full_in(config: Config, every: int) -> list[str]:
    """The types of layers of which the last of every so many attends to everything."""
    count = layer_count(config)
    return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(count)]


def windows(config: Config, types: Sequence[str]) -> list[int | None]:
    """The window of each layer: `sliding_window` where the layer's type is "sliding_attention"."""
    window = config.integer("sliding_window", None)
    if window is None and "sliding_attention" in types:
        raise InvalidFile("config: 'sliding_window' is missing, but 'layer_types' has sliding layers")
    return [window if kind == "sliding_attention" else None for kind in types]


def activation(config: Config, key: str) -> Any:
    name = config.get(key, "silu")
    if str(name) not in ACTIVATIONS:
        raise UnsupportedModel(f"config: {key} = {name!r} is not supported; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def tensors(
    spec: ModelSpec,
    layer: Mapping[str, str] = LAYER,
    *,
    biases: Iterable[str] = (),
    norm_offset: float = 0.0,
    root: str = "model.",
    embed: str = "embed_tokens",
    final_norm: str = "norm",
    pairs: bool = False,
    blocks: Sequence[int] | None = None,
) -> dict[str, Source]:
    """Where every tensor of the spec lies.

    `biases` names the parts (of a layer, or "final_norm", "head") that have one; `norm_offset` is added to
    all norm weights. A norm that is "" has no weights. `pairs`: numbers that are rotated together lie side by
    side in the rows of q and k. `blocks`: the checkpoint's number of each layer, where it is another.
    """
    biases = set(biases)
    found = {"embed": Source(f"{root}{embed}.weight")}
    shared = {theirs for theirs, uses in Counter(layer.values()).items() if uses > 1}
    for index, block in enumerate(spec.layers):
        rows_used: Counter[tuple[str, int | None]] = Counter()
        for part, expert in _parts(spec, block, layer):
            number = "" if expert is None else f"experts.{expert}."
            name = f"layers.{index}.{number}{part.removeprefix('experts.')}"
            shape = spec.shape(name)
            place = (index if blocks is None else blocks[index]) + layer[part].startswith("+")
            theirs = f"{root}layers.{place}.{layer[part].removeprefix('+')}"
            if part in QK_NORM and spec.qk_norm == "layer_per_head":
                first, *rest = (f"{theirs.format(head)}.weight" for head in range(shape[0]))
                found[name] = Source(first, shape=shape, stack=tuple(rest))
                continue
            stacked = "{}" not in theirs
            theirs = theirs.format(expert)
            if not layer[part]:
                found[name] = Source("", add=1.0, shape=shape)
                continue
            rows = None
            if layer[part] in shared:
                begin = rows_used[theirs, expert]
                rows = (begin, begin + shape[0])
                rows_used[theirs, expert] += shape[0]
            add = norm_offset if part.endswith("norm") else 0.0
            tail = "" if part in BARE else ".weight"
            taps, index_of = shape if part in TAPS else None, expert if stacked else None
            found[name] = Source(f"{theirs}{tail}", rows, add, taps, index=index_of)
            if part in SLOPES:
                found[name] = Source(theirs, add=SLOPES[part], map="softplus")
            if part in biases:
                found[f"{name}_bias"] = Source(f"{theirs}.bias", rows)
            if pairs and part in ("q", "k"):
                for paired in {name, f"{name}_bias"} & found.keys():
                    found[paired] = _halves(found[paired], spec, block)
    found["final_norm"] = (
        Source(f"{root}{final_norm}.weight", add=norm_offset)
        if final_norm
        else Source("", add=1.0, shape=spec.shape("final_norm"))
    )
    if "final_norm" in biases:
        found["final_norm_bias"] = Source(f"{root}{final_norm}.bias")
    if not spec.tied:
        found["head"] = Source("lm_head.weight")
    if "head" in biases:
        found["head_bias"] = Source("lm_head.bias")
    return found


def _halves(source: Source, spec: ModelSpec, block: Layer) -> Source:
    """Rows of q or k in which pairs of numbers are rotated, as `Rope` has them: a half after the other."""
    if block.rope is None:
        return source
    dim, head_dim = spec.ropes[block.rope].dim, block.head_dim
    order = (*range(0, dim, 2), *range(1, dim, 2), *range(dim, head_dim))
    return dataclasses.replace(source, period=head_dim, order=order)


def _parts(spec: ModelSpec, block: Layer, layer: Mapping[str, str]) -> Iterable[tuple[str, int | None]]:
    for part in layer:
        if part.startswith("experts."):
            for expert in range(block.n_experts):
                yield part, expert
        elif (
            (part not in ALL_MIXERS_PARTS or part in MIXER_PARTS[block.mixer])
            and (part not in DENSE_PARTS or (block.n_experts == 0 and block.d_ff > 0))
            and (part not in ROUTED or block.n_experts > 0)
            and (part != "gate" or spec.gated)
            and (part != "ffn_norm" or (not block.parallel and block.d_ff > 0))
            and part not in block.missing()
        ):
            yield part, None
