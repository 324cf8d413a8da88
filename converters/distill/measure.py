"""What a student lost, on a text that it was not made with: bits per byte, KL, first choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.converters.convert import Progress, silent
from edgekit.converters.distill.texts import Encode, pieces
from edgekit.converters.interpreters.torch import TorchDecoder, torch

ROWS = 64  # whose logits are in memory at once
Tensor = Any
Numbers = Callable[[Sequence[int]], "list[int] | None"]


@dataclass(frozen=True)
class Scores:
    """Of the teacher and of the student on `n_bytes` of text.

    `kl_mean` nats a token, of the teacher from the student, over `n_compared` tokens that both spell alike.
    With fewer tokens in the student's vocabulary it is that from the teacher's probabilities of the kept
    tokens, and what these are together adds -log of it. `top1_agreement`: how often the first choices are
    the same.
    """

    n_bytes: int
    n_compared: int
    bits_per_byte_teacher: float
    bits_per_byte: float
    kl_mean: float
    top1_agreement: float


@dataclass(frozen=True)
class Side:
    """A model that is compared, and its tokenizer."""

    decoder: TorchDecoder
    encode: Encode


@torch.no_grad()  # type: ignore[untyped-decorator]
def compare(
    teacher: Side, student: Side, text: str, kept: Sequence[int] | None, progress: Progress = silent
) -> Scores:
    """`kept`: which of the teacher's tokens the student has, in order; None: all."""
    index = None if kept is None else torch.tensor(list(kept))
    number = None if kept is None else {old: new for new, old in enumerate(kept)}
    nats = [0.0, 0.0]
    kl = same = 0.0
    n = n_bytes = 0
    parts = pieces(text)
    for done, part in enumerate(parts):
        progress("measuring", done, len(parts))
        ids = [torch.tensor(side.encode(part)) for side in (teacher, student)]
        hidden = [
            side.decoder.hidden(own[None])[0, :-1] for side, own in zip((teacher, student), ids, strict=True)
        ]
        theirs = ids[0].tolist() if number is None else [number.get(id) for id in ids[0].tolist()]
        alike = _common(theirs, ids[1].tolist()) - 1
        for begin in range(0, max(len(own) - 1 for own in ids), ROWS):
            rows = slice(begin, begin + ROWS)
            logs = [
                side.decoder.head(own[rows]).float().log_softmax(-1)
                for side, own in zip((teacher, student), hidden, strict=True)
            ]
            for i, (log, own) in enumerate(zip(logs, ids, strict=True)):
                nats[i] -= float(log.gather(-1, own[1:][rows, None]).double().sum())
            both = max(0, min(len(logs[0]), alike - begin))
            if both:
                p, q = logs[0][:both], logs[1][:both]
                same += float(
                    (p.argmax(-1) == (q.argmax(-1) if index is None else index[q.argmax(-1)])).sum()
                )
                if index is not None:
                    p = p[:, index]
                mass = p.exp().sum(-1).double().log()
                kl += float((p.exp() * (p - q)).sum(-1).double().div(mass.exp()).sum() - 2 * mass.sum())
                n += both
        n_bytes += len(part.encode())
    bits = [value / math.log(2) / n_bytes for value in nats]
    return Scores(n_bytes, n, bits[0], bits[1], kl / max(n, 1), same / max(n, 1))


def _common(a: Sequence[int | None], b: Sequence[int]) -> int:
    """How many members are alike from the beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
