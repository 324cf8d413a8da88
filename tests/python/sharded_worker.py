"""Run by `torchrun`: a training in which each process holds a part of every parameter (FSDP2), stopped once.

    torchrun --nproc-per-node 2 sharded_worker.py FOLDER

Accelerate shards on GPUs alone, so what it does there, `fully_shard`, is put in its place. The parameters
come out in FOLDER/parameters.pt, the losses in FOLDER/losses.json.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import fully_shard

from edgekit.converters import train as trainer
from edgekit.converters.train import Named, Schedule, processes, train, whole


class Line(Named):
    """Its answer to (step, n) pulls its parameters to a point that depends on both."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            {"a": torch.randn(7, 3), "layers.0.b": torch.randn(3, 5), "layers.0.c": torch.ones(3)}
        )

    def forward(self, step: int, n: int) -> Any:
        a, b, c = (self.get_parameter(name) for name in ("a", "layers.0.b", "layers.0.c"))
        return ((a * c @ b).tanh() - step / (n + 3)).square().sum()


def shares(step: int) -> list[tuple[int, int]]:
    """Of four texts, this process's."""
    team = processes()
    return [(step, n) for n in range(4)][team.process_index :: team.num_processes]


class Stopped(Exception):
    pass


def main(folder: Path) -> None:
    team, schedule, state = processes(), Schedule(steps=12, learning_rate=0.1), folder / "state"

    def prepare(model: Any, optimizer: Any) -> Any:
        fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (team.num_processes,)))
        optimizer.param_groups[0]["params"] = list(model.parameters())
        return model, optimizer

    if team.num_processes > 1:
        team.prepare = prepare
        team.no_sync = lambda model: contextlib.nullcontext()
    losses = []

    def told(step: int, values: dict[str, float]) -> None:
        losses.append(values["loss"])
        if step == 7 and len(losses) == 8:
            raise Stopped

    trainer.SAVED_EVERY_S = 0
    model = Line()
    with contextlib.suppress(Stopped):
        train(model, shares, schedule, state, told=told)
    model = Line()
    train(model, shares, schedule, state, told=told)
    values = {name: whole(values) for name, values in model.named_parameters()}
    if team.is_main_process:
        torch.save(values, folder / "parameters.pt")
        (folder / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
