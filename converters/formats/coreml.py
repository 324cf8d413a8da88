"""Core ML: a directory with `model.mlpackage`, an ML Program for iOS 18 and macOS 15, and the checkpoint's
tokenizer files (docs/coreml.md). Written without torch, in one pass over the checkpoint.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.codes import Layout
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import _coreml_codes, _quality
from edgekit.converters.formats._checkpoint_files import copy_files, flat_config, write_card, write_json
from edgekit.converters.formats._coreml_codes import Scheme
from edgekit.converters.formats._coreml_session import Cache, Session, facts
from edgekit.converters.formats._coreml_weights import WeightFile
from edgekit.errors import UsageError

SUFFIX = ""
WINDOW, SINKS, CHUNK = 2048, 4, 64
PACKAGE = "model.mlpackage"

SCHEME_OF_NAME = {
    "q4": Scheme(bits=4, codes="block"),
    "q8": Scheme(bits=8, codes="block"),
    "f16": Scheme(),
    "f32": Scheme(type="fp32"),
    "neural_engine_q8": Scheme(neural_engine=True, bits=8, codes="row"),
    "neural_engine_q6": Scheme(neural_engine=True, bits=6, codes="palette"),
    "neural_engine_q4": Scheme(neural_engine=True, bits=4, codes="palette"),
    "neural_engine_f16": Scheme(neural_engine=True),
}
SCHEMES = tuple(SCHEME_OF_NAME)

_USE = """let configuration = MLModelConfiguration()
configuration.functionName = "prefill"  // and another model with "decode", on the same state
let compiled = try await MLModel.compileModel(at: packageURL)
let prefill = try await MLModel.load(contentsOf: compiled, configuration: configuration)
let state = prefill.makeState()"""


def write(
    model: ConvertInput,
    path: Path,
    scheme: str = SCHEMES[0],
    progress: Progress = silent,
    *,
    window: int | None = None,
    sinks: int = SINKS,
    chunk: int = CHUNK,
) -> None:
    """Writes `model` as a directory with a Core ML package, whose cache keeps `window` recent positions (the
    model's context, at most 2048) and the first `sinks`, and takes up to `chunk` tokens at a step. Memory
    stays at a few slabs of rows.

    Raises UsageError for an unknown scheme or without coremltools, UnsupportedModel.
    """
    cache = Cache(_window(model) if window is None else window, sinks, chunk)
    program, weights = _built(model, scheme, cache)
    from edgekit.converters.formats import _coreml_package

    description = program.description.metadata
    source = model.metadata.get("source", {})
    description.shortDescription = f"{source.get('name', model.spec.model_type)}, {scheme}"
    description.license = source.get("license", "")
    known = facts(model.spec, cache) | {"scheme": scheme, "eos_ids": model.metadata.get("eos_ids", [])}
    description.userDefined["edgekit"] = json.dumps(known)
    description.userDefined["edgekit.source"] = json.dumps(source)

    path.mkdir()
    _coreml_package.save(path / PACKAGE, program, weights, progress)
    copy_files(model, path)
    write_json(path / "config.json", flat_config(model))
    note = f"Sees the last {cache.window} tokens and the first {cache.sinks}, in constant memory."
    write_card(model, path, "coreml", scheme, _USE, [note])


def size_bytes(model: ConvertInput, scheme: str) -> int:
    """Of the package."""
    program, weights = _built(model, scheme, Cache(_window(model), SINKS, CHUNK))
    return int(program.ByteSize()) + weights.size_bytes


def cache_bytes(model: ConvertInput, scheme: str, tokens: int) -> int:
    """The states, float16; of a size that does not depend on the text."""
    cache, spec = Cache(_window(model), SINKS, CHUNK), model.spec
    attention = [layer for layer in spec.layers if layer.mixer == "attention"]
    numbers = sum(2 * cache.ring(layer).slots * layer.n_kv_heads * layer.head_dim for layer in attention)
    return 2 * (numbers + sum(spec.d_model * (x.conv_kernel - 1) for x in spec.layers if x.conv_kernel))


def restored(rows: NDArray[np.float32], scheme: str) -> NDArray[np.float32]:
    """Rows of a matrix `[n, k]` as their codes will stand for them."""
    return _coreml_codes.restored(rows, SCHEME_OF_NAME[scheme])


def keeps(layout: Layout, scheme: str) -> bool:
    """Whether codes of a checkpoint are taken over."""
    return SCHEME_OF_NAME[scheme].keeps(layout)


def verify(model: ConvertInput, path: Path, scheme: str) -> dict[str, Any] | None:
    """The quality card, from Core ML itself; None where there is none. Raises VerificationFailed."""
    if sys.platform != "darwin":
        return None
    import coremltools

    functions = {
        name: coremltools.models.MLModel(str(path / PACKAGE), function_name=name)
        for name in ("decode", "prefill")
    }
    state = functions["decode"].make_state()
    known, inputs = described(path)

    def predict(function: str, given: dict[str, NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(functions[function].predict(given, state)["logits"], np.float32)

    return card(model, Session(known, inputs, predict), scheme)


def card(model: ConvertInput, session: Session, scheme: str) -> dict[str, Any]:
    """What `session`, whose text has not begun, computes beside the checkpoint."""

    def logits(ids: list[int]) -> NDArray[np.float32]:
        return np.stack([session.step("decode", [id]) for id in ids])

    return _quality.card(model, logits, scheme.rpartition("_")[2])


def described(path: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """A written directory's facts for drivers, and the inputs of each function."""
    import coremltools

    description = coremltools.utils.load_spec(str(path / PACKAGE)).description
    inputs = {function.name: [given.name for given in function.input] for function in description.functions}
    return json.loads(description.metadata.userDefined["edgekit"]), inputs


def _window(model: ConvertInput) -> int:
    return min(model.spec.context or WINDOW, WINDOW)


def _built(model: ConvertInput, scheme: str, cache: Cache) -> tuple[Any, WeightFile]:
    """The model's protobuf message, and its weights before they are written."""
    if scheme not in SCHEME_OF_NAME:
        raise UsageError(f"scheme {scheme!r} is not one Core ML has; choose from {', '.join(SCHEMES)}")
    if importlib.util.find_spec("coremltools") is None:
        raise UsageError(
            "writing Core ML packages needs coremltools, which is not installed",
            hint="pip install 'edgekit[coreml]'",
        )
    # On import it warns of parts that only macOS has, and of versions of torch, which is not used.
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    from edgekit.converters.formats import _coreml_package
    from edgekit.converters.formats._coreml_decoder import Decoder, NeuralEngineDecoder

    chosen = SCHEME_OF_NAME[scheme]
    decoder = (NeuralEngineDecoder if chosen.neural_engine else Decoder)(model, chosen, cache)
    functions = {"decode": decoder.function(1), "prefill": decoder.function(cache.chunk)}
    return _coreml_package.message(functions, decoder.weights), decoder.weights
