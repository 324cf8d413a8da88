"""From logits to a token, as edgekit's own engine does it (cpp/src/engine/sampler.h): the same filters in the
same order, and the same random number for a seed and a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UsageError

F32 = NDArray[np.float32]
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Sampler:
    """Options as in `Session.generate`. Raises UsageError for values outside their range."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_window: int = 64
    seed: int = 0
    bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
            "typical_p": (0 < self.typical_p <= 1, "above 0 and at most 1"),
            "repetition_penalty": (0 < self.repetition_penalty < float("inf"), "above 0"),
            "presence_penalty": (bool(np.isfinite(self.presence_penalty)), "a finite number"),
            "frequency_penalty": (bool(np.isfinite(self.frequency_penalty)), "a finite number"),
            "penalty_window": (0 <= self.penalty_window <= 4096, "at most 4096"),
        }
        for name, (ok, wanted) in ranges.items():
            if not ok:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be {wanted}")

    def sample(self, logits: F32, recent: Sequence[int], step: int) -> int:
        """A token for `logits` `[vocab_size]`; `recent` are the tokens the penalties see, `step` numbers the
        choices of one generation.
        """
        logits = logits.astype(np.float32)
        for id, value in self.bias.items():
            logits[id] += value
        self._penalise(logits, recent[-self.penalty_window :] if self.penalty_window else ())
        most = logits.max()
        if not np.isfinite(most):
            raise UsageError("no token is allowed, or the logits are not numbers")
        if self.temperature == 0:
            return int(logits.argmax())
        weights = np.exp((logits - most) * np.float32(1 / self.temperature))
        random = uniform(self.seed, step)
        if (0 < self.top_k < len(weights)) or self.top_p < 1 or self.min_p > 0 or self.typical_p < 1:
            return self._draw_filtered(weights, random)
        return int(_draw(np.arange(len(weights)), weights, random))

    def _penalise(self, logits: F32, recent: Sequence[int]) -> None:
        for id, count in Counter(recent).items():
            value = logits[id]
            value = value / self.repetition_penalty if value > 0 else value * self.repetition_penalty
            logits[id] = value - (self.presence_penalty + self.frequency_penalty * count)

    def _draw_filtered(self, weights: F32, random: float) -> int:
        ids = np.argsort(-weights, kind="stable")  # the most likely first, equal ones by id
        ids = ids[weights[ids] > 0]
        total = float(weights.sum(dtype=np.float64))
        if 0 < self.top_k < len(ids):
            ids = ids[: self.top_k]
            total = float(weights[ids].sum(dtype=np.float64))
        if self.top_p < 1:
            ids = ids[: _covering(weights[ids], self.top_p * total)]
        if self.min_p > 0:
            ids = ids[weights[ids] >= self.min_p]
        if self.typical_p < 1:
            share = weights[ids].astype(np.float64)
            share /= share.sum()
            distance = np.abs(-np.log(share) + (share * np.log(share)).sum())
            ids = ids[np.lexsort((ids, distance))]
            total = float(weights[ids].sum(dtype=np.float64))
            ids = ids[: _covering(weights[ids], self.typical_p * total)]
        return int(_draw(ids, weights[ids], random))


def uniform(seed: int, step: int) -> float:
    """A number in [0, 1) from a seed and a counter (SplitMix64's finalizer, Steele et al. 2014)."""
    z = (seed + (step + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return float((z ^ (z >> 31)) >> 11) * 2.0**-53


def _covering(weights: F32, mass: float) -> int:
    """How many of the first weights sum to `mass`; at least one."""
    sums = np.cumsum(weights, dtype=np.float64)
    return max(1, min(len(weights), int(np.searchsorted(sums, mass)) + 1))


def _draw(ids: NDArray[np.int64], weights: F32, random: float) -> np.int64:
    sums = np.cumsum(weights, dtype=np.float64)
    at = int(np.searchsorted(sums, random * sums[-1], side="right"))
    return ids[min(at, int(np.flatnonzero(weights)[-1]))]
