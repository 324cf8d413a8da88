"""Does an output compute what its checkpoint computes?

Three questions, each with its own answer, so that a bug is never taken for the price of quantization. They
are the same for every format:

    the weights   are those stored the checkpoint's, as nearly as their layout allows?
    the engine    does it compute what those weights say? numpy on the same weights tells
    the quality   what is lost against the checkpoint? measured, and no reason to refuse

`golden` records what edgekit's own engine gave, so that `verify` (and every platform's binding) can repeat it
without the checkpoint.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgekit import engines, hub, preflight
from edgekit.converters import convert, formats
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.quality import Quality, compare, relative_error, tokens_for
from edgekit.converters.spec import ModelSpec
from edgekit.errors import UnsupportedModel, UsageError, VerificationFailed
from edgekit.model import Model
from edgekit.text import Tokenizer

# Largest relative error of rows of weights, by layout. Rows in the wrong order give 1.4.
WEIGHT_LIMITS = {
    "f32": 1e-6,  # a factor may have been folded in and taken out again
    "f16": 1e-3,
    "bf16": 5e-3,
    "q8": 0.05,
    "q6": 0.1,
    "q5": 0.2,
    "q4": 0.35,
    "q3": 0.5,
    "q2": 0.7,
}
WEIGHT_ROWS = 16  # at the beginning, in the middle and at the end of each matrix
# Largest relative error of an engine's logits beside numpy's on the same weights: of sums in another order;
# or also of activations that it rounds (to 8 bits, or to 16).
EXACT_LIMIT = 1e-3
ROUNDED_LIMIT = 5e-2  # or so many times what rounding does to numpy's own logits, where that is more
ROUNDED_SHARE = 2.5
ROUNDED_GROUP = 32
TOLD_TOLERANCE = 1e-4  # of numbers that an output says of itself; some formats have float32 for them

PIECE = 32  # tokens that an engine takes at once
SINGLE_TOKENS = 8  # and how many of the last it takes one by one

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


F32 = NDArray[np.float32]


@dataclass(frozen=True)
class WeightCheck:
    """The weights of `tensors` tensors beside the checkpoint's. `largest_error` is the largest share of what
    its layout allows, and `tensor` where that is.
    """

    tensors: int
    largest_error: float
    tensor: str


@dataclass(frozen=True)
class EngineCheck:
    """The engine's logits beside numpy's, both on the output's own weights, over `tokens` tokens.

    `error` is their relative error, of at most `limit`. Where nothing here runs the output, `not_run` says
    why.
    """

    engine: str | None
    tokens: int
    error: float | None = None
    limit: float | None = None
    not_run: str | None = None


@dataclass(frozen=True)
class BetterScheme:
    """The smallest scheme of a format that is clearly nearer to the checkpoint, and the bytes it takes."""

    scheme: str
    bytes: int


@dataclass(frozen=True)
class Verification:
    """The answers. `weights` and `quality` are None without the checkpoint; `better` is the next scheme where
    the quality is poor and there is one.
    """

    engine: EngineCheck
    weights: WeightCheck | None = None
    quality: Quality | None = None
    better: BetterScheme | None = None


@dataclass(frozen=True)
class GoldenResult:
    """The replay of a package's golden vectors: positions compared, how many gave another first choice."""

    positions: int
    mismatches: int
    largest_error: float
    greedy_matches: bool


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found. `golden` and `isa` are those of edgekit's own packages, None elsewhere and where a
    package has no vectors; `engine` is None when those vectors answered for it; the rest is `Verification`'s.

    `same_source` says whether the reference is the very checkpoint that a package was made from.
    """

    path: str
    format: str
    scheme: str
    isa: str | None
    golden: GoldenResult | None
    engine: EngineCheck | None
    weights: WeightCheck | None
    quality: Quality | None
    better: BetterScheme | None
    same_source: bool | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    package: str | os.PathLike[str],
    reference: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> VerifyReport:
    """Holds an output of `convert`, in any format, against its own weights and, given the checkpoint, against
    that. Of an `.edge` package it checks the hashes, and replays the golden vectors. Both are names that
    `edgekit.resolve` takes.

    Raises VerificationFailed, InvalidFile (damaged; a hash is wrong), UnsupportedModel (`convert` did not
    write it, or nothing here runs it).
    """
    path = hub.resolve(package, progress)
    format = formats.format_of(path)
    source = None
    if reference is not None:
        source = convert.read(hub.resolve(reference, progress), os.fspath(reference))
    golden = same = isa = found = None
    if format == "edge":
        with Model(path, threads, verify_hashes=True) as model:
            isa, stored = model.isa, model.metadata.get("golden")
            golden = replay(model, stored) if stored else None
            if source is not None:
                made_from = model.metadata.get("source", {}).get("sha256")
                same = source.metadata["source"]["sha256"] == made_from
        if golden is not None and (golden.mismatches or golden.largest_error > GOLDEN_TOLERANCE):
            raise VerificationFailed(
                f"{path} no longer gives its golden vectors on {isa}: {golden.mismatches} of "
                f"{golden.positions} first choices differ, largest error {golden.largest_error:.3g}",
                hint="convert it again; if that fails too the engine is at fault: please report it",
            )
    output = formats.read_back(format, path, None if source is None else source.spec)
    if source is not None or golden is None:
        found = check(format, output, path, source, threads=threads, progress=progress)
        if source is None and found.engine.not_run:
            raise UnsupportedModel(
                f"nothing to verify {path} with: {found.engine.not_run}",
                hint="its weights can be compared with the checkpoint: give that with --reference",
            )
    return VerifyReport(
        path=str(path),
        format=format,
        scheme=output.scheme,
        isa=isa,
        golden=golden,
        engine=found.engine if found else None,
        weights=found.weights if found else None,
        quality=found.quality if found else None,
        better=found.better if found else None,
        same_source=same,
    )


def check(
    format: str,
    output: Output,
    path: Path,
    source: ConvertInput | None,
    options: dict[str, Any] | None = None,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> Verification:
    """The answers for `output`, which was read back from `path`; `options` are those of its format's `write`.

    Raises VerificationFailed, which says all that is wrong.
    """
    wrong: list[str] = []
    weights = None if source is None else check_weights(output, source, wrong, progress)
    wrong += [f"the output says {difference}" for difference in differences(output.told, output.spec)]
    blob = output.tokenizer if source is None else source.tokenizer
    tokenizer = None if blob is None else Tokenizer.from_bytes(blob)
    text, ids = sample_ids(tokenizer, output.spec, longropes=output.context is None)
    own = _logits(output.reference(), ids, "computing with the output's weights", progress)
    engine, got = _check_engine(format, output, path, ids, own, threads, progress)
    if engine.error is not None and engine.limit is not None and not engine.error <= engine.limit:
        wrong.append(
            f"{engine.engine} does not compute what the stored weights say: relative error of the logits "
            f"{engine.error:.3g}, at most {engine.limit:.3g} is expected of {output.scheme}"
        )
    if wrong:
        raise VerificationFailed("; ".join(wrong), hint=_REPORT)
    if source is None:
        return Verification(engine)
    of_checkpoint = output.reference(source.load)
    want = _logits(of_checkpoint, ids, "computing with the checkpoint's weights", progress)
    quality = compare(text, ids, own if got is None else got, want)
    better = better_scheme(formats.named(format), source, output.scheme, options) if quality.is_poor else None
    return Verification(engine, weights, quality, better)


def check_weights(
    output: Output, source: ConvertInput, wrong: list[str], progress: Progress = silent
) -> WeightCheck:
    """Compares rows of every tensor; what differs by more than its layout explains is added to `wrong`.
    Raises VerificationFailed when one is missing.
    """
    worst = (0.0, "")
    names = [*source.tensors, *(["head"] if output.twice else [])]
    load = formats.untied(source.load)
    for done, name in enumerate(names, 1):
        shape = source.spec.shape(name)
        spans: list[tuple[int, int] | None] = [None]
        if len(shape) == 2:
            starts = dict.fromkeys((0, shape[0] // 2, max(0, shape[0] - WEIGHT_ROWS)))
            spans = [(start, min(start + WEIGHT_ROWS, shape[0])) for start in starts]
        share = 0.0
        for rows in spans:
            want, got = load(name, rows), output.load(name, rows)
            if want is None or got is None or want.shape != got.shape:
                raise VerificationFailed(f"the output lacks {name} of shape {list(shape)}", hint=_REPORT)
            limit = WEIGHT_LIMITS.get(output.layout(name), WEIGHT_LIMITS["q2"])
            error, size = float(np.linalg.norm(got - want)), float(np.linalg.norm(want))
            if not error <= limit * size:
                wrong.append(
                    f"the stored {name} is not the checkpoint's: its error is {error:.3g}, its size "
                    f"{size:.3g}, and {output.layout(name)} explains {limit:g} of that"
                )
                break
            share = max(share, error / (limit * size) if size else 0.0)
        worst = max(worst, (share, name))
        progress("comparing the weights", done, len(names))
    return WeightCheck(len(names), *worst)


def differences(told: ModelSpec, wanted: ModelSpec) -> list[str]:
    """In what the maths of two specs differ, in words."""
    ours, theirs = _maths(told), _maths(wanted)
    return [
        f"{name} = {_short(ours.get(name))} where the checkpoint has {_short(theirs.get(name))}"
        for name in sorted(ours.keys() | theirs.keys())
        if not _close(ours.get(name), theirs.get(name))
    ]


def better_scheme(
    format: Any, source: ConvertInput, scheme: str, options: dict[str, Any] | None = None
) -> BetterScheme | None:
    """The smallest scheme that changes a sample of the weights by less than two thirds of what `scheme`
    does; None when there is none.
    """
    found = []
    options = options or {}
    limit = preflight.weight_error(format, source, scheme, options) * 2 / 3
    for other in format.SCHEMES:
        try:
            if preflight.weight_error(format, source, other, options) < limit:
                found.append(BetterScheme(other, format.size_bytes(source, other, **options)))
        except (UsageError, UnsupportedModel):  # not with these options
            continue
    return min(found, key=lambda better: better.bytes, default=None)


def sample_ids(
    tokenizer: Tokenizer | None, spec: ModelSpec, limit: int | None = None, *, longropes: bool = True
) -> tuple[str, list[int]]:
    """("edgekit", the first ids of `TEXT`), or ("random ids", …) without a tokenizer; fewer of larger models.

    `longropes`: no more than the short angles of longrope are for.
    """
    limit = limit or tokens_for(spec)
    if longropes:
        limit = min(
            [limit, *(r.original_context for r in spec.ropes if r.long_inv_freq and r.original_context)]
        )
    if tokenizer is not None:
        known = (id for id in tokenizer.encode(TEXT) if id < spec.vocab_size)
        return "edgekit", list(islice(known, limit))
    return "random ids", np.random.default_rng(0).integers(0, spec.vocab_size, limit).tolist()


def _check_engine(
    format: str, output: Output, path: Path, ids: list[int], own: F32, threads: int | None, progress: Progress
) -> tuple[EngineCheck, F32 | None]:
    """The check, and the engine's logits of all `ids` where it gives them."""
    backend = formats.named(format).BACKEND
    try:
        engine = engines.called(backend).open(path, threads, backend)
    except UnsupportedModel as missing:
        if format == "edge":
            raise
        hint = f" ({missing.hint})" if missing.hint else ""
        return EngineCheck(None, 0, not_run=f"{missing}{hint}"), None
    session = engine.exact_session(len(ids))
    positions: list[int] = []
    rows: list[F32] = []
    for first, last in _pieces(len(ids)):
        progress(f"computing in {engine.NAME}", first, len(ids))
        logits = session.forward(np.array(ids[first:last], np.int32), engine.ALL_LOGITS)
        rows.append(logits)
        positions += range(last - len(logits), last)
    progress(f"computing in {engine.NAME}", len(ids), len(ids))
    got = np.concatenate(rows)
    error, limit = relative_error(got, own[positions]), EXACT_LIMIT if output.exact else ROUNDED_LIMIT
    if not output.exact and error > limit / 2:  # in deep models rounding alone does that
        reference = _Rounding(output.spec, output.load, cache=output.cache, context=output.context)
        rounded = _logits(reference, ids, "computing with rounded activations", progress)
        limit = max(limit, ROUNDED_SHARE * relative_error(rounded, own))
    return EngineCheck(engine.NAME, len(ids), error, limit), got if len(got) == len(ids) else None


