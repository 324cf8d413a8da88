"""Core ML: a directory with `model.mlpackage`, an ML Program for iOS 18 and macOS 15, the rows of the
embedding and the checkpoint's tokenizer files (docs/coreml.md). Written without torch, in one pass over the
checkpoint. Models whose weights iOS would not map are several packages, `model_1.mlpackage` and so on.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.converters.checkpoint_files import copy_files, flat_config, write_card, write_json
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output, _embeddings
from edgekit.converters.formats._coreml_codes import SCHEME_OF_NAME, Scheme
from edgekit.converters.formats._coreml_output import Constant, facts_of, output
from edgekit.converters.formats._coreml_session import STATE_WIDTH, Cache, Step, facts
from edgekit.converters.formats._coreml_weights import WeightFile
from edgekit.converters.formats._parts import require
from edgekit.converters.quant.grid import Grid
from edgekit.converters.spec import ModelSpec
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.converters.formats._coreml_decoder import Decoder

SUFFIX = ""
BACKEND = "coreml"
WINDOW, SINKS, CHUNK = 2048, 4, 64
PART_BYTES = 1_900_000_000  # of weights in a package: iOS takes less than 2 GB
WIDTH = 32  # tokens in a step with logits on the Neural Engine, which fills narrower rows up to 64 bytes

SCHEMES = tuple(SCHEME_OF_NAME)

_USE = """let configuration = MLModelConfiguration()
configuration.functionName = "extend_256_1"  // docs/coreml.md of edgekit tells which function takes a step
let compiled = try await MLModel.compileModel(at: packageURL)
let extend = try await MLModel.load(contentsOf: compiled, configuration: configuration)
let state = extend.makeState()"""


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
    cache = _cache(model, scheme, window, sinks, chunk)
    parts = _built(model, scheme, cache, cache.steps(model.spec))
    from edgekit.converters.formats import _coreml_package

    source = model.metadata.get("source", {})
    known = facts(model.spec, cache, columns=SCHEME_OF_NAME[scheme].neural_engine) | {
        "scheme": scheme,
        "eos_ids": model.metadata.get("eos_ids", []),
        "packages": package_names(len(parts)),
    }
    path.mkdir()
    for name, (program, weights) in zip(known["packages"], parts, strict=True):
        description = program.description.metadata
        description.shortDescription = f"{source.get('name', model.spec.model_type)}, {scheme}"
        description.license = source.get("license", "")
        description.userDefined["edgekit"] = json.dumps(known)
        description.userDefined["edgekit.source"] = json.dumps(source)
        description.userDefined["edgekit.spec"] = json.dumps(model.spec.to_json())
        _coreml_package.save(path / name, program, weights, progress)
    _embeddings.write(model, path, SCHEME_OF_NAME[scheme])
    copy_files(model, path)
    write_json(path / "config.json", flat_config(model))
    note = f"Sees the last {cache.window} tokens and the first {cache.sinks}, in constant memory."
    write_card(model, path, "coreml", scheme, _USE, [note])


def size_bytes(model: ConvertInput, scheme: str) -> int:
    """Of the packages and the embedding; the functions for all contexts are as long as those for one."""
    cache = _cache(model, scheme)
    *_, longest = contexts = cache.contexts(model.spec)
    steps = [step for step in cache.steps(model.spec) if step.context == longest]
    parts = _built(model, scheme, cache, steps)
    packages = sum(len(contexts) * int(program.ByteSize()) + weights.size_bytes for program, weights in parts)
    return packages + _embeddings.grid(SCHEME_OF_NAME[scheme]).size_bytes(*model.spec.shape("embed"))


def cache_bytes(model: ConvertInput, scheme: str, tokens: int) -> int:
    """The states, float16; of a size that does not depend on the text."""
    cache, spec = _cache(model, scheme), model.spec
    attention = [layer for layer in spec.layers if layer.mixer == "attention"]
    numbers = sum(2 * cache.ring(layer).slots * layer.n_kv_heads * layer.head_dim for layer in attention)
    return 2 * (numbers + sum(spec.d_model * STATE_WIDTH for x in spec.layers if x.conv_kernel))


def grids(model: ConvertInput, scheme: str) -> dict[str, Grid]:
    """Of each matrix."""
    decoder = _decoders(model, scheme, _cache(model, scheme))[0]
    found = {name: decoder.grid(name) for name in model.spec.matrices()}
    return found if model.spec.tied else found | {"embed": _embeddings.grid(SCHEME_OF_NAME[scheme])}


def package_names(count: int) -> list[str]:
    """Of the parts, in order."""
    return ["model.mlpackage"] if count == 1 else [f"model_{i + 1}.mlpackage" for i in range(count)]


def holds(path: Path) -> bool:
    return any((path / package_names(count)[0]).is_dir() for count in (1, 2))


def read_back(path: Path, spec: ModelSpec | None = None) -> Output:
    from edgekit.converters.interpreters.mil import MilProgram

    known, functions = described(path)
    programs = [MilProgram(path / name, exact=False, keep=False) for name in known["packages"]]
    step = next(iter(functions[0]))
    constants = {
        name: Constant(
            functools.partial(program.constant, step, name), functools.partial(program.bits, step, name)
        )
        for program in programs
        for name in program.constant_names(step)
    }
    words = programs[0].model.description.metadata.userDefined
    # Elsewhere its operators are computed in numpy, in float32.
    return output(path, words, constants, spec, exact=sys.platform != "darwin")


def described(path: Path) -> tuple[dict[str, Any], list[dict[str, list[str]]]]:
    """A written directory's facts for drivers, and of each part the inputs of its functions. Raises
    UnsupportedModel for packages that do not say what they compute.
    """
    _need_coremltools()
    from edgekit.converters.interpreters.mil import model_of

    first = next(path / name for name in (*package_names(1), *package_names(2)) if (path / name).is_dir())
    known = facts_of(path, model_of(first).description.metadata.userDefined)
    return known, [
        {
            function.name: [given.name for given in function.input]
            for function in model_of(path / name).description.functions
        }
        for name in known["packages"]
    ]


def _cache(
    model: ConvertInput, scheme: str, window: int | None = None, sinks: int = SINKS, chunk: int = CHUNK
) -> Cache:
    window = min(model.spec.context or WINDOW, WINDOW) if window is None else window
    return Cache(window, sinks, chunk, WIDTH if _scheme(scheme).neural_engine else 1)


def _scheme(name: str) -> Scheme:
    if name not in SCHEME_OF_NAME:
        raise UsageError(f"scheme {name!r} is not one Core ML has; choose from {', '.join(SCHEMES)}")
    return SCHEME_OF_NAME[name]


def _built(
    model: ConvertInput, scheme: str, cache: Cache, steps: Sequence[Step]
) -> list[tuple[Any, WeightFile]]:
    """Of each part the protobuf message of those functions, and its weights before they are written."""
    decoders = _decoders(model, scheme, cache)
    from edgekit.converters.formats import _coreml_package

    return [(_coreml_package.message(each.functions(steps), each.weights), each.weights) for each in decoders]


def _decoders(model: ConvertInput, scheme: str, cache: Cache) -> list[Decoder]:
    """One for each part: layers until their matrices have PART_BYTES."""
    require(model, "Core ML output")
    chosen = _scheme(scheme)
    _need_coremltools()
    from edgekit.converters.formats._coreml_decoder import Decoder, NeuralEngineDecoder

    kind = NeuralEngineDecoder if chosen.neural_engine else Decoder
    whole, spec = kind(model, chosen, cache), model.spec
    sizes = [0] * (len(spec.layers) + 1)  # the last is the output matrix's
    for name in spec.matrices():
        index = int(name.split(".")[1]) if name.startswith("layers.") else -1
        if name != "embed" or spec.tied:
            sizes[index] += whole.grid(name).size_bytes(*spec.shape(name))
    begins, used = [0], 0
    for index, size in enumerate(sizes[:-1]):
        size += sizes[-1] if index == len(spec.layers) - 1 else 0
        if used and used + size > PART_BYTES:
            begins.append(index)
            used = 0
        used += size
    return [
        kind(model, chosen, cache, part) for part in zip(begins, [*begins[1:], len(spec.layers)], strict=True)
    ]


def _need_coremltools() -> None:
    if importlib.util.find_spec("coremltools") is None:
        raise UsageError(
            "Core ML packages need coremltools, which is not installed", hint="pip install 'edgekit[coreml]'"
        )
    # On import it warns of parts that only macOS has, and of versions of torch, which is not used.
    logging.getLogger("coremltools").setLevel(logging.ERROR)
