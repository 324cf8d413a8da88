"""What quantization cost: the logits of packages beside those of their checkpoint, over a text.

Every package is scored in the engine that runs it: `.edge` files in ours, ONNX directories in ONNX Runtime,
GGUF files in llama.cpp. The text is cut into pieces of at most `PIECE` tokens, each read from an empty cache;
the pieces are also the blocks of the bootstrap that gives the intervals.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import engines
from edgekit.converters import convert
from edgekit.converters.convert import Progress, silent
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.quality import log_softmax
from edgekit.errors import UnsupportedModel, UsageError
from edgekit.model import Model
from edgekit.text import Tokenizer

PIECE = 512
RESAMPLES = 2000
ROWS = 64  # positions worked on at a time in float64

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """One package against the reference.

    Divergences `kl_*` in nats, of the package's distribution from the reference's; `dp_*` the change of the
    probability of the text's own next token; `top1_agreement` the share of positions with the same first
    choice. Intervals hold 95% of `RESAMPLES` bootstrap means over the text's pieces, paired.
    """

    model: str
    size_bytes: int
    bits_per_weight: float
    tokens: int
    ppl: float
    ppl_reference: float
    ppl_ratio: float
    ppl_ratio_interval: Interval
    kl_mean: float
    kl_mean_interval: Interval
    kl_median: float
    kl_p99: float
    kl_p999: float
    kl_max: float
    dp_mean: float
    dp_rms: float
    top1_agreement: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Scorer:
    """A model to be asked: token ids -> logits float32 `[len(ids), vocab_size]`, from an empty cache."""

    logits: Callable[[list[int]], F32]
    size_bytes: int
    tokenizer: Tokenizer | None = None
    context: int = 0
    parameters: int = 0


def evaluate(
    models: Sequence[str | os.PathLike[str]],
    reference: str | os.PathLike[str],
    text: str,
    *,
    tokens: int = 8192,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[Evaluation]:
    """Scores each of `models` against `reference`, a checkpoint (computed in numpy: slow for large ones) or
    an `.edge` package, on the first `tokens` tokens of `text`.

    Raises UsageError when the text is too short or nothing given has a tokenizer, UnsupportedModel for a
    model of no known kind or one of another vocabulary.
    """
    progress("opening the models", 0, 0)
    with ExitStack() as stack:
        wanted = _open(Path(reference), threads, stack)
        opened = [_open(Path(model), threads, stack) for model in models]
        every = [wanted, *opened]
        tokenizer = next((scorer.tokenizer for scorer in every if scorer.tokenizer), None)
        if tokenizer is None:
            raise UsageError("neither the reference nor a model has a tokenizer to read the text with")
        length = min([PIECE, *(scorer.context for scorer in every if scorer.context)])
        pieces = _pieces(tokenizer, text, length, tokens)
        parameters = max(scorer.parameters for scorer in every)
        tallies = [_Tally() for _ in opened]
        for done, ids in enumerate(pieces):
            progress("scoring", done, len(pieces))
            want = wanted.logits(ids)
            for path, scorer, tally in zip(models, opened, tallies, strict=True):
                got = scorer.logits(ids)
                if got.shape != want.shape:
                    raise UnsupportedModel(
                        f"{path} has {got.shape[1]} token ids, the reference {want.shape[1]}: "
                        "they are not the same model"
                    )
                tally.add(ids, got, want)
    return [
        tally.evaluation(os.fspath(path), scorer.size_bytes, parameters)
        for path, scorer, tally in zip(models, opened, tallies, strict=True)
    ]


def _pieces(tokenizer: Tokenizer, text: str, length: int, limit: int) -> list[list[int]]:
    """The text's ids in pieces of `length`, each beginning as the tokenizer begins a text."""
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = tokenizer.encode(text, add_special_tokens=False)[:limit]
    step = length - len(start)
    pieces = [start + ids[at : at + step] for at in range(0, len(ids) - step + 1, step)]
    if not pieces:
        raise UsageError(
            f"the text has {len(ids)} tokens, and one piece has {step}",
            hint="give a longer text, or a larger --tokens",
        )
    return pieces


