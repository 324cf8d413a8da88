"""What quantization cost: what packages expect next beside what their reference expects, over a text.

The text is cut into pieces of at most `PIECE` tokens, each read from an empty cache. The second half of each
is scored, as llama.cpp's own tool does it, so that every scored token has some text before it. The pieces are
also the blocks of the bootstrap that gives the intervals; every package meets the same draws, so that figures
may be compared pair by pair.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.convert import Progress, silent
from edgekit.errors import UnsupportedModel, UsageError
from edgekit.evaluation.bootstrap import F64, Interval, interval
from edgekit.evaluation.scorers import Scorer, opened, vocabulary
from edgekit.evaluation.targets import F16, F32, targets
from edgekit.text import Tokenizer

PIECE = 512
ROWS = 32  # positions worked on at a time


@dataclass(frozen=True)
class Evaluation:
    """One package against the reference, over `tokens` scored positions.

    Divergences `kl_*` in nats, of the package's distribution from the reference's. `same_first` is the share
    of positions where both hold the same token for the likeliest; `flips` the share where one of them, and
    not the other, has the text's own next token for it. `dp_*` is the change of that token's probability.
    Each `…_interval` holds 95% of the bootstrap's values over the text's pieces; `kl_of_pieces` are the means
    of the pieces, in the order of the text, to compare two packages pair by pair.
    """

    model: str
    engine: str
    size_bytes: int
    bits_per_weight: float
    tokens: int
    ppl: float
    ppl_interval: Interval
    ppl_reference: float
    ppl_ratio: float
    ppl_ratio_interval: Interval
    kl_mean: float
    kl_mean_interval: Interval
    kl_median: float
    kl_p99: float
    kl_p99_interval: Interval
    kl_p999: float
    kl_max: float
    same_first: float
    same_first_interval: Interval
    flips: float
    dp_mean: float
    dp_mean_interval: Interval
    dp_rms: float
    dp_rms_interval: Interval
    kl_of_pieces: list[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    models: Sequence[str | os.PathLike[str]],
    reference: str | os.PathLike[str],
    text: str,
    *,
    tokens: int = 8192,
    threads: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> list[Evaluation]:
    """Scores each of `models` against `reference` on about `tokens` tokens, in pieces spread over `text`.

    `reference` is a checkpoint (computed in numpy: slow for large ones), or a package of floats. Its logits,
    2 bytes for each position and token id, are kept in the folder `cache` for the next time, or for this time
    only.

    Raises UsageError when the text is too short or nothing given has a tokenizer, UnsupportedModel for a
    model of no known kind or one of another vocabulary, IoFailure when the disk is full.
    """
    truth = Path(reference)
    progress("opening the models", 0, 0)
    tokenizer, _ = vocabulary([truth, *map(Path, models)], threads)
    with ExitStack() as stack:
        folder = Path(cache) if cache else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scorer = opened(truth, PIECE, threads)
        pieces = _pieces(tokenizer, text, min(PIECE, scorer.context or PIECE), tokens)
        last, parameters = len(pieces[0]) // 2, scorer.parameters
        want = targets(scorer, truth, pieces, last, folder, progress)
        del scorer  # and its memory
        return [_evaluation(Path(model), pieces, want, parameters, threads, progress) for model in models]


def _pieces(tokenizer: Tokenizer, text: str, length: int, limit: int) -> list[list[int]]:
    """Pieces of `length` ids spread evenly over the text, each beginning as the tokenizer begins a text."""
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = tokenizer.encode(text, add_special_tokens=False)
    step = length - len(start)
    count = min(len(ids), limit) // step
    if not count:
        raise UsageError(
            f"the text has {len(ids)} tokens, --tokens takes {limit}, and one piece has {step}",
            hint="give a longer text, or a larger --tokens",
        )
    apart = len(ids) // count
    return [start + ids[at : at + step] for at in range(0, count * apart, apart)]


def _evaluation(
    path: Path,
    pieces: Sequence[Sequence[int]],
    want: F16,
    parameters: int,
    threads: int | None,
    progress: Progress,
) -> Evaluation:
    last = len(want) // len(pieces)
    rows = []
    scorer = opened(path, len(pieces[0]), threads)
    if 0 < scorer.context < len(pieces[0]):
        raise UsageError(f"{path} reads {scorer.context} tokens, and a piece has {len(pieces[0])}")
    for done, ids in enumerate(pieces):
        progress(f"scoring {path.name}", done, len(pieces))
        scorer.reset()
        got = scorer.feed(ids, last)
        if got.shape[1] != want.shape[1]:
            raise UnsupportedModel(
                f"{path} has {got.shape[1]} token ids, the reference {want.shape[1]}: "
                "they are not the same model"
            )
        rows.append(_compared(ids[-last:], got, want[done * last : (done + 1) * last]))
    progress(f"scoring {path.name}", len(pieces), len(pieces))
    return _figures(path, scorer, np.stack(rows, 1), scorer.parameters or parameters)


def _compared(ids: Sequence[int], got: F32, want: F16) -> F64:
    """Of each position but the last: divergence, whether the first choices are the same, whether each is the
    text's next token (ours, the reference's), and the surprise at that (ours, the reference's), `[6,
    len(ids) - 1]`.
    """
    found = np.empty((6, len(ids) - 1))
    for first in range(0, found.shape[1], ROWS):
        span = slice(first, min(first + ROWS, found.shape[1]))
        following = np.array(ids[span.start + 1 : span.stop + 1])
        theirs, ours = want[span].astype(np.float32), got[span] - got[span].max(1, keepdims=True)
        share = np.exp(theirs)
        total = share.sum(1, dtype=np.float64)
        spread = np.log(total) - np.log(np.exp(ours).sum(1, dtype=np.float64))
        choices = ours.argmax(1), theirs.argmax(1)
        at = np.arange(len(following)), following
        found[0, span] = np.einsum("ij,ij->i", share, theirs - ours) / total - spread
        found[1, span] = choices[0] == choices[1]
        found[2:4, span] = [choice == following for choice in choices]
        found[4, span] = np.log(total) - spread - ours[at]
        found[5, span] = np.log(total) - theirs[at]
    return found


def _figures(path: Path, scorer: Scorer, found: F64, parameters: int) -> Evaluation:
    """`found` `[6, pieces, positions]`."""
    kl, same, ours_right, theirs_right, surprise, surprise_reference = found
    change = np.exp(-surprise) - np.exp(-surprise_reference)
    size = scorer.size_bytes
    return Evaluation(
        os.fspath(path),
        scorer.engine,
        size,
        8 * size / parameters if parameters else math.nan,
        tokens=kl.size,
        ppl=_ppl(surprise),
        ppl_interval=interval(_ppl, surprise),
        ppl_reference=_ppl(surprise_reference),
        ppl_ratio=_ppl(surprise - surprise_reference),
        ppl_ratio_interval=interval(_ppl, surprise - surprise_reference),
        kl_mean=float(kl.mean()),
        kl_mean_interval=interval(np.mean, kl),
        kl_median=float(np.median(kl)),
        kl_p99=_p99(kl),
        kl_p99_interval=interval(_p99, kl),
        kl_p999=float(np.quantile(kl, 0.999)),
        kl_max=float(kl.max()),
        same_first=float(same.mean()),
        same_first_interval=interval(np.mean, same),
        flips=float((ours_right != theirs_right).mean()),
        dp_mean=float(change.mean()),
        dp_mean_interval=interval(np.mean, change),
        dp_rms=_rms(change),
        dp_rms_interval=interval(_rms, change),
        kl_of_pieces=kl.mean(1).tolist(),
    )


def _ppl(surprise: F64) -> float:
    return float(np.exp(surprise.mean()))


def _p99(values: F64) -> float:
    return float(np.quantile(values, 0.99))


def _rms(values: F64) -> float:
    return float(np.sqrt(np.square(values).mean()))
