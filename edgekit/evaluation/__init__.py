"""What is left of a model after quantization, on text and on tasks."""

from edgekit.evaluation.bootstrap import Interval
from edgekit.evaluation.divergence import Evaluation, evaluate
from edgekit.evaluation.tasks import Task, TaskResult, read_tasks, solve

__all__ = ["Evaluation", "Interval", "Task", "TaskResult", "evaluate", "read_tasks", "solve"]
