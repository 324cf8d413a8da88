"""What training will take, before it begins."""

from __future__ import annotations

import time

from edgekit.converters.distill.healing import Course
from edgekit.converters.distill.objective import ROWS
from edgekit.converters.interpreters.torch import torch

SIZE = 1024  # of the product that is timed


def estimate(n_teacher: int, n_student: int, vocab_size: int, course: Course) -> tuple[int, float]:
    """(bytes, seconds) of training a student of `n_student` parameters on this machine: weights, gradients
    and two moments in float32, the teacher's weights, logits of a few tokens; 6 operations for each parameter
    and token forward and back, 2 for the teacher.
    """
    a = torch.ones(SIZE, SIZE)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        torch.matmul(a, a)
        times.append(time.perf_counter() - started)
    per_second = 2 * SIZE**3 / min(times)
    operations = course.tokens * (6 * n_student + 2 * n_teacher * course.loss.has_teacher)
    memory = 4 * (4 * n_student + n_teacher * course.loss.has_teacher + 4 * ROWS * vocab_size)
    return memory, operations / per_second
