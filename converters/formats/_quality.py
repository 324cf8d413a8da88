"""The quality card of an output that another engine runs: its logits beside those of the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.convert import ConvertInput
from edgekit.converters.reference import Reference
from edgekit.converters.spec import ModelSpec
from edgekit.errors import VerificationFailed

F32 = NDArray[np.float32]
TOKENS = 32
# Largest RMS of the difference of the logits, of what they spread. Wrong weights or a wrong mask give 0.5 to
# 1.4.
LIMITS = {"f32": 2e-3, "f16": 0.05, "bf16": 0.1, "q8": 0.3}
NARROW_LIMIT = 1.0


def card(
    model: ConvertInput, engine: Callable[[list[int]], F32], scheme: str, spec: ModelSpec | None = None
) -> dict[str, Any]:
    """Runs `engine` (token ids -> logits `[n, vocab_size]`) and the numpy reference over the same random ids.

    `spec` is what the engine computes, where that differs from the checkpoint's. Raises VerificationFailed
    when the difference is larger than `scheme` explains.
    """
    spec = spec or model.spec
    count = min([TOKENS, *(r.original_context for r in spec.ropes if r.long_inv_freq and r.original_context)])
    ids = random_ids(spec.vocab_size, count)
    return compare(engine(ids), Reference(spec, model.load).logits(ids), ids, scheme)


def random_ids(vocab_size: int, count: int) -> list[int]:
    return [int(id) for id in np.random.default_rng(0).integers(0, vocab_size, count)]


def compare(ours: F32, theirs: F32, ids: list[int], scheme: str) -> dict[str, Any]:
    """The card of an output's logits `[len(ids), vocab_size]` beside the checkpoint's. Raises
    VerificationFailed.
    """
    got, want = ours.astype(np.float64), theirs.astype(np.float64)
    centred = [logits - logits.mean(1, keepdims=True) for logits in (got, want)]
    error = float(np.linalg.norm(centred[0] - centred[1]) / max(np.linalg.norm(centred[1]), 1e-30))
    kind = scheme.partition("_")[0]
    limit = LIMITS.get(kind, NARROW_LIMIT)
    if not error <= limit:  # also when it is not a number
        raise VerificationFailed(
            f"the output does not compute what the checkpoint computes: the logits differ by {error:.3g} of "
            f"their spread, at most {limit:g} is expected of {scheme}",
            hint="this is a bug in edgekit; please report it with the checkpoint's config.json",
        )
    logs = [_log_softmax(logits) for logits in (got, want)]
    divergence = (np.exp(logs[1]) * (logs[1] - logs[0])).sum(1)
    following = np.arange(len(ids) - 1), ids[1:]
    surprise = [float(np.exp(-values[following].mean())) for values in logs]
    return {
        "text": "random ids",
        "tokens": len(ids),
        "relative_error": error,
        "top1_agreement": float((got.argmax(1) == want.argmax(1)).mean()),
        "kl_mean": float(divergence.mean()),
        "kl_p99": float(np.quantile(divergence, 0.99)),
        "ppl": surprise[0],
        "ppl_reference": surprise[1],
        "ppl_ratio": surprise[0] / surprise[1],
    }


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
