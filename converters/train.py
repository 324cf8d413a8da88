"""The one trainer: Adam over a module's parameters, with warm-up and a cosine, that goes on after a kill as
if there had been none. What is learned, and from what, its caller says.

It trains alone, or together with the processes that `accelerate launch` started: each with its share of every
step, and a copy of the model (DDP) or a part of it (FSDP2).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor, distribute_tensor

from edgekit.converters.convert import Progress, silent
from edgekit.converters.interpreters.torch import Tensor, torch  # says it when there is no torch
from edgekit.errors import UnsupportedModel, UsageError
from edgekit.in_place_of import in_place_of

SAVED_EVERY_S = 40.0
PATIENT = timedelta(days=1)  # a process waits for the others while one of them searches for layers to drop
Module = Any  # torch.nn.Module


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


@dataclass(frozen=True)
class Judge:
    """`loss()` of the model as it is, on what it does not learn from, after every `every` steps. The best
    parameters are those that stay, and training ends when `patience` judgements in a row were no better.
    """

    loss: Callable[[], float]
    every: int
    patience: int


class Named(torch.nn.Module):  # type: ignore[misc]
    """Parameters by a spec's names ("layers.0.q"), which `get_parameter` gives; tensors become some."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            *path, last = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, torch.nn.Module())
                module = module.get_submodule(part)
            given = isinstance(value, torch.nn.Parameter)
            module.register_parameter(last, value if given else torch.nn.Parameter(value))


@functools.cache
def processes() -> Any:
    """Accelerate's view of the processes that train together: this one alone unless they were launched.
    Raises UnsupportedModel without it, UsageError for a way to train that it has and this trainer has not.
    """
    try:
        from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs
    except ImportError:
        raise UnsupportedModel(
            "training needs accelerate, which is not installed", hint="pip install 'edgekit[train]'"
        ) from None
    found = Accelerator(
        cpu=not torch.cuda.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENT)]
    )
    known = (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
        DistributedType.FSDP,
    )
    if found.distributed_type not in known:
        raise UsageError(
            f"edgekit does not train under {found.distributed_type.value}", hint="use DDP or FSDP2"
        )
    if found.distributed_type == DistributedType.FSDP and not found.is_fsdp2:
        raise UsageError("edgekit does not train under FSDP 1", hint="set fsdp_version: 2")
    if found.mixed_precision not in ("no", "bf16"):
        raise UsageError(
            f"edgekit does not train in {found.mixed_precision}", hint="use --mixed_precision bf16, or no"
        )
    if found.num_processes > 1:
        atexit.register(torch.distributed.destroy_process_group)  # its threads do not outlive an interpreter
    return found


def train(
    model: Module,
    shares: Callable[[int], Sequence[tuple[Any, ...]]],
    schedule: Schedule,
    state: Path | None = None,
    *,
    judge: Judge | None = None,
    told: Callable[[int, dict[str, float]], None] = lambda step, values: None,
    task: str = "training",
    progress: Progress = silent,
) -> None:
    """Changes the parameters of `model` in place.

    `shares(step)` is what this process has to do of a step: for each of them `model(*share)`, a scalar, is
    added to the loss, one after another. What all processes add together is the loss. It depends on nothing
    but the parameters and the number of the step, so the same call gives the same ones.

    `state` is a file: written every 40 seconds, and when one process alone is interrupted; read at the start,
    left at the end. A state of another schedule or of other parameters is not read. `told(step, values)`
    hears of every step's "loss", and of "validation" where there was a judgement.
    """
    run = _Run(model, schedule, state, judge)
    saved, stands = time.monotonic(), ""
    try:
        while run.done < schedule.steps and not run.idle:
            progress(task + stands, run.done, schedule.steps)
            value, due = run.learned(shares(run.done), time.monotonic() - saved > SAVED_EVERY_S)
            if not math.isfinite(value):
                raise UsageError(
                    f"{task}: the loss of step {run.done + 1} is {value}", hint="try a lower learning rate"
                )
            step = run.done
            told(step, {"loss": value} | run.step())
            stands = f": loss {value:.4f}"
            if due:
                run.save()
                saved = time.monotonic()
    except KeyboardInterrupt:
        if run.team.num_processes == 1 and run.whole:
            run.save()
        raise
    progress(task + stands, schedule.steps, schedule.steps)
    run.save()
    run.take_best()


