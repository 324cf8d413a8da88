"""What a written directory says of itself and holds, read back: the same for Core ML's packages and Core AI's
assets, whose constants have the names that the decoder gave them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.formats import Output, _embeddings
from edgekit.converters.formats._coreml_codes import SCHEME_OF_NAME
from edgekit.converters.spec import ModelSpec
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import UnsupportedModel


@dataclass(frozen=True)
class Constant:
    """A named constant: its values, decompressed; the bits of one as stored, and whether those are codes."""

    values: Callable[[], NDArray[Any]]
    bits: Callable[[], tuple[int, bool]]


def facts_of(path: Path, words: Mapping[str, str]) -> dict[str, Any]:
    """A directory's facts for drivers, from the metadata of one of its files. Raises UnsupportedModel."""
    known = json.loads(words["edgekit"]) if "edgekit" in words and "edgekit.spec" in words else {}
    if "packages" not in known:
        raise UnsupportedModel(
            f"{path} does not say what it should compute: edgekit did not write it, or long ago",
            hint="convert the checkpoint again",
        )
    return dict(known)


def output(
    path: Path,
    words: Mapping[str, str],
    constants: Mapping[str, Constant],
    spec: ModelSpec | None,
    *,
    exact: bool,
) -> Output:
    """Norms come without what was folded into them."""
    from edgekit.converters.formats._coreml_decoder import path_of, residual_gain

    known, told = facts_of(path, words), ModelSpec.from_json(json.loads(words["edgekit.spec"]))
    scheme = SCHEME_OF_NAME[known["scheme"]]
    gain = told.residual_scale * (residual_gain(told) if scheme.neural_engine else 1.0)
    table = _embeddings.reader(path, scheme, *told.shape("embed"))
    head = "embed" if told.tied else "head"
    compiled = compile_tokenizer(path)

    def parts(name: str) -> list[Constant]:
        """The constants that are its rows."""
        path = path_of(head if name == "head" else name)
        found = [n for n in constants if n.removeprefix(f"{path}_rows_").isdigit()]
        names = [path] if path in constants else sorted(found, key=lambda n: int(n.rpartition("_")[2]))
        return [constants[name] for name in names]

    @functools.lru_cache(1)
    def whole(name: str) -> NDArray[np.float32] | None:
        found = [part.values().astype(np.float32) for part in parts(name)]
        if not found:
            return None
        values = np.concatenate(found).reshape(told.shape(name))
        return values / np.float32(gain) if "_post_norm" in name else values

    def load(name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        if name == "embed":
            return table(slice(*rows) if rows else slice(None))
        values = whole(name)
        return values if rows is None or values is None else values[slice(*rows)]

    def layout(name: str) -> str:
        if name == "embed":
            return "q8" if scheme.bits else scheme.type.lower()
        bits, codes = parts(name)[0].bits()
        return f"{'q' if codes else 'f'}{bits}"

    return Output(
        known["scheme"],
        spec or told,
        told,
        load,
        layout,
        exact,
        compiled.blob if compiled else None,
        (known["sinks"], known["window"]),
        known["sinks"] + known["window"],
        twice=told.tied,
    )
