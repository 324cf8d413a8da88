"""Training a student until it says what its teacher says."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.distill import weights
from edgekit.converters.distill.losses import Loss
from edgekit.converters.distill.objective import step
from edgekit.converters.distill.student import Array, Load
from edgekit.converters.distill.targets import Cached, Live, Targets
from edgekit.converters.distill.texts import Window
from edgekit.converters.interpreters.torch import TorchDecoder, torch
from edgekit.converters.quant.grid import Grid
from edgekit.converters.train import Schedule, train


@dataclass(frozen=True)
class Course:
    """`tokens` in all, `batch_tokens` of them in a step, in an order that `seed` says."""

    tokens: int
    batch_tokens: int
    learning_rate: float
    loss: Loss
    seed: int = 0

    def batches(self, windows: Sequence[Window]) -> list[list[Window]]:
        """Every window once before any comes again."""
        length = max(len(window.ids) for window in windows)
        size = max(1, self.batch_tokens // length)
        order: list[Window] = []
        for epoch in range(math.ceil(self.steps(size, length) * size / len(windows))):
            order += random.Random(f"{self.seed}/{epoch}").sample(list(windows), len(windows))
        return [order[at * size : (at + 1) * size] for at in range(self.steps(size, length))]

    def steps(self, size: int, length: int) -> int:
        return max(1, round(self.tokens / (size * length)))


def heal(
    student: ConvertInput,
    teacher: ConvertInput,
    windows: Sequence[Window],
    course: Course,
    *,
    kept: Sequence[int] | None = None,
    cache: Path | None = None,
    grids: Mapping[str, Grid] | None = None,
    state: Path | None = None,
    told: Callable[[int, float], None] = lambda step, loss: None,
    progress: Progress = silent,
) -> Load:
    """The student's tensors after training. `kept`: which of the teacher's tokens the student has; `cache`: a
    folder of targets; `grids`: weights are trained as they will be on these; `state`: a file to go on from.
    On a GPU where torch has one.
    """
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        parameters = weights.trained(student.tensors, student.load)
        on_grids = weights.OnGrids(parameters, grids or {})
        model = TorchDecoder(student.spec, on_grids)
        targets = _targets(teacher, course.loss, kept, cache) if course.loss.has_teacher else None
        batches = course.batches(windows)

        def loss(number: int) -> float:
            on_grids.refresh()
            return step(model, batches[number], course.loss, targets)

        schedule = Schedule(len(batches), course.learning_rate)
        train(parameters, loss, schedule, state, told=told, task="training", progress=progress)

    def load(name: str) -> Array | None:
        return parameters[name].detach().cpu().numpy() if name in parameters else None

    return load


def _targets(teacher: ConvertInput, loss: Loss, kept: Sequence[int] | None, cache: Path | None) -> Targets:
    live = Live(TorchDecoder(teacher.spec, weights.fixed(teacher.load)), loss.log_probabilities, kept)
    if cache is None:
        return live
    made_of = {
        "teacher": teacher.metadata.get("source", {}).get("sha256"),
        "vocab_size": len(kept) if kept is not None else teacher.spec.vocab_size,
        "vocabulary": None if kept is None else hashlib.sha256(repr(list(kept)).encode()).hexdigest(),
        "temperature": loss.temperature,
    }
    return Cached(cache, live, made_of)
