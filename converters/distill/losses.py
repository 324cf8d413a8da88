"""How far a student's distribution is from its teacher's: a function of log-probabilities is a loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgekit.converters.interpreters.torch import Tensor, torch  # says it when there is no torch
from edgekit.errors import UsageError


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1)


def _mixed(p: Tensor, q: Tensor, share: float) -> Tensor:
    """log(share · p + (1 - share) · q)"""
    return torch.logaddexp(p + math.log(share), q + math.log1p(-share))


def _jsd(p: Tensor, q: Tensor, beta: float) -> Tensor:
    """Generalized Jensen-Shannon divergence (GKD): forward KL near `beta` 0, reverse near 1, both scaled."""
    middle = _mixed(p, q, beta)
    return beta * _kl(p, middle) + (1 - beta) * _kl(q, middle)


# Of log-probabilities `[..., classes]` of the teacher and of the student, and beta; in nats a token.
DIVERGENCES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "kl": lambda p, q, beta: _kl(p, q),
    "reverse_kl": lambda p, q, beta: _kl(q, p),
    "jsd": _jsd,
    "skew_kl": lambda p, q, beta: _kl(p, _mixed(p, q, beta)),  # DistiLLM
}
NEXT_TOKEN = "next_token"  # of the text alone: no teacher
NAMES = (*DIVERGENCES, NEXT_TOKEN)


@dataclass(frozen=True)
class Loss:
    """One of NAMES; `beta` of jsd and skew_kl; both distributions at `temperature`. To it is added, `hidden`
    times, how far what the student's output matrix is applied to is from the teacher's: the squared distance
    over the squared length.
    """

    name: str = "kl"
    beta: float = 0.1
    temperature: float = 1.0
    hidden: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(f"there is no loss {self.name!r}; choose one of: {', '.join(NAMES)}")
        if not 0 < self.beta < 1:
            raise UsageError(f"beta is {self.beta}; give a number between 0 and 1")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"the temperature is {self.temperature}; give a number above 0")
        if not 0 <= self.hidden < math.inf or (self.hidden and not self.has_teacher):
            raise UsageError(
                f"hidden states count {self.hidden} times with {self.name!r}; give 0 or more, and a teacher"
            )

    @property
    def has_teacher(self) -> bool:
        return self.name != NEXT_TOKEN

    def log_probabilities(self, logits: Tensor) -> Tensor:
        return (logits.float() / self.temperature).log_softmax(-1)

    def of(self, teacher: Tensor, student: Tensor) -> Tensor:
        """`[...]` of log-probabilities `[..., classes]`; times the temperature's square, so that gradients
        stay as large as at 1.
        """
        return DIVERGENCES[self.name](teacher, student, self.beta) * self.temperature**2
