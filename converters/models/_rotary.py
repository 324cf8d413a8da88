"""Rotary embeddings: Hugging Face's parameters, in both dialects, to angles per position (float64).

Dialects: `rope_theta` + `rope_scaling: {type | rope_type, ...}` (Transformers 4), and `rope_parameters:
{rope_type, rope_theta, ...}`, possibly one such object for each layer type (Transformers 5).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.models._config import REQUIRED, Config
from edgekit.converters.spec import Rope
from edgekit.errors import InvalidFile, UnsupportedModel

ALIASES = {"su": "longrope"}  # early Phi-3
# The sections (image and text models) share out the angles to coordinates, which are one number for text.
COMMON = {"type", "rope_type", "rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved"}
KEYS: dict[str, set[str]] = {
    "default": set(),
    "linear": {"factor"},
    "proportional": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
             "original_max_position_embeddings"},
    "longrope": {"factor", "attention_factor", "short_factor", "long_factor",
                 "original_max_position_embeddings"},
}  # fmt: skip


def rope(
    config: Config,
    head_dim: int,
    *,
    theta: float = 10000.0,
    partial: float = 1.0,
    layer_type: str | None = None,
) -> Rope:
    """The rotary embedding of `config`, or of one of its layer types.

    `theta` and `partial` (share of a head that is rotated) are the family's defaults. Raises UnsupportedModel
    for unknown types and members.
    """
    given = parameters(config)
    if layer_type is not None and any(isinstance(value, dict) for value in given.values()):
        given = Config(given).members(layer_type)
    theta = config.number("rope_theta", theta)
    partial = config.number("partial_rotary_factor", partial)
    return from_parameters(
        given, head_dim, theta, partial, config.integer("max_position_embeddings", None),
        config.integer("original_max_position_embeddings", None),
    )  # fmt: skip


def full_and_sliding(
    config: Config, head_dim: int, *, theta: float, sliding_theta: float | None = None
) -> tuple[Rope, Rope]:
    """Of the layers that attend to everything, and of those with a window: `rope_scaling` spares these."""
    full = rope(config, head_dim, theta=theta, layer_type="full_attention")
    given = Config(config.members("rope_parameters")).members("sliding_attention")
    base = sliding_theta or config.number("rope_theta", theta)
    return full, from_parameters(given, head_dim, base, 1.0, config.integer("max_position_embeddings"))


def parameters(config: Config) -> dict[str, Any]:
    """The rope parameters, of either dialect; a config with both means the older one."""
    newer = config.members("rope_parameters")
    return config.members("rope_scaling") or newer


def from_parameters(
    given: dict[str, Any],
    head_dim: int,
    theta: float,
    partial: float,
    context: int | None,
    original_context: int | None = None,
) -> Rope:
    """A Rope from one object of parameters; `theta` and `partial` are what it leaves out, `original_context`
    precedes its own.
    """
    kind = given.get("rope_type") or given.get("type") or "default"
    kind = ALIASES.get(str(kind), str(kind))
    if kind not in KEYS:
        raise UnsupportedModel(f"config: rope type {kind!r} is not supported; known: {', '.join(KEYS)}")
    unknown = {k: v for k, v in given.items() if k not in KEYS[kind] | COMMON and v is not None}
    if unknown:
        raise UnsupportedModel(f"config: rope parameters of type {kind!r} with unknown members {unknown}")
    read = Config(given)
    theta = read.number("rope_theta", theta)
    if theta <= 1:
        raise InvalidFile(f"config: 'rope_theta' is {theta}; a number above 1 is expected")
    dim = int(head_dim * read.number("partial_rotary_factor", partial))
    if kind == "proportional":  # the angles of a whole head, of which the last are not turned
        rotated = theta ** -(np.arange(0, 2 * (dim // 2), 2, dtype=np.float64) / head_dim)
        still = np.zeros(head_dim // 2 - dim // 2)
        return Rope(head_dim, _angles(np.concatenate((rotated / read.number("factor", 1.0), still))))
    if dim % 2 or not 0 < dim <= head_dim:
        raise UnsupportedModel(
            f"config: {dim} of {head_dim} numbers of a head are rotated; an even part is supported"
        )
    inv_freq = theta ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)
    if kind == "default":
        return Rope(dim, _angles(inv_freq))
    if kind == "linear":
        return Rope(dim, _angles(inv_freq / read.number("factor")))
    original = original_context or read.integer("original_max_position_embeddings", context or REQUIRED)
    if original < 2:
        raise InvalidFile(f"config: the original context is {original}; at least 2 positions are expected")
    if kind == "llama3":
        return Rope(dim, _angles(_llama3(read, inv_freq, original)))
    factor = read.number("factor", (context or original) / original)
    if kind == "yarn":
        return Rope(dim, _angles(_yarn(read, inv_freq, theta, factor, original)), _yarn_gain(read, factor))
    short, long = (np.array(read.numbers(key, dim // 2)) for key in ("short_factor", "long_factor"))
    gain = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    gain = read.number("attention_factor", gain)
    return Rope(dim, _angles(inv_freq / short), gain, _angles(inv_freq / long), original)


def _llama3(read: Config, inv_freq: NDArray[np.float64], original: int) -> NDArray[np.float64]:
    """Long wavelengths are stretched by `factor`, short ones kept, those between interpolated (Llama 3.1)."""
    factor = read.number("factor")
    low, high = read.number("low_freq_factor"), read.number("high_freq_factor")
    turns = original * inv_freq / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1) if high > low else (turns > low).astype(np.float64)
    stretched: NDArray[np.float64] = inv_freq * ((1 - smooth) / factor + smooth)
    return stretched


def _yarn(
    read: Config, inv_freq: NDArray[np.float64], theta: float, factor: float, original: int
) -> NDArray[np.float64]:
    """Peng et al. 2023, "YaRN": a ramp over the dimensions between interpolated and original angles."""
    dim = 2 * len(inv_freq)

    def dimension_of(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = (
        dimension_of(read.number("beta_fast", 32.0)),
        dimension_of(read.number("beta_slow", 1.0)),
    )
    if read.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low if high != low else 0.001), 0, 1)
    angles: NDArray[np.float64] = inv_freq / factor * ramp + inv_freq * (1 - ramp)
    return angles


def mscale(factor: float, weight: float) -> float:
    """How much more queries times keys are to weigh where angles are stretched `factor` times."""
    return 0.1 * weight * math.log(max(factor, 1.0)) + 1.0


def _yarn_gain(read: Config, factor: float) -> float:
    numerator, denominator = (read.number(key, 0.0, zero=True) for key in ("mscale", "mscale_all_dim"))
    gain = (
        mscale(factor, numerator) / mscale(factor, denominator)
        if numerator and denominator
        else mscale(factor, 1.0)
    )
    return read.number("attention_factor", gain)


def _angles(inv_freq: NDArray[np.float64]) -> tuple[float, ...]:
    if not np.isfinite(inv_freq).all():
        raise InvalidFile("config: the rope parameters give angles that are not finite")
    return tuple(inv_freq.tolist())