class _Run:
    """A model in training: its optimizer, how many steps are done, and the best parameters so far."""

    def __init__(self, model: Module, schedule: Schedule, state: Path | None, judge: Judge | None) -> None:
        self.team, self.schedule, self.state, self.judge = processes(), schedule, state, judge
        shapes = {name: list(values.shape) for name, values in model.named_parameters()}
        self.made_of = {"schedule": asdict(schedule), "shapes": shapes, "judged": judge is not None}
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=0.0, betas=schedule.betas, weight_decay=schedule.weight_decay
        )
        self.model, self.optimizer = self.team.prepare(model, optimizer)
        self.done, self.whole = 0, True
        self.least, self.since = math.inf, 0
        self.best: list[Tensor] | None = None
        self.resume()

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.model.parameters())

    @property
    def idle(self) -> bool:
        """Whether the last steps were of no use."""
        return self.judge is not None and self.since >= self.judge.patience

    def learned(self, shares: Sequence[tuple[Any, ...]], due: bool) -> tuple[float, bool]:
        """The loss of a step, whose gradients are there now, and whether the first process is `due`."""
        loss = 0.0
        for number, share in enumerate(shares):
            last = number + 1 == len(shares)
            with contextlib.nullcontext() if last else self.team.no_sync(self.model):
                part = self.model(*share)
                loss += part.item()
                self.team.backward(part * self.team.num_processes)  # gradients are averaged
        told = torch.tensor([loss, due and self.team.is_main_process], device=self.team.device)
        value, due = self.team.reduce(told, "sum").tolist()
        return value, bool(due)

    def step(self) -> dict[str, float]:
        """What is to be told of it."""
        if self.schedule.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.schedule.clip)
        self.optimizer.param_groups[0]["lr"] = self.schedule.rate(self.done)
        self.whole = False
        self.optimizer.step()
        self.done += 1
        self.optimizer.zero_grad()
        found = self._judged()
        self.whole = True
        return found

    def _judged(self) -> dict[str, float]:
        judge = self.judge
        if judge is None or (self.done % judge.every and self.done < self.schedule.steps):
            return {}
        loss = judge.loss()
        better = loss < self.least
        self.since = 0 if better else self.since + 1
        if better:
            self.least, self.best = loss, [whole(each) for each in self.parameters]
        return {"validation": loss}

    def take_best(self) -> None:
        if self.best is not None:
            self._put(self.best)

    def save(self) -> None:
        if self.state is None:
            return
        state = {
            "made_of": self.made_of,
            "done": self.done,
            "judged": {"least": self.least, "since": self.since, "best": self.best},
            "values": [whole(each) for each in self.parameters],
            "moments": [
                {name: whole(value) for name, value in self.optimizer.state[each].items()}
                for each in self.optimizer.param_groups[0]["params"]
            ],
        }
        if self.team.is_main_process:
            with in_place_of(self.state) as temporary:
                _save(state, temporary)

    def resume(self) -> None:
        """Nothing happens without a file, with a damaged one, and with that of another run."""
        if self.state is None:
            return
        try:
            found = torch.load(self.state, weights_only=True, map_location="cpu")
            if found["made_of"] != self.made_of:
                return
        except (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError):
            return
        self._put(found["values"])
        moments = {
            number: {name: _as(value, each) for name, value in values.items()}
            for number, (each, values) in enumerate(zip(self.parameters, found["moments"], strict=True))
            if values
        }
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.done = found["done"]
        self.least, self.since, self.best = (found["judged"][name] for name in ("least", "since", "best"))

    def _put(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(_as(value, parameter))


def _save(state: dict[str, Any], path: Path) -> None:
    """Raises OSError, which torch covers with an error of its own about the end of the file."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def whole(tensor: Tensor) -> Tensor:
    """A copy on the CPU, put together from the parts that processes have: all of them ask at once."""
    tensor = tensor.detach()
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.to("cpu", copy=True)


def _as(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor of a parameter's shape as the parameter lies over processes; others as they are."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
