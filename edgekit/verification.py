"""Does a package compute what its checkpoint computes?

Three questions, each with its own answer, so that a bug is never taken for the price of quantization:

    the weights stored   are they the checkpoint's, as nearly as their layout allows?   rows of every tensor
    the engine           does it compute what those weights say?                        numpy on the same
    weights the package          what does it lose against the checkpoint?                      the quality
    card

`golden` records what the engine gave, so that `verify` (and every platform's binding) can repeat it without
the checkpoint.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import convert
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats import edge
from edgekit.converters.reference import Reference
from edgekit.converters.spec import ModelSpec
from edgekit.errors import UnsupportedModel, VerificationFailed
from edgekit.model import Model

# Largest relative error of rows of weights, by layout. Rows in the wrong order give 1.4.
WEIGHT_LIMITS = {"f32": 0.0, "f16": 1e-3, "bf16": 5e-3, "q8": 0.05, "q4": 0.5}
NARROW_WEIGHT_LIMIT = 0.7  # fewer than 4 bits
WEIGHT_ROWS = 16
# Largest relative error of the engine's logits on its own weights: of sums in another order, and where
# weights are quantized also of activations rounded to 8 bits.
ENGINE_LIMITS = {"f32": 1e-3, "f16": 1e-3, "bf16": 1e-3}
ENGINE_LIMIT_QUANTIZED = 0.1
ENGINE_CHECK_PARAMETERS = 500_000_000  # numpy needs too long to unpack larger models a second time
# Whatever the weights, logits this far away are another model's.
GROSS_LIMIT = 1.0

_REPORT = "this is a bug in edgekit; please report it with the checkpoint's config.json"

GOLDEN_PROMPT_TOKENS = 16
GOLDEN_GREEDY_TOKENS = 16
GOLDEN_LOGITS = 16
# Between instruction sets sums are taken in another order, and activations are rounded to 8 bits before some
# products.
GOLDEN_TOLERANCE = 0.03  # of the spread of the logits compared

TEXT = """\
The lighthouse keeper counted the waves each evening before she lit the lamp. Some nights there were nine,
some nights there were ninety, and once, in the winter of the long frost, there were none at all: the sea had
frozen from the rocks to the horizon. "It will come back," she told the boy who carried the oil. "It always
comes back."

def mean(values: list[float]) -> float:
    if not values:
        raise ValueError("mean of nothing")
    return sum(values) / len(values)

Am Morgen lag Nebel über dem Fluss, und die Brücke schien in der Luft zu hängen. Le train de sept heures part
du quai numéro trois. Los niños jugaban en la plaza hasta que cayó la noche. 春天来了，河边的柳树发芽了。
In 1969 two people walked on the Moon; 3 × 7 = 21, and 2^10 = 1024.
"""


@dataclass(frozen=True)
class Quality:
    """The engine against the unquantized checkpoint on `tokens` tokens of a fixed text.

    Kullback-Leibler divergences in nats, of the package's distribution from the checkpoint's.
    `relative_error` is the RMS of the difference of centred logits over that of the checkpoint's;
    `engine_error` the same between the engine and numpy on the package's own weights, None for models too
    large to ask. `text` is "edgekit" for `TEXT`, "random ids" for a model without tokenizer, where perplexity
    says nothing.
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
    engine_error: float | None = None


