"""What families of gated delta nets share: their recurrent layers, between layers of attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.converters.models import _standard as standard
from edgekit.converters.models._config import MAX_HEAD_DIM, MAX_HEADS, Config
from edgekit.converters.spec import Layer, ModelSpec, Recurrence, Source
from edgekit.errors import InvalidFile

DEFAULTS = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
# Rows of a projection are taken in this order.
LAYER = {
    "state_q": "linear_attn.in_proj_qkv",
    "state_k": "linear_attn.in_proj_qkv",
    "state_v": "linear_attn.in_proj_qkv",
    "state_z": "linear_attn.in_proj_z",
    "state_beta": "linear_attn.in_proj_b",
    "state_dt": "linear_attn.in_proj_a",
    "state_dt_bias": "linear_attn.dt_bias",
    "state_a": "linear_attn.A_log",
    "taps_q": "linear_attn.conv1d",
    "taps_k": "linear_attn.conv1d",
    "taps_v": "linear_attn.conv1d",
    "state_scale": "linear_attn.norm",
    "state_o": "linear_attn.out_proj",
}


def layers(
    config: Config, attention: Sequence[Layer], usual: Sequence[str], **fields: Any
) -> tuple[Layer, ...]:
    """`attention` where `layer_types` (or else `usual`) says "full_attention", a recurrent layer elsewhere;
    `fields` are members of its Recurrence.
    """
    of = recurrence(config, **fields)
    types = standard.layer_types(config, usual, known=("full_attention", "linear_attention"))
    return tuple(
        layer if kind == "full_attention" else standard.recurrent(layer, of)
        for layer, kind in zip(attention, types, strict=True)
    )


def every_fourth(config: Config) -> list[str]:
    """The layer types of configs that leave them out: three of four recurrent."""
    every, count = config.integer("full_attention_interval", 4), standard.layer_count(config)
    return ["linear_attention" if (i + 1) % every else "full_attention" for i in range(count)]


def recurrence(config: Config, **fields: Any) -> Recurrence:
    """Where config and family leave sizes out, they are OLMo Hybrid's."""
    usual_heads = config.integer("num_attention_heads", maximum=MAX_HEADS)
    heads = config.integer("linear_num_value_heads", usual_heads, maximum=MAX_HEADS)
    key_heads = config.integer("linear_num_key_heads", usual_heads, maximum=MAX_HEADS)
    if heads % key_heads:
        raise InvalidFile(
            f"config: {heads} value heads cannot share {key_heads} key heads evenly "
            "(linear_num_value_heads, linear_num_key_heads)"
        )
    usual_dim = max(3 * config.integer("hidden_size") // (4 * key_heads), 1)
    key_dim = config.integer("linear_key_head_dim", usual_dim, maximum=MAX_HEAD_DIM)
    usual = Recurrence(
        n_heads=heads,
        n_key_heads=key_heads,
        key_dim=key_dim,
        value_dim=config.integer("linear_value_head_dim", 2 * key_dim, maximum=MAX_HEAD_DIM),
        kernel=config.integer("linear_conv_kernel_dim", maximum=standard.MAX_KERNEL),
        delta=True,
        unit_keys=True,
        q_scale=key_dim**-0.5,
        norm="head",
        norm_eps=config.number("rms_norm_eps", 1e-6),
    )
    return dataclasses.replace(usual, **fields)


def queries_and_gates(spec: ModelSpec, found: dict[str, Source]) -> dict[str, Source]:
    """`found`, where each head's queries and its gate come from one projection, one below the other."""
    gated = dict(found)
    for name, where in found.items():
        at, _, part = name.rpartition(".")
        if part in ("q", "q_bias"):
            dim = spec.layers[int(at.rpartition(".")[2])].head_dim
            gated |= in_turns(where, {name: dim, f"{at}.attn_gate{part.removeprefix('q')}": dim})
    return gated


def in_turns(where: Source, parts: Mapping[str, int]) -> dict[str, Source]:
    """Parts that one tensor holds by turns, so many rows of each at a time."""
    found, begin, period = {}, 0, sum(parts.values())
    for name, count in parts.items():
        order = tuple(range(begin, begin + count))
        found[name] = dataclasses.replace(where, rows=None, period=period, order=order)
        begin += count
    return found
