"""A package and its companion in one folder: texts begin on the processor and move to a Core ML package or a
Core AI asset of the same checkpoint once that is loaded (docs/apple-device.md).

    model.edge          tokenizer, chat template, quality and golden vectors of both
    companion.json      what drives the companion
    coreml or coreai    its packages and embeddings.bin
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.conversion import ConvertReport, convert
from edgekit.converters import formats
from edgekit.errors import UsageError
from edgekit.files import bytes_of
from edgekit.in_place_of import in_place_of

FORMATS = ("coreml", "coreai")
MODEL, FACTS = "model.edge", "companion.json"


def convert_pair(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    companion: str,
    companion_scheme: str | None = None,
    **options: Any,
) -> tuple[ConvertReport, ConvertReport]:
    """Writes the folder `out`; both are converted and verified as alone, `options` being those of the `.edge`
    package. The reports are of the package and of its companion.

    Raises what `convert` does; `out` is then as it was.
    """
    if companion not in FORMATS:
        raise UsageError(f"companion is {companion!r}; choose one of: {', '.join(FORMATS)}")
    target = Path(out)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"{target} is there already; give another name, or remove it first")
    shared = {name: options[name] for name in ("verify", "threads", "progress", "warn") if name in options}
    with in_place_of(target) as folder:
        folder.mkdir()
        own = convert(checkpoint, folder / MODEL, **options)
        beside = folder / companion
        other = convert(checkpoint, beside, format=companion, scheme=companion_scheme, **shared)
        facts, _ = formats.named(companion).described(beside)  # type: ignore[attr-defined]
        for file in beside.iterdir():
            if file.name not in (*facts["packages"], "embeddings.bin"):  # what the package has
                file.unlink()
        (folder / FACTS).write_text(json.dumps({"format": companion, **facts}), "utf-8")
    return (
        replace(own, path=str(target / MODEL)),
        replace(other, path=str(target / companion), bytes=bytes_of(target / companion)),
    )
