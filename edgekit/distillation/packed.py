"""What a checkpoint is once it is packed: bytes, and tokens a second."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from edgekit.conversion import convert
from edgekit.converters.convert import Progress, silent
from edgekit.model import Model

TOKENS = 32  # decoded at a time
ROUNDS = 5


@dataclass(frozen=True)
class Packed:
    """Bytes of an .edge package, and how many tokens a second it decodes after a few."""

    n_bytes: int
    tokens_per_second: float


def packed(checkpoints: Mapping[str, Path], scheme: str, progress: Progress = silent) -> dict[str, Packed]:
    """Of each checkpoint at `scheme`, nearest codes; timed by turns, so that all see the same machine."""
    with tempfile.TemporaryDirectory() as folder:
        models, sizes = {}, {}
        for number, (name, checkpoint) in enumerate(checkpoints.items()):
            path = Path(folder) / f"{number}.edge"
            convert(checkpoint, path, scheme=scheme, calibrate=None, verify=False, progress=progress)
            models[name], sizes[name] = Model(path), path.stat().st_size
        rates: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            for name, model in models.items():
                rates[name].append(_rate(model))
        for model in models.values():
            model.close()
        return {name: Packed(sizes[name], median(each)) for name, each in rates.items()}


def _rate(model: Model) -> float:
    with model.session() as session:
        session.forward([0], all_logits=False)
        started = time.perf_counter()
        for _ in range(TOKENS):
            session.forward([0], all_logits=False)
        return TOKENS / (time.perf_counter() - started)
