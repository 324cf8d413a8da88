"""Core AI: a directory with `model.aimodel`, for iOS 27 and macOS 27, the rows of the embedding and the
checkpoint's tokenizer files (docs/coreai.md). Its graphs are those of the Core ML package of the same scheme,
in Core AI's operators. Written with Apple's coreai-core, without torch; weights are in memory once.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import mmap
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint_files import write_card
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output, coreml
from edgekit.converters.formats._coreml_codes import SCHEME_OF_NAME
from edgekit.converters.formats._coreml_output import Constant, facts_of, output
from edgekit.converters.quant.grid import Grid
from edgekit.converters.spec import ModelSpec
from edgekit.errors import InvalidFile, UsageError

SUFFIX = ""
BACKEND = "coreai"
SCHEMES = tuple(name for name in coreml.SCHEMES if SCHEME_OF_NAME[name].bits in (0, 4, 8))  # of its integers
PROGRAM = "main.mlirb"  # in an asset: the graphs, and their constants as they are

Array = NDArray[Any]

_USE = (
    "let model = try await AIModel(contentsOf: assetURL)  // docs/coreai.md of edgekit tells how to drive it"
)


def write(
    model: ConvertInput, path: Path, scheme: str = SCHEMES[0], progress: Progress = silent, **options: Any
) -> None:
    """Writes `model` as a directory with a Core AI asset; `options` are those of `coreml.write`.

    Raises UsageError for an unknown scheme or without coreai-core, UnsupportedModel.
    """
    _check(scheme)
    _need_coreai()
    from coreai.runtime import AIModelAssetMetadata

    from edgekit.converters.formats._coreai_graph import translated
    from edgekit.converters.formats._coreml_decoder import path_of
    from edgekit.converters.interpreters.mil import MilProgram

    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        coreml.write(model, Path(beside) / path.name, scheme, progress, **options)
        shutil.move(Path(beside) / path.name, path)
    known, functions = coreml.described(path)
    assets = [Path(name).with_suffix(".aimodel").name for name in known["packages"]]
    for package, asset in zip(known["packages"], assets, strict=True):
        program = MilProgram(path / package)
        words = dict(program.model.description.metadata.userDefined)
        words["edgekit"] = json.dumps(known | {"packages": assets, "functions": functions})
        metadata = AIModelAssetMetadata()
        metadata.model_description = program.model.description.metadata.shortDescription
        metadata.license = program.model.description.metadata.license
        for name, text in words.items():
            metadata.set_custom(name, text)
        saved = translated(program).save_asset(path / asset, metadata)
        tensors = {path_of(name) for name in (*model.tensors, "embed")}
        places = json.dumps(_places(program, path / asset / PROGRAM, tensors, next(iter(functions[0]))))
        saved.update_metadata(lambda own, places=places: own.set_custom("edgekit.constants", places))
        del program
        shutil.rmtree(path / package)
    note = f"Sees the last {known['window']} tokens and the first {known['sinks']}, in constant memory."
    write_card(model, path, "coreai", scheme, _USE, [note])


def size_bytes(model: ConvertInput, scheme: str) -> int:
    """About: an asset's graphs are as long as a package's."""
    _check(scheme)
    return coreml.size_bytes(model, scheme)


def cache_bytes(model: ConvertInput, scheme: str, tokens: int) -> int:
    return coreml.cache_bytes(model, scheme, tokens)


def grids(model: ConvertInput, scheme: str) -> dict[str, Grid]:
    _check(scheme)
    return coreml.grids(model, scheme)


def holds(path: Path) -> bool:
    return _first(path).is_dir()


def read_back(path: Path, spec: ModelSpec | None = None) -> Output:
    constants: dict[str, Constant] = {}
    for name in described(path)[0]["packages"]:
        data = np.memmap(path / name / PROGRAM, np.uint8, "r")
        for constant, (kind, parts) in json.loads(_words(path / name)["edgekit.constants"]).items():
            values = functools.partial(_values, data, kind, parts)
            constants[constant] = Constant(values, functools.partial(_bits, kind, parts))
    return output(path, _words(_first(path)), constants, spec, exact=False)


def described(path: Path) -> tuple[dict[str, Any], list[dict[str, list[str]]]]:
    """A written directory's facts for drivers, and of each part the inputs of its functions. Raises
    UnsupportedModel for assets that do not say what they compute, InvalidFile.
    """
    known = facts_of(path, _words(_first(path)))
    return known, known["functions"]


def _check(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise UsageError(f"scheme {scheme!r} is not one Core AI has; choose from {', '.join(SCHEMES)}")


def _need_coreai() -> None:
    if importlib.util.find_spec("coreai") is None:
        raise UsageError(
            "Core AI assets need coreai-core, which is not installed", hint="pip install 'edgekit[coreai]'"
        )


def _first(path: Path) -> Path:
    names = [Path(coreml.package_names(count)[0]).with_suffix(".aimodel").name for count in (1, 2)]
    return next((path / name for name in names if (path / name).is_dir()), path / names[0])


def _words(asset: Path) -> dict[str, str]:
    """The members of its metadata that edgekit wrote."""
    file = asset / "metadata.json"
    try:
        return dict(json.loads(file.read_text("utf-8"))["creatorDefinedMetadata"])
    except (OSError, ValueError, KeyError):
        raise InvalidFile(f"{file}: no metadata of a Core AI asset, or damaged ones") from None


def _places(program: Any, file: Path, tensors: set[str], function: str) -> dict[str, Any]:
    """Of each tensor the operation that decompresses it, and of its parts the type, the shape, and where how
    many of their bytes lie in an asset's program.
    """
    found = {}
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as bytes:
        for name in program.constant_names(function):
            if name.partition("_rows_")[0] in tensors:
                kind, parts = program.stored(function, name)
                places = {
                    part: [type, shape, *_place(bytes, type, data)]
                    for part, (type, shape, data) in parts.items()
                }
                found[name] = kind, places
    return found


def _place(bytes: mmap.mmap, type: int, data: Array) -> tuple[int, int]:
    """Offset and size; one number again and again is stored once."""
    from edgekit.converters.interpreters.mil import BITS

    one = data[: max(1, BITS[type] // 8)]
    stored = one if np.array_equal(data, np.resize(one, data.size)) else data
    offset = bytes.find(stored.tobytes())
    if offset < 0:
        raise AssertionError(f"{data.size} bytes of weights are not in the asset as they should be")
    return offset, stored.size


def _values(data: Array, kind: str, parts: dict[str, Any]) -> Array:
    from edgekit.converters.interpreters.mil import OPERATORS

    given = {part: _part(data, *place) for part, place in parts.items()}
    return given["val"] if kind == "const" else np.asarray(OPERATORS[kind](**given))


def _part(data: Array, type: int, shape: list[int], offset: int, size: int) -> Array:
    from edgekit.converters.interpreters.mil import BITS, unpacked

    if offset + size > data.size:
        raise InvalidFile(f"{PROGRAM} ends before byte {offset + size}", hint="convert the checkpoint again")
    whole = -(-math.prod(shape) * BITS[type] // 8)
    values = unpacked(np.resize(data[offset : offset + size], whole), type, tuple(shape))
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _bits(kind: str, parts: dict[str, Any]) -> tuple[int, bool]:
    from edgekit.converters.interpreters.mil import BITS

    codes = next(parts[part] for part in ("val", "data", "indices") if part in parts)
    return BITS[codes[0]], kind != "const"
