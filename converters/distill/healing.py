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
from edgekit.converters.distill.objective import Objective, count_of
from edgekit.converters.distill.student import Load
from edgekit.converters.distill.targets import Cached, Live, Targets
from edgekit.converters.distill.texts import Window
from edgekit.converters.interpreters.torch import TorchDecoder
from edgekit.converters.quant.grid import Grid
from edgekit.converters.train import Judge, Schedule, processes, train, whole
from edgekit.errors import UsageError

JUDGEMENTS = 20  # in the course of a training
Told = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Course:
    """`tokens` in all, `batch_tokens` of them in a step, in an order that `seed` says; fewer when so many
    judgements as `patience` says were of no use.
    """

    tokens: int
    batch_tokens: int
    learning_rate: float
    loss: Loss
    seed: int = 0
    patience: int = 3

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
    validation: Sequence[Window] = (),
    state: Path | None = None,
    told: Told = lambda step, values: None,
    progress: Progress = silent,
) -> Load:
    """The student's tensors after training. `kept`: which of the teacher's tokens the student has; `cache`: a
    folder of targets; `grids`: weights are trained as they will be on these; `validation`: what judges them
    on the way; `state`: a file to go on from. By all the processes that were launched, each on its own GPU
    where torch has any.
    """
    team = processes()
    with team.device:
        parameters = weights.trained(student.tensors, student.load)
        on_grids = weights.OnGrids(parameters, grids or {})
        decoder = TorchDecoder(student.spec, on_grids)
        targets = _targets(teacher, course.loss, kept, cache) if course.loss.has_teacher else None
        model = Objective(decoder, parameters, course.loss, targets)
        batches = course.batches(windows)
        if len(batches[0]) % team.num_processes:
            raise UsageError(
                f"a step has {len(batches[0])} texts, for {team.num_processes} processes to share",
                hint="give --batch-tokens that are a multiple of processes times --context",
            )

        def shares(step: int) -> list[tuple[Window, int]]:
            on_grids.refresh()
            own = batches[step][team.process_index :: team.num_processes]
            return [(window, count_of(batches[step])) for window in own]

        def judged() -> float:
            on_grids.refresh()
            return model.mean(validation)

        every = max(1, len(batches) // JUDGEMENTS)
        train(
            model,
            shares,
            Schedule(len(batches), course.learning_rate),
            state,
            judge=Judge(judged, every, course.patience) if validation else None,
            told=told,
            progress=progress,
        )
        found = {name: whole(values).numpy() for name, values in parameters.named_parameters()}
    return found.get


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
