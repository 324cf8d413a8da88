"""What training will take, before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edgekit.converters.distill.healing import Course
from edgekit.converters.distill.objective import ROWS
from edgekit.converters.interpreters.torch import torch
from edgekit.converters.train import processes

SIZE = 1024  # of the product that is timed


@dataclass(frozen=True)
class Estimate:
    """`memory_bytes` of one process; `training_seconds` on this machine, or GPU, alone."""

    memory_bytes: int
    training_seconds: float
    operations: float


def estimate(n_teacher: int, n_student: int, vocab_size: int, course: Course) -> Estimate:
    """Of a student of `n_student` parameters: weights, gradients and two moments in float32, the teacher's
    weights, logits of a few tokens; 6 operations for each parameter and token forward and back, 2 for the
    teacher.
    """
    operations = course.tokens * (6.0 * n_student + 2.0 * n_teacher * course.loss.has_teacher)
    memory = 4 * (4 * n_student + n_teacher * course.loss.has_teacher + 4 * ROWS * vocab_size)
    with processes().device, processes().autocast():
        a = torch.ones(SIZE, SIZE)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            torch.matmul(a, a).sum().item()
            times.append(time.perf_counter() - started)
    return Estimate(memory, operations * min(times) / (2 * SIZE**3), operations)
