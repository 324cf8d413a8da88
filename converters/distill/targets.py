"""What a student is to learn: its teacher's distribution of the token after each of a text.

`Live` asks the teacher. `Cached` keeps what it said: the most probable tokens, and the mass of all others,
which count as one class. Gradients differ from the live ones by what is not told apart in that class.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edgekit.converters.interpreters.torch import Tensor, TorchDecoder, torch
from edgekit.errors import InvalidFile, UsageError
from edgekit.in_place_of import in_place_of

MANIFEST = "manifest.json"
TOP_K = 64
LEAST = 1e-8  # of a mass whose logarithm is taken


class Target(Protocol):
    """Of one text."""

    def pair(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of teacher and student `[n, classes]` after the tokens `rows`, of which `logits`
        `[n, vocab]` are the student's.
        """

    def distance(self, rows: slice, hidden: Tensor) -> Tensor:
        """`[n]`: the squared distance of `hidden` `[n, d_model]`, what the student's output matrix is applied
        to, from the teacher's, over its squared length.
        """


Targets = Callable[[Sequence[int]], Target]
Logs = Callable[[Tensor], Tensor]  # of logits


class Live:
    """From the teacher. Its ids are those of `kept` when the student has fewer: its probabilities are then
    those among them.
    """

    def __init__(self, teacher: TorchDecoder, logs: Logs, kept: Sequence[int] | None = None) -> None:
        self.teacher, self.logs = teacher, logs
        self.kept = None if kept is None else torch.tensor(list(kept))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def __call__(self, ids: Sequence[int]) -> _LiveTarget:
        theirs = torch.tensor(list(ids))
        theirs = theirs if self.kept is None else self.kept[theirs]
        return _LiveTarget(self, self.teacher.hidden(theirs[None])[0])


@dataclass(frozen=True)
class _LiveTarget:
    live: Live
    hidden: Tensor

    def log_probabilities(self, rows: slice) -> Tensor:
        with torch.no_grad():
            logits = self.live.teacher.head(self.hidden[rows])
            return self.live.logs(logits if self.live.kept is None else logits[..., self.live.kept])

    def pair(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_probabilities(rows), self.live.logs(logits)

    def distance(self, rows: slice, hidden: Tensor) -> Tensor:
        theirs = self.hidden[rows]
        return (hidden - theirs).square().sum(-1) / theirs.square().sum(-1)


class Cached:
    """Targets in a folder, a file for each text, made by `live` where they are not there yet. Several
    processes may write to it: each file appears whole.

    `made_of` says what they depend on besides the text: the teacher's hash and its vocabulary. Raises
    UsageError for a folder that was made of something else.
    """

    def __init__(self, folder: Path, live: Live, made_of: dict[str, Any], top_k: int = TOP_K) -> None:
        self.folder, self.live = folder, live
        self.manifest = made_of | {"top_k": top_k}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / MANIFEST
        if not path.exists():
            with in_place_of(path) as temporary:
                temporary.write_text(json.dumps(self.manifest))
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidFile(f"{path}: cannot read it: {error}") from None
        if found != self.manifest:
            differing = [key for key in self.manifest if found.get(key) != self.manifest[key]]
            raise UsageError(
                f"{folder} holds targets of another teacher: {', '.join(differing)} differ",
                hint="give another folder for the cache",
            )

    def __call__(self, ids: Sequence[int]) -> Target:
        path = self.folder / f"{hashlib.sha256(np.asarray(ids, '<i4').tobytes()).hexdigest()}.safetensors"
        if not path.exists():
            self._write(path, ids)
        try:
            values = load_file(path)
            chosen, logs, tail = values["ids"], values["logs"], values["tail"]
        except (SafetensorError, OSError, KeyError) as error:
            raise InvalidFile(f"{path}: {error}", hint="delete it: it is made again") from None
        n, k = len(ids), self.manifest["top_k"]
        if chosen.shape != (n, k) or logs.shape != (n, k) or tail.shape != (n,) or (
            k and not 0 <= chosen.min() <= chosen.max() < self.manifest["vocab_size"]
        ):  # fmt: skip
            raise InvalidFile(f"{path}: not the targets of {n} tokens", hint="delete it: it is made again")
        return _CachedTarget(
            torch.tensor(chosen.astype(np.int64)),
            torch.cat((_floats(logs), _floats(tail)[:, None]), -1).log_softmax(-1),
            self.live.logs,
        )

    def _write(self, path: Path, ids: Sequence[int]) -> None:
        target = self.live(ids)
        parts = []
        for begin in range(0, len(ids), 64):
            logs = target.log_probabilities(slice(begin, begin + 64))
            top = logs.topk(self.manifest["top_k"], -1)
            tail = (1 - top.values.exp().sum(-1)).clamp(min=LEAST).log()
            parts.append(tuple(x.cpu().numpy() for x in (top.indices.int(), top.values.half(), tail.half())))
        found = dict(zip(("ids", "logs", "tail"), map(np.concatenate, zip(*parts, strict=True)), strict=True))
        with in_place_of(path) as temporary:
            temporary.write_bytes(save(found))  # `save_file` raises no OSError where the disk is full


@dataclass(frozen=True)
class _CachedTarget:
    ids: Tensor
    logs: Tensor  # of ids, and of all others together
    of: Logs

    def pair(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        ours = self.of(logits).gather(-1, self.ids[rows])
        tail = (1 - ours.exp().sum(-1, keepdim=True)).clamp(min=LEAST).log()
        return self.logs[rows], torch.cat((ours, tail), -1)

    def distance(self, rows: slice, hidden: Tensor) -> Tensor:
        raise UsageError("a cache has no hidden states", hint="leave the cache out, or --hidden-weight")


def _floats(values: NDArray[np.float16]) -> Tensor:
    return torch.tensor(values.astype(np.float32))  # float16 has no place in mixed precision on a CPU