class _Rounding(Reference):
    """Activations are rounded to 8 bits, with a scale for each 32 of them, before they meet a matrix. No
    engine's logits are these: a last bit that differs is soon another code. But they are as far from the
    exact ones as a right engine's.
    """

    def linear(self, x: F32, name: str) -> F32:
        return super().linear(_rounded(x), name)

    def logit_slices(self, hidden: F32) -> Iterator[tuple[int, F32]]:
        return super().logit_slices(_rounded(hidden))


def _rounded(x: F32) -> F32:
    groups = np.pad(x, ((0, 0), (0, -x.shape[1] % ROUNDED_GROUP))).reshape(len(x), -1, ROUNDED_GROUP)
    scale = np.maximum(np.abs(groups).max(-1, keepdims=True), np.float32(1e-30)) / 127
    return np.asarray((np.rint(groups / scale) * scale).reshape(len(x), -1)[:, : x.shape[1]], np.float32)


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    """Prompt steps, then single tokens."""
    together = max(0, count - SINGLE_TOKENS)
    for first in range(0, together, PIECE):
        yield first, min(first + PIECE, together)
    for first in range(together, count):
        yield first, first + 1


def _logits(reference: Reference, ids: list[int], task: str, progress: Progress) -> F32:
    """By numpy, a matrix at a time."""
    load, total, done = reference.load, len(reference.spec.matrices()), 0

    def watched(name: str, rows: tuple[int, int] | None = None) -> F32 | None:
        nonlocal done
        if rows is None and len(reference.spec.shape(name)) == 2:
            done += 1
            progress(task, min(done, total), total)
        return load(name, rows)

    reference.load = watched
    logits = reference.logits(ids)
    progress(task, total, total)
    return logits