class _Tally:
    """What was seen at every position of every piece."""

    def __init__(self) -> None:
        self._kl: list[F64] = []
        self._same: list[NDArray[np.bool_]] = []
        self._surprise: list[F64] = []  # [2, positions]: of the model and the reference, in nats

    def add(self, ids: list[int], got: F32, want: F32) -> None:
        divergence, same, surprise = [], [], []
        for first in range(0, len(ids) - 1, ROWS):
            rows = slice(first, min(first + ROWS, len(ids) - 1))
            ours, theirs = (log_softmax(logits[rows]) for logits in (got, want))
            divergence.append((np.exp(theirs) * (theirs - ours)).sum(1))
            same.append(ours.argmax(1) == theirs.argmax(1))
            following = np.arange(len(ours)), ids[rows.start + 1 : rows.stop + 1]
            surprise.append(np.stack([-ours[following], -theirs[following]]))
        self._kl.append(np.concatenate(divergence))
        self._same.append(np.concatenate(same))
        self._surprise.append(np.concatenate(surprise, 1))

    def evaluation(self, model: str, size_bytes: int, parameters: int) -> Evaluation:
        kl, surprise = np.concatenate(self._kl), np.concatenate(self._surprise, 1)
        change = np.exp(-surprise[0]) - np.exp(-surprise[1])
        ppl, ppl_reference = np.exp(surprise.mean(1))
        gaps = np.array([piece[0].mean() - piece[1].mean() for piece in self._surprise])
        ratio = _interval(gaps)
        return Evaluation(
            model,
            size_bytes,
            8 * size_bytes / parameters if parameters else math.nan,
            tokens=kl.size,
            ppl=float(ppl),
            ppl_reference=float(ppl_reference),
            ppl_ratio=float(ppl / ppl_reference),
            ppl_ratio_interval=(math.exp(ratio[0]), math.exp(ratio[1])),
            kl_mean=float(kl.mean()),
            kl_mean_interval=_interval(np.array([piece.mean() for piece in self._kl])),
            kl_median=float(np.median(kl)),
            kl_p99=float(np.quantile(kl, 0.99)),
            kl_p999=float(np.quantile(kl, 0.999)),
            kl_max=float(kl.max()),
            dp_mean=float(change.mean()),
            dp_rms=float(np.sqrt(np.square(change).mean())),
            top1_agreement=float(np.concatenate(self._same).mean()),
        )


def _interval(of_pieces: F64) -> Interval:
    """95% of the bootstrap means of values of equally long pieces."""
    drawn = np.random.default_rng(0).integers(0, of_pieces.size, (RESAMPLES, of_pieces.size))
    low, high = np.quantile(of_pieces[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


# ---- kinds of models ---------------------------------------------------------------------------------------


def _open(path: Path, threads: int | None, stack: ExitStack) -> Scorer:
    if engine := engines.of(path):
        return _package(path, threads, stack, engine)
    return _checkpoint(path)


def _package(path: Path, threads: int | None, stack: ExitStack, engine: ModuleType) -> Scorer:
    model = stack.enter_context(Model(path, threads, backend=engine.BACKENDS[0]))
    session = stack.enter_context(model.session(min(PIECE, model.context or PIECE), **engine.EXACT))

    def logits(ids: list[int]) -> F32:
        session.reset()
        return session.forward(ids)

    tokenizer = model.tokenizer if model.has_tokenizer else None
    return Scorer(logits, model.file_bytes, tokenizer, model.context, model.n_parameters)


def _checkpoint(path: Path) -> Scorer:
    source = convert.read(path, str(path))
    size = sum(file.stat().st_size for file in path.rglob("*.safetensors"))
    return Scorer(
        Reference(source.spec, source.load).logits,
        size,
        None if source.tokenizer is None else Tokenizer.from_bytes(source.tokenizer),
        source.spec.context,
        sum(math.prod(source.spec.shape(name)) for name in source.tensors),
    )
