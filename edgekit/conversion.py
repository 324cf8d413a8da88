"""convert: a checkpoint in, a verified package out, or nothing."""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import arguments, engines, hub, preflight
from edgekit.calibration import calibrated, sensitivities
from edgekit.converters import convert as source
from edgekit.converters import exporters, formats, mix
from edgekit.converters.checkpoint import read_json
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import edge
from edgekit.converters.quality import Quality
from edgekit.converters.quant.block32 import Block32
from edgekit.converters.quant.tiles import F32, U8
from edgekit.converters.text import tokenizer
from edgekit.errors import UsageError
from edgekit.files import bytes_of
from edgekit.in_place_of import in_place_of
from edgekit.preflight import Preflight
from edgekit.submodules import submodules

if TYPE_CHECKING:
    from edgekit.verification import BetterScheme, EngineCheck, Verification, WeightCheck


@dataclass(frozen=True)
class ConvertReport:
    """What was written, or with `dry_run` what would be.

    `bytes` is the whole output, `bits_per_weight` that over all parameters. What verification found, or None
    when nothing was verified: `engine`, does the engine compute what the output says; `weights`, are those
    the checkpoint's; `quality`, what was lost against it; `better`, the next scheme where that is much.
    `preflight` is what a dry run estimates, else None; `calibration` says by which text codes were chosen,
    and how; `grids` names what each matrix became. An exporter's dry run knows neither sizes nor
    `n_parameters`.
    """

    path: str
    format: str
    scheme: str
    model_type: str
    n_parameters: int | None
    bytes: int | None
    bits_per_weight: float | None
    seconds: float
    quality: Quality | None
    warnings: tuple[str, ...]
    dry_run: bool
    engine: EngineCheck | None = None
    weights: WeightCheck | None = None
    better: BetterScheme | None = None
    preflight: Preflight | None = None
    calibration: dict[str, Any] | None = None
    grids: dict[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def schemes() -> dict[str, tuple[str, ...]]:
    """The schemes of every format, its default first."""
    return {name: formats.named(name).SCHEMES for name in formats.known()}


def convert(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "edge",
    scheme: str | None = None,
    target_bytes: int | None = None,
    target_bpw: float | None = None,
    opset_only: bool = False,
    exporter: str | None = None,
    verify: bool = True,
    dry_run: bool = False,
    calibrate: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = (),
    seed: int = 0,
    tune: int = 0,
    threads: int | None = None,
    progress: Progress = silent,
    warn: Callable[[str], None] | None = None,
) -> ConvertReport:
    """Converts a checkpoint (a path, a Hugging Face id) and verifies the result against it.

    `warn` gets what is known to be amiss before the work begins; the report has that and what came later.
    `out` defaults to `<name>-<scheme>` in the current directory; a file that is there is replaced, at the end
    and at once. `target_bytes` of the whole output, or `target_bpw` bits for each of all parameters, has the
    scheme "mix": matrices get grids of their own, embedding and output included. `opset_only` writes ONNX of
    standard operators alone, in constant memory; `exporter` has ONNX written by another program, for
    architectures that edgekit does not know ("optimum").

    `calibrate` names texts (plain, or JSONL with `text` or `messages`) by which codes of less than 8 bits are
    chosen: `seed` says which of their parts. Without any a short built-in text tells which columns matter;
    with None the model is not run, and codes are the nearest to its weights. `tune`: on so many tokens of
    these texts scales are trained then (torch, of the extra `train`), codes staying as they are.

    Raises UnsupportedModel before any work, VerificationFailed, InvalidFile, IoFailure, UsageError; `out` is
    then as it was.
    """
    started = time.monotonic()
    writer = (
        _named(formats, format, "format") if exporter is None else _named(exporters, exporter, "exporter")
    )
    if exporter is not None and format != "onnx":
        raise UsageError(f"--exporter {exporter} writes the onnx format; this is {format}")
    if scheme not in (None, *writer.SCHEMES):
        raise UsageError(
            f"{exporter or f'the {format} format'} has no scheme {scheme!r}; choose one of: "
            f"{', '.join(writer.SCHEMES)}"
        )
    mixed = (target_bytes, target_bpw) != (None, None)
    if mixed and (not hasattr(writer, "mixed") or opset_only):
        have = ", ".join(each for each in formats.known() if hasattr(formats.named(each), "mixed"))
        what = exporter or f"the {format} format" + " of standard operators" * opset_only
        raise UsageError(f"{what} has no mix for a number of bytes; these have: {have}")
    if mixed and (scheme not in (None, "mix") or None not in (target_bytes, target_bpw)):
        raise UsageError("a number of bytes, bits per weight, a scheme: give one of them")
    if scheme == "mix" and not mixed:
        raise UsageError("scheme 'mix' needs a number of bytes, or of bits per weight, to aim at")
    options = {"opset_only": True} if opset_only else {}
    if options.keys() - set(getattr(writer, "OPTIONS", ())):
        raise UsageError(f"--opset-only belongs to edgekit's own onnx format; this is {exporter or format}")
    path = hub.resolve(checkpoint, progress)
    local = Path(checkpoint).expanduser().exists()
    name = path.resolve().stem if path.is_file() else path.resolve().name if local else _hub_name(checkpoint)
    suffix = getattr(writer, "SUFFIX", "") or f"-{format}"
    texts = _texts(calibrate)
    if texts and exporter is not None:
        raise UsageError(
            f"--exporter {exporter} chooses codes by itself; --calibrate is of edgekit's own formats"
        )
    if tune and not texts:
        raise UsageError("tuning trains on the texts to calibrate with; give at least one")

    def named(chosen: str) -> Path:
        target = Path(f"{name}-{chosen}{suffix}" if out is None else arguments.name(out, "the output"))
        _refuse(target, path)
        return target

    if exporter is not None:
        chosen = scheme or writer.SCHEMES[0]
        return _export(writer, path, named(chosen), chosen, started, verify, dry_run, progress)
    if out is not None:
        named("")
    progress("reading the checkpoint", 0, 0)
    model = source.read(path, name if local else os.fspath(checkpoint))
    default = getattr(writer, "default_scheme", lambda model: writer.SCHEMES[0])
    chosen = "mix" if mixed else scheme or default(model)
    target = named(chosen)
    n_parameters = model.spec.parameters(model.tensors)
    if mixed:
        wanted = target_bytes or round((target_bpw or 0) * n_parameters / 8)
        harm = sensitivities(model, texts, seed, progress) if texts and not dry_run else None
        model = _mixed(writer, model, wanted, options, harm)
    warnings = list(model.warnings)
    if loss := preflight.requantized(writer, model, chosen, options):
        warnings.append(loss)
    if warn is not None:
        for text in warnings:
            warn(text)
    found: Verification | None = None
    size: int | None = None
    estimate = None
    grids = writer.grids(model, chosen, **options)
    if not dry_run:
        with (
            in_place_of(target) as temporary,
            calibrated(model, grids, texts, seed, tune, progress) as model,
        ):
            fast = {"encoders": _encoders()} if format == "edge" else {}
            writer.write(model, temporary, chosen, progress, **options, **fast)
            if verify:
                found = _verify(format, model, temporary, options, threads, progress)
            size = bytes_of(temporary)
    elif hasattr(writer, "size_bytes") and hasattr(writer, "grids"):
        estimate = preflight.measure(writer, model, chosen, options)
        size = estimate.bytes
    return ConvertReport(
        path=str(target),
        format=format,
        scheme=chosen,
        model_type=model.spec.model_type,
        n_parameters=n_parameters,
        bytes=size,
        bits_per_weight=None if size is None else 8 * size / n_parameters,
        seconds=time.monotonic() - started,
        quality=found.quality if found else None,
        warnings=tuple(warnings),
        dry_run=dry_run,
        engine=found.engine if found else None,
        weights=found.weights if found else None,
        better=found.better if found else None,
        preflight=estimate,
        calibration=model.metadata.get("calibration"),
        grids={name: str(grid) for name, grid in grids.items()},
    )


def _mixed(
    writer: Any, model: ConvertInput, wanted: int, options: dict[str, Any], harm: Mapping[str, float] | None
) -> ConvertInput:
    """The model with a grid for each matrix that takes codes, of `wanted` bytes with all else; `harm`
    is `mix.allocate`'s sensitivity.
    """
    planned = writer.grids(model, "mix", **options)
    coded = {name: grid for name, grid in planned.items() if grid.bits <= 8}
    rest = writer.size_bytes(model, "mix", **options) - sum(
        grid.size_bytes(*model.spec.shape(name)) for name, grid in coded.items()
    )
    return replace(model, mix=mix.allocate(model, list(coded), writer.mixed(model), wanted, rest, harm))


def _texts(calibrate: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> list[Path] | None:
    if calibrate is None:
        return None
    given = [calibrate] if isinstance(calibrate, (str, os.PathLike)) else calibrate
    return [Path(arguments.name(text, "a text to calibrate with")) for text in given]


def packed(checkpoint: Path, progress: Progress = silent) -> Path:
    """A checkpoint (a Hugging Face or MLX directory, a GGUF file) as a package in the cache, written when it
    is first asked for or has changed: q8 for quantized weights, f16 for others. Not verified. Raises as
    `convert`.
    """
    files = sorted(checkpoint.iterdir()) if checkpoint.is_dir() else [checkpoint]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    versions = (edge.FORMAT_VERSION, tokenizer.VERSION, version("edgekit"))
    identity = repr((*versions, os.fspath(checkpoint.resolve()), facts))
    target = hub.home() / "packed" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}{edge.SUFFIX}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with hub.only_one(target.with_suffix(".lock")):
        if not target.exists():
            model = source.read(checkpoint, checkpoint.name)
            quantized = checkpoint.is_file() or any(model.layout(name) for name in model.tensors)
            convert(checkpoint, target, scheme="q8" if quantized else "f16", verify=False, progress=progress)
    return target


def _encoders() -> dict[str, edge.Encoder]:
    """Of the native module: the converters themselves know nothing of it."""
    from edgekit.engines.edge import encode_block32

    def encoder(grid: Block32) -> edge.Encoder:
        def encode(rows: F32, importance: F32 | None) -> U8:
            starts = b"".join(grid.starts)
            return encode_block32(rows, importance, starts, grid.nearest_code, grid.steps, grid.fields)

        return encode

    return {name: encoder(grid) for name, grid in edge.GRIDS.items() if isinstance(grid, Block32)}


def _export(
    exporter: ModuleType,
    checkpoint: Path,
    target: Path,
    scheme: str,
    started: float,
    verify: bool,
    dry_run: bool,
    progress: Progress,
) -> ConvertReport:
    exporter.check(checkpoint)
    size, quality = None, None
    if dry_run:
        kind, n_parameters = str(read_json(checkpoint / "config.json").get("model_type")), None
    else:
        with in_place_of(target) as temporary:
            done = exporter.export(checkpoint, temporary, scheme, progress)
            kind, n_parameters = done.model_type, done.n_parameters
            if verify:
                quality = exporter.verify(checkpoint, temporary, scheme, _logits)
            size = bytes_of(temporary)
    return ConvertReport(
        path=str(target),
        format="onnx",
        scheme=scheme,
        model_type=kind,
        n_parameters=n_parameters,
        bytes=size,
        bits_per_weight=None if size is None or not n_parameters else 8 * size / n_parameters,
        seconds=time.monotonic() - started,
        quality=quality,
        warnings=(),
        dry_run=dry_run,
    )


def _hub_name(checkpoint: str | os.PathLike[str]) -> str:
    """ "org/name@revision" -> "name": a snapshot's directory is called by its hash."""
    return os.fspath(checkpoint).partition("@")[0].rpartition("/")[2]


def _verify(
    format: str,
    model: ConvertInput,
    path: Path,
    options: dict[str, Any],
    threads: int | None,
    progress: Progress,
) -> Verification:
    """The answers; an `.edge` package keeps its quality, and golden vectors."""
    from edgekit import verification

    output = formats.named(format).read_back(path, model.spec)
    found = verification.check(format, output, path, model, options, threads=threads, progress=progress)
    if format == "edge" and found.quality is not None:
        from edgekit.model import Model

        with Model(path, threads) as package:
            golden = verification.golden(package, model.spec)
        edge.attach(path, {"quality": asdict(found.quality), "golden": golden})
    return found


def _named(package: ModuleType, name: str, kind: str) -> ModuleType:
    known = submodules(package.__path__)
    if name not in known:
        raise UsageError(f"there is no {kind} {name!r}; choose one of: {', '.join(known)}")
    return importlib.import_module(f"{package.__name__}.{name}")


def _refuse(target: Path, checkpoint: Path) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is no directory; create it first")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target} is a directory with files in it; give another name, or remove it first")
    if target.exists() and checkpoint.exists() and target.samefile(checkpoint):
        raise UsageError(f"{target} is the checkpoint itself; give another name")


def _logits(path: Path, ids: list[int]) -> F32:
    """Of an output, by the engine that runs it: `[len(ids), vocab_size]`."""
    module = engines.of(path)
    assert module is not None
    session = module.open(path, None, module.BACKENDS[0]).exact_session(len(ids))
    logits: F32 = session.forward(np.array(ids, np.int32), True)
    return logits
