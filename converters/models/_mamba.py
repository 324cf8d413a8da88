"""What families of Mamba-2 share: the parts of one input projection, and their recurrence. A head's x is v,
B is k and C is q; groups are what keys and queries belong to.
"""

from __future__ import annotations

from typing import Any

from edgekit.converters.models._config import Config
from edgekit.converters.models._standard import MAX_KERNEL
from edgekit.converters.spec import Recurrence
from edgekit.errors import InvalidFile, UnsupportedModel

# Rows of the projection and of the convolution come in this order.
PARTS = {
    "state_z": "in_proj",
    "state_v": "in_proj",
    "state_k": "in_proj",
    "state_q": "in_proj",
    "state_dt": "in_proj",
    "state_dt_bias": "dt_bias",
    "state_a": "A_log",
    "state_d": "D",
    "taps_v": "conv1d",
    "taps_k": "conv1d",
    "taps_q": "conv1d",
    "state_scale": "norm",
    "state_o": "out_proj",
}
ENDLESS = (float("inf"), {"__float__": "Infinity"})  # as JSON has it, and as Transformers 5 saves it
CONVOLUTIONS = ("taps_v", "taps_k", "taps_q")


def layer(module: str) -> dict[str, str]:
    """PARTS of a layer's `module`."""
    return {part: f"{module}.{theirs}" for part, theirs in PARTS.items()}


def recurrence(
    config: Config, *, heads: int, groups: int, head_dim: int, state: int, kernel: int, **fields: Any
) -> Recurrence:
    """Raises InvalidFile where heads cannot share the groups, UnsupportedModel for a limit on the steps."""
    if heads % groups:
        raise InvalidFile(f"config: {heads} heads cannot share {groups} groups evenly")
    if kernel > MAX_KERNEL:
        raise InvalidFile(f"config: a convolution over {kernel} tokens; at most {MAX_KERNEL} are expected")
    low, high = config.get("time_step_limit") or (0.0, float("inf"))
    if high not in ENDLESS:
        raise UnsupportedModel(
            f"config: time_step_limit = {[low, high]} is not supported; only one without end"
        )
    values: dict[str, Any] = {"norm": "group", "gate_first": True, "dt_min": float(low)} | fields
    return Recurrence(heads, groups, state, head_dim, kernel, **values)
