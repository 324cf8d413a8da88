"""The one trainer: Adam over named parameters, with warm-up and a cosine, that goes on after a kill as if
there had been none. What is learned, and from what, its caller says.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.converters.convert import Progress, silent
from edgekit.converters.interpreters.torch import Tensor, torch  # says it when there is no torch
from edgekit.errors import UsageError
from edgekit.in_place_of import in_place_of

SAVED_EVERY_S = 30.0


@dataclass(frozen=True)
class Schedule:
    """`learning_rate` is reached after the share `warm_up` of all steps; then it falls to `final` of itself
    along a cosine. Gradients longer than `clip` together are shortened to it; 0: never.
    """

    steps: int
    learning_rate: float
    warm_up: float = 0.1
    final: float = 0.0
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.learning_rate < math.inf:
            raise UsageError(f"{self.steps} steps at a rate of {self.learning_rate}; at least 1, above 0")

    def rate(self, step: int) -> float:
        """Of the step number `step`, from 0."""
        rising = min(1.0, (step + 1) / max(1.0, self.warm_up * self.steps))
        falling = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * rising * (self.final + (1 - self.final) * falling)


def train(
    parameters: Mapping[str, Tensor],
    loss: Callable[[int], float],
    schedule: Schedule,
    state: Path | None = None,
    *,
    told: Callable[[int, float], None] = lambda step, loss: None,
    task: str = "training",
    progress: Progress = silent,
) -> None:
    """Changes `parameters` in place. `loss(step)` adds the gradients of a step to theirs and gives its value;
    it depends on nothing but them and the number of the step, so the same call gives the same parameters.

    `state` is a file: written every 30 seconds and when interrupted, read at the start, left at the end. A
    state of another schedule or of other parameters is not read. `told(step, loss)` hears of every step.
    """
    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=0.0, betas=schedule.betas, weight_decay=schedule.weight_decay
    )
    made_of = {"schedule": asdict(schedule), "shapes": {n: list(p.shape) for n, p in parameters.items()}}
    first = 0 if state is None else _resume(state, made_of, parameters, optimizer)
    done, whole, saved = first, True, time.monotonic()
    try:
        for step in range(first, schedule.steps):
            progress(task, step, schedule.steps)
            value = loss(step)
            if not math.isfinite(value):
                raise UsageError(
                    f"{task}: the loss of step {step + 1} is {value}", hint="try a lower learning rate"
                )
            if schedule.clip:
                torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], schedule.clip)
            optimizer.param_groups[0]["lr"] = schedule.rate(step)
            whole = False
            optimizer.step()
            done, whole = step + 1, True
            optimizer.zero_grad()
            told(step, value)
            if state is not None and time.monotonic() - saved > SAVED_EVERY_S:
                _save(state, made_of, done, parameters, optimizer)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if state is not None and whole:
            _save(state, made_of, done, parameters, optimizer)
        raise
    progress(task, schedule.steps, schedule.steps)
    if state is not None:
        _save(state, made_of, schedule.steps, parameters, optimizer)


def _save(
    path: Path, made_of: dict[str, Any], steps: int, parameters: Mapping[str, Tensor], optimizer: Any
) -> None:
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    with in_place_of(path) as temporary:
        torch.save(
            {"made_of": made_of, "steps": steps, "values": values, "optimizer": optimizer.state_dict()},
            temporary,
        )


def _resume(path: Path, made_of: dict[str, Any], parameters: Mapping[str, Tensor], optimizer: Any) -> int:
    """The steps that have been done: 0 without a file, with a damaged one, and with that of another run."""
    try:
        found = torch.load(path, weights_only=True)
        if found["made_of"] != made_of:
            return 0
    except (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError):
        return 0
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found["values"][name])
    optimizer.load_state_dict(found["optimizer"])
    return int(found["steps"])