@dataclass(frozen=True)
class GoldenResult:
    """The replay of a package's golden vectors: positions compared, how many gave another first choice."""

    positions: int
    mismatches: int
    largest_error: float
    greedy_matches: bool


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found. `golden` is None when the package has no vectors, `quality` without a reference.

    `same_source` says whether the reference is the very checkpoint that the package was made from.
    """

    path: str
    scheme: str
    isa: str
    golden: GoldenResult | None
    quality: Quality | None
    same_source: bool | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    package: str | os.PathLike[str],
    reference: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> VerifyReport:
    """Checks a package's hashes, replays its golden vectors and, given the checkpoint, measures it again.

    Raises VerificationFailed, InvalidFile (a hash is wrong), UnsupportedModel (nothing to verify against).
    """
    with Model(package, threads, verify_hashes=True) as model:
        stored = model.metadata.get("golden")
        golden = replay(model, stored) if stored else None
        quality = same = None
        if reference is not None:
            source = convert.read(Path(reference), os.fspath(reference))
            same = source.metadata["source"]["sha256"] == model.metadata.get("source", {}).get("sha256")
            quality = measure(model, source)
        elif golden is None:
            raise UnsupportedModel(
                f"{model.path} holds no golden vectors: it was converted with --no-verify",
                hint="give its checkpoint with --reference",
            )
        report = VerifyReport(model.path, model.scheme, model.isa, golden, quality, same)
    if golden is not None and (golden.mismatches or golden.largest_error > GOLDEN_TOLERANCE):
        raise VerificationFailed(
            f"{report.path} no longer gives its golden vectors on {report.isa}: {golden.mismatches} of "
            f"{golden.positions} first choices differ, largest error {golden.largest_error:.3g}",
            hint="convert it again; if that fails too the engine is at fault: please report it",
        )
    if quality is not None:
        check(quality, report.scheme)
    return report


def measure(model: Model, source: ConvertInput) -> Quality:
    """Answers all three questions. Raises VerificationFailed when the stored weights are not the
    checkpoint's.
    """
    package = edge.Package(Path(model.path))
    check_weights(package, source)
    text, ids = sample_ids(model)
    with model.session(window=len(ids), sinks=0, kv="f32") as session:
        got = session.forward(ids)
    quality = compare(text, ids, got, Reference(source.spec, source.load).logits(ids))
    if model.n_parameters > ENGINE_CHECK_PARAMETERS:
        return quality
    own = Reference(source.spec, lambda name, rows=None: _stored(package, source.spec, name, rows)).logits(
        ids
    )
    return replace(quality, engine_error=compare(text, ids, got, own).relative_error)


def check_weights(package: edge.Package, source: ConvertInput) -> None:
    """Compares the first and the last rows of every tensor. Raises VerificationFailed, naming the tensor."""
    for name in source.tensors:
        shape = source.spec.shape(name)
        layout = package.metadata["matrices"].get(name, {}).get("layout", "f32")
        limit = WEIGHT_LIMITS.get(layout.partition("_")[0], NARROW_WEIGHT_LIMIT)
        ends: list[tuple[int, int] | None] = [None]
        if len(shape) == 2:
            ends = [(0, min(WEIGHT_ROWS, shape[0])), (max(0, shape[0] - WEIGHT_ROWS), shape[0])]
        for rows in ends:
            want, got = source.load(name, rows), _stored(package, source.spec, name, rows)
            if want is None or got is None:
                raise VerificationFailed(f"the package lacks the tensor {name}")
            error = float(np.linalg.norm(got - want))
            if not error <= limit * float(np.linalg.norm(want)):
                raise VerificationFailed(
                    f"the stored {name} is not the checkpoint's: its error is {error:.3g}, its size "
                    f"{np.linalg.norm(want):.3g}, and {layout} explains {limit:g} of that",
                    hint=_REPORT,
                )


def check(quality: Quality, scheme: str) -> None:
    """Raises VerificationFailed when the engine does not compute what the weights say."""
    limit = ENGINE_LIMITS.get(scheme.partition("_")[0], ENGINE_LIMIT_QUANTIZED)
    if quality.engine_error is not None and not quality.engine_error <= limit:
        raise VerificationFailed(
            f"the engine does not compute what the package's weights say: relative error of the logits "
            f"{quality.engine_error:.3g}, at most {limit:g} is expected of {scheme}",
            hint=_REPORT,
        )
    if not quality.relative_error <= GROSS_LIMIT:  # also when it is not a number
        raise VerificationFailed(
            f"the package does not compute what the checkpoint computes: relative error of the logits "
            f"{quality.relative_error:.3g} on {quality.tokens} tokens",
            hint="take a wider scheme (q8) if this one is narrow; else " + _REPORT,
        )


def compare(text: str, ids: Sequence[int], got: NDArray[np.float32], want: NDArray[np.float32]) -> Quality:
    """Quality of logits `got` against `want`, both [len(ids), vocab_size]."""
    error = spread = 0.0
    agreements = 0
    divergences = []
    surprise = np.zeros((2, len(ids) - 1))
    for row in range(len(ids)):
        ours, theirs = got[row].astype(np.float64), want[row].astype(np.float64)
        error += float(np.square((ours - ours.mean()) - (theirs - theirs.mean())).sum())
        spread += float(np.square(theirs - theirs.mean()).sum())
        agreements += int(ours.argmax() == theirs.argmax())
        log_ours, log_theirs = _log_softmax(ours), _log_softmax(theirs)
        divergences.append(float((np.exp(log_theirs) * (log_theirs - log_ours)).sum()))
        if row + 1 < len(ids):
            surprise[:, row] = -log_ours[ids[row + 1]], -log_theirs[ids[row + 1]]
    ppl, ppl_reference = np.exp(surprise.mean(axis=1))
    return Quality(
        text,
        len(ids),
        relative_error=float(np.sqrt(error / spread)) if spread else float(error > 0),
        top1_agreement=agreements / len(ids),
        kl_mean=float(np.mean(divergences)),
        kl_p99=float(np.quantile(divergences, 0.99)),
        ppl=float(ppl),
        ppl_reference=float(ppl_reference),
        ppl_ratio=float(ppl / ppl_reference),
    )


def golden(model: Model) -> dict[str, Any]:
    """What the engine gives for a fixed text, small enough for a package's metadata.

    ids     the text; `top1` the first choice after each, `margin` its lead over the second
    logits  of a few ids after the last token, and `spread`, the range of all of them
    greedy  the tokens (and their text) that follow the first `GOLDEN_PROMPT_TOKENS` of ids at temperature 0
    """
    _, ids = sample_ids(model, 4 * GOLDEN_PROMPT_TOKENS)
    logits, greedy, text = _run(model, ids)
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    last = logits[-1]
    chosen = np.linspace(0, model.vocab_size - 1, GOLDEN_LOGITS).astype(int)
    return {
        "ids": ids,
        "top1": logits.argmax(axis=1).tolist(),
        "margin": [float(f"{value:.4g}") for value in first - second],
        "logits": [[int(id), float(f"{last[id]:.6g}")] for id in chosen],
        "spread": float(f"{last.max() - last.min():.6g}"),
        "greedy": greedy,
        "greedy_text": text,
    }


def replay(model: Model, stored: dict[str, Any]) -> GoldenResult:
    """Computes golden vectors again. A first choice counts only where its margin is beyond rounding."""
    logits, greedy, _ = _run(model, stored["ids"])
    tolerance = GOLDEN_TOLERANCE * max(stored["spread"], 1e-6)
    found = logits.argmax(axis=1)
    different = (found != np.array(stored["top1"])) & (np.array(stored["margin"]) > 2 * tolerance)
    errors = [abs(float(logits[-1, id]) - value) for id, value in stored["logits"]]
    return GoldenResult(
        positions=len(found),
        mismatches=int(different.sum()),
        largest_error=max(errors) / max(stored["spread"], 1e-6),
        greedy_matches=greedy == stored["greedy"],
    )


def sample_ids(model: Model, limit: int | None = None) -> tuple[str, list[int]]:
    """("edgekit", the fixed text's ids), or ("random ids", …) for a model without tokenizer."""
    limit = limit or (64 if model.n_parameters > 2e9 else 128 if model.n_parameters > 2e8 else 256)
    limit = min(limit, model.context or limit)
    if model.has_tokenizer:
        return "edgekit", model.tokenizer.encode(TEXT)[:limit]
    return "random ids", np.random.default_rng(0).integers(0, model.vocab_size, limit).tolist()


def _stored(
    package: edge.Package, spec: ModelSpec, name: str, rows: tuple[int, int] | None
) -> NDArray[np.float32] | None:
    """A tensor of the package, dequantized, without what it is padded with."""
    values = package.load(name, rows)
    if values is None:
        return None
    shape = spec.shape(name)
    if rows is not None:
        shape = (rows[1] - rows[0], *shape[1:])
    return values.reshape(-1)[: math.prod(shape)].reshape(shape)


def _run(model: Model, ids: list[int]) -> tuple[NDArray[np.float32], list[int], str]:
    """(logits of all ids, the greedy continuation of the first few, its text)."""
    with model.session(window=len(ids) + GOLDEN_GREEDY_TOKENS, sinks=0, kv="f32") as session:
        logits = session.forward(ids)
        session.reset()
        events = list(
            session.generate(
                ids[:GOLDEN_PROMPT_TOKENS],
                max_tokens=GOLDEN_GREEDY_TOKENS,
                temperature=0,
                ignore_eos=True,
                speculation=0,
            )
        )
    tokens = [id for event in events if event.kind == "text" for id in event.tokens]
    return logits, tokens, "".join(event.text for event in events)


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.float64)
