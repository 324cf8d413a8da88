"""Does a package compute what its checkpoint computes?

`measure` compares the engine's logits with those of the numpy reference, which reads the checkpoint itself;
the result is the package's quality card. `golden` records what the engine gave, so that `verify` (and every
platform's binding) can repeat it without the checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import convert
from edgekit.converters.reference import Loader, Reference
from edgekit.converters.spec import ModelSpec
from edgekit.engine import Model
from edgekit.errors import UnsupportedModel, VerificationFailed

# Largest RMS of (engine - reference) over RMS of the reference's centred logits, by width. Wrong weights, a
# wrong rotation or a wrong mask give 0.5 to 1.4; quantization alone stays far below its line.
LIMITS = {"f32": 1e-3, "f16": 0.02, "q8": 0.1, "q4": 0.5}
NARROW_LIMIT = 0.8  # fewer than 4 bits

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

    Kullback-Leibler divergences in nats, of the checkpoint's distribution from the package's. `text` is
    "edgekit" for `TEXT`, "random ids" for a model without tokenizer, where perplexity says nothing.
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


@dataclass(frozen=True)
class GoldenResult:
    """The replay of a package's golden vectors: positions compared, and how many gave another first choice.
    """

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
            quality = measure(model, source.spec, source.load)
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


def measure(model: Model, spec: ModelSpec, load: Loader) -> Quality:
    """Runs the engine and the numpy reference over the same text."""
    text, ids = sample_ids(model)
    with model.session(window=len(ids), sinks=0, kv="f32") as session:
        got = session.forward(ids)
    return compare(text, ids, got, Reference(spec, load).logits(ids))


def check(quality: Quality, scheme: str) -> None:
    """Raises VerificationFailed when the difference is larger than `scheme` explains."""
    limit = LIMITS.get(scheme.partition("_")[0], NARROW_LIMIT)
    if not quality.relative_error <= limit:  # also when it is not a number
        raise VerificationFailed(
            f"the package does not compute what the checkpoint computes: relative error of the logits "
            f"{quality.relative_error:.3g}, at most {limit:g} is expected of {scheme}",
            hint="this is a bug in edgekit; please report it with the checkpoint's config.json",
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
