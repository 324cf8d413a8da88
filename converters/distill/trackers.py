"""Programs that draw a training while it runs, told of every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import UnsupportedModel

if TYPE_CHECKING:
    from edgekit.converters.distill.recipe import Recipe

Track = Callable[[int, dict[str, float]], None]


def opened(name: str | None, out: Path, recipe: Recipe) -> Track | None:
    """What is told the number of a step and its values; None without a name. TensorBoard's files lie beside
    `out`. Raises UnsupportedModel where the tracker is not installed.
    """
    if name is None:
        return None
    try:
        return TRACKERS[name](out, recipe)
    except ImportError:
        raise UnsupportedModel(f"{name} is not installed", hint=f"pip install {name}") from None


def _tensorboard(out: Path, recipe: Recipe) -> Track:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(out.with_name(f"{out.name}.tensorboard")))

    def track(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return track


def _wandb(out: Path, recipe: Recipe) -> Track:
    import wandb

    run = wandb.init(project="edgekit", name=out.name, config=asdict(recipe))
    return lambda step, values: run.log(values, step=step)


TRACKERS: dict[str, Callable[[Path, Recipe], Track]] = {"tensorboard": _tensorboard, "wandb": _wandb}