def _maths(spec: ModelSpec) -> dict[str, Any]:
    """What the logits depend on, by name."""
    found: dict[str, Any] = {}
    for name, value in spec.to_json().items():
        if name not in ("model_type", "version", "context", "layers", "ropes"):
            found[name] = value
    for index, layer in enumerate(spec.layers):
        at = f"layers.{index}"
        words: dict[str, Any] = {
            "mixer": layer.mixer,
            "d_ff": layer.d_ff,
            "n_experts": layer.n_experts,
            "parallel": layer.parallel,
            "beside": layer.beside,
        }
        if layer.mixer == "conv":
            words["conv_kernel"] = layer.conv_kernel
        else:
            words |= {name: getattr(layer, name) for name in ("n_heads", "n_kv_heads", "head_dim", "window")}
            rope = None if layer.rope is None else spec.ropes[layer.rope]
            words["rope"] = rope and [rope.dim, *rope.inv_freq, rope.factor, *(rope.long_inv_freq or ())]
        if layer.recurrence:
            words |= asdict(layer.recurrence)
        if layer.rwkv:
            words |= asdict(layer.rwkv)
        found |= {f"{at}.{name}": value for name, value in words.items()}
    return found


def _close(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_close, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, rel_tol=TOLD_TOLERANCE)
    return bool(ours == theirs)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def golden(model: Model, spec: ModelSpec) -> dict[str, Any]:
    """What the engine gives for a fixed text, small enough for a package's metadata.

    ids     the text; `top1` the first choice after each, `margin` its lead over the second
    logits  of a few ids after the last token, and `spread`, the range of all of them
    greedy  the tokens (and their text) that follow the first `GOLDEN_PROMPT_TOKENS` of ids at temperature 0
    """
    tokenizer = model.tokenizer if model.has_tokenizer else None
    _, ids = sample_ids(tokenizer, spec, 4 * GOLDEN_PROMPT_TOKENS)
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
    last = [float(logits[-1, id]) for id, _ in stored["logits"]]
    mismatches, largest_error = deviation(stored, logits.argmax(axis=1), last)
    return GoldenResult(len(logits), mismatches, largest_error, greedy_matches=greedy == stored["greedy"])


def deviation(stored: dict[str, Any], top1: ArrayLike, logits: Sequence[float]) -> tuple[int, float]:
    """What an engine gave for golden vectors beside what they say: how many first choices are others beyond
    rounding, and the largest error of the logits, of their spread.
    """
    spread = max(stored["spread"], 1e-6)
    clear = np.array(stored["margin"]) > 2 * GOLDEN_TOLERANCE * spread
    mismatches = int(((np.asarray(top1) != np.array(stored["top1"])) & clear).sum())
    errors = [abs(ours - value) for ours, (_, value) in zip(logits, stored["logits"], strict=True)]
    return mismatches, max(errors) / spread


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
