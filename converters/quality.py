"""Two sets of logits over the same tokens, side by side: an engine's and the oracle's, or a package's and its
checkpoint's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.spec import ModelSpec

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ROWS = 16  # positions in float64 at once
# Below this share of first choices, or above this divergence, answers are noticeably other ones.
POOR_AGREEMENT, POOR_KL = 0.9, 0.05


@dataclass(frozen=True)
class Quality:
    """A package against its unquantized checkpoint on `tokens` tokens of a text.

    Kullback-Leibler divergences in nats, of the package's distribution from the checkpoint's.
    `relative_error` is that of the logits (see there). `text` is "edgekit" for the text that all packages are
    measured on, "random ids" for a model without tokenizer, where perplexity says nothing.
    """

    text: str
    tokens: int
    relative_error: float
    top1_agreement: float
    kl_mean: float
    kl_p99: float
    ppl: float
    ppl_reference: float
    ppl_ratio: float

    @property
    def is_poor(self) -> bool:
        return not (self.top1_agreement >= POOR_AGREEMENT and self.kl_mean <= POOR_KL)


def tokens_for(spec: ModelSpec) -> int:
    """On how many tokens a model is compared: fewer of larger ones."""
    weights = spec.parameters(spec.matrices())
    most = 64 if weights > 2e9 else 128 if weights > 2e8 else 256
    return min(most, spec.context or most)


def relative_error(got: F32, want: F32) -> float:
    """RMS of the difference of logits `[n, vocab_size]`, each row about its mean, over that of `want`."""
    error = spread = 0.0
    for rows in _slices(len(want)):
        ours, theirs = _centred(got[rows]), _centred(want[rows])
        error += float(np.square(ours - theirs).sum())
        spread += float(np.square(theirs).sum())
    return float(np.sqrt(error / spread)) if spread else float(error > 0)


def compare(text: str, ids: Sequence[int], got: F32, want: F32) -> Quality:
    """Quality of logits `got` against `want`, both `[len(ids), vocab_size]`; `text` names what `ids` are."""
    divergence, same = np.empty(len(ids)), np.empty(len(ids))
    surprise = np.zeros((2, len(ids)))
    for rows in _slices(len(ids)):
        logs = [log_softmax(logits[rows]) for logits in (got, want)]
        divergence[rows] = (np.exp(logs[1]) * (logs[1] - logs[0])).sum(1)
        same[rows] = logs[0].argmax(1) == logs[1].argmax(1)
        following = np.array(ids[rows.start + 1 : rows.stop + 1], np.int64)
        for line, values in zip(surprise, logs, strict=True):
            line[rows.start : rows.start + len(following)] = -values[np.arange(len(following)), following]
    ppl, ppl_reference = np.exp(surprise.sum(1) / max(1, len(ids) - 1))  # of one token: 1
    return Quality(
        text,
        len(ids),
        relative_error=relative_error(got, want),
        top1_agreement=float(same.mean()),
        kl_mean=float(divergence.mean()),
        kl_p99=float(np.quantile(divergence, 0.99)),
        ppl=float(ppl),
        ppl_reference=float(ppl_reference),
        ppl_ratio=float(ppl / ppl_reference),
    )


def _slices(count: int) -> list[slice]:
    return [slice(first, min(first + ROWS, count)) for first in range(0, count, ROWS)]


def _centred(logits: F32) -> F64:
    wide = logits.astype(np.float64)
    return wide - wide.mean(1, keepdims=True)


def log_softmax(logits: F32) -> F64:
    """Over the last axis of `[n, vocab_size]`, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(1, keepdims=True))
    return shifted
