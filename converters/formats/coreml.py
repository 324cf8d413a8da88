"""Core ML: a directory with `model.mlpackage`, an ML Program for iOS 18 and macOS 15, and the checkpoint's
tokenizer files (docs/coreml.md). Written without torch, in one pass over the checkpoint.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint_files import copy_files, flat_config, write_card, write_json
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output
from edgekit.converters.formats._coreml_codes import Scheme
from edgekit.converters.formats._coreml_session import Cache, facts
from edgekit.converters.formats._coreml_weights import WeightFile
from edgekit.converters.formats._parts import require
from edgekit.converters.quant.grid import Grid
from edgekit.converters.spec import ModelSpec
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import UnsupportedModel, UsageError

if TYPE_CHECKING:
    from edgekit.converters.formats._coreml_decoder import Decoder

SUFFIX = ""
BACKEND = "coreml"
WINDOW, SINKS, CHUNK = 2048, 4, 64
KEPT_BYTES = 1 << 30  # of weights that the interpreter keeps decompressed between steps
PACKAGE = "model.mlpackage"

SCHEME_OF_NAME = {
    "q4": Scheme(bits=4, codes="block"),
    "q8": Scheme(bits=8, codes="block"),
    "f16": Scheme(),
    "f32": Scheme(type="F32"),
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
    require(model, "Core ML output")
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
    description.userDefined["edgekit.spec"] = json.dumps(model.spec.to_json())

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


def grids(model: ConvertInput, scheme: str) -> dict[str, Grid]:
    """Of each matrix."""
    decoder = _decoder(model, scheme, Cache(_window(model), SINKS, CHUNK))
    return {name: decoder.grid(name) for name in model.spec.matrices()}


def holds(path: Path) -> bool:
    return (path / PACKAGE).is_dir()


def read_back(path: Path, spec: ModelSpec | None = None) -> Output:
    """Norms come without what was folded into them."""
    _need_coremltools()
    from edgekit.converters.formats._coreml_decoder import path_of, residual_gain
    from edgekit.converters.interpreters.mil import MilProgram

    program = MilProgram(path / PACKAGE, exact=False, keep=False)
    words = program.model.description.metadata.userDefined
    if "edgekit.spec" not in words:
        raise UnsupportedModel(
            f"{path} does not say what it should compute: edgekit did not write it, or long ago",
            hint="convert the checkpoint again",
        )
    told, known = ModelSpec.from_json(json.loads(words["edgekit.spec"])), json.loads(words["edgekit"])
    scheme = SCHEME_OF_NAME[known["scheme"]]
    gain = told.residual_scale * (residual_gain(told) if scheme.neural_engine else 1.0)
    names = program.constant_names("decode")
    compiled = compile_tokenizer(path)

    def places(name: str) -> list[str]:
        """The constants that are its rows."""
        path, first = path_of(name), f"{path_of(name)}_rows_"
        parts = [n for n in names if n.startswith(first) and n.removeprefix(first).isdigit()]
        return [path] if path in names else sorted(parts, key=lambda n: int(n.removeprefix(first)))

    @functools.lru_cache(1)
    def whole(name: str) -> NDArray[np.float32] | None:
        parts = [program.constant("decode", place).astype(np.float32) for place in places(name)]
        if not parts:
            return None
        values = np.concatenate(parts).reshape(told.shape(name))
        return values / np.float32(gain) if "_post_norm" in name else values

    def load(name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        values = whole(name)
        return values if rows is None or values is None else values[slice(*rows)]

    def layout(name: str) -> str:
        bits, codes = program.bits("decode", places(name)[0])
        return f"{'q' if codes else 'f'}{bits}"

    return Output(
        known["scheme"],
        spec or told,
        told,
        load,
        layout,
        sys.platform != "darwin",  # elsewhere its operators are computed in numpy, in float32
        compiled.blob if compiled else None,
        (known["sinks"], known["window"]),
        known["sinks"] + known["window"],
    )


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
    decoder = _decoder(model, scheme, cache)
    from edgekit.converters.formats import _coreml_package

    functions = {"decode": decoder.function(1), "prefill": decoder.function(cache.chunk)}
    return _coreml_package.message(functions, decoder.weights), decoder.weights


def _decoder(model: ConvertInput, scheme: str, cache: Cache) -> Decoder:
    if scheme not in SCHEME_OF_NAME:
        raise UsageError(f"scheme {scheme!r} is not one Core ML has; choose from {', '.join(SCHEMES)}")
    _need_coremltools()
    from edgekit.converters.formats._coreml_decoder import Decoder, NeuralEngineDecoder

    chosen = SCHEME_OF_NAME[scheme]
    return (NeuralEngineDecoder if chosen.neural_engine else Decoder)(model, chosen, cache)


def _need_coremltools() -> None:
    if importlib.util.find_spec("coremltools") is None:
        raise UsageError(
            "Core ML packages need coremltools, which is not installed", hint="pip install 'edgekit[coreml]'"
        )
    # On import it warns of parts that only macOS has, and of versions of torch, which is not used.
    logging.getLogger("coremltools").setLevel(logging.ERROR)
