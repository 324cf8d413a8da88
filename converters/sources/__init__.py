"""Checkpoints in the layouts of other engines, read as if they were Hugging Face's: each class is a
`TensorSource`.

`open_source(path)` finds the reader. Weights come back as float32, whatever they are stored as.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgekit.converters.checkpoint import Checkpoint, read_json
from edgekit.converters.sources import _no_checkpoint
from edgekit.errors import UnsupportedModel


def open_source(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint at `path`: a GGUF file (or any part of a split one, or a directory that holds only
    that), an MLX directory, AWQ, GPTQ, compressed-tensors, MXFP4, or Hugging Face's own layout.

    Raises InvalidFile, and UnsupportedModel for a quantization that edgekit does not read.
    """
    given = Path(path)
    if gguf := _gguf_file(given):
        from edgekit.converters.sources.gguf import GgufCheckpoint

        return GgufCheckpoint(gguf)
    _no_checkpoint.refuse(given)
    directory = given if given.is_dir() else given.parent
    config = read_json(directory / "config.json") if (directory / "config.json").exists() else {}
    if "quantization" in config:
        from edgekit.converters.sources.mlx import MlxCheckpoint

        return MlxCheckpoint(given)
    quantization = _quantization(config)
    method = quantization.get("quant_method")
    if method == "gptq":
        from edgekit.converters.sources.gptq import GptqCheckpoint

        return GptqCheckpoint(given)
    if method == "awq":
        from edgekit.converters.sources.awq import AwqCheckpoint

        return AwqCheckpoint(given)
    if method == "compressed-tensors":
        from edgekit.converters.sources.compressed_tensors import reader

        return reader(quantization, given.name)(given)
    if method == "mxfp4":
        from edgekit.converters.sources.mxfp4 import Mxfp4Checkpoint

        return Mxfp4Checkpoint(given)
    if method:
        raise UnsupportedModel(
            f"{given}: quantized by {method!r}; MLX, GGUF, AWQ, GPTQ, compressed-tensors and MXFP4 are read",
            hint="take the unquantized checkpoint",
        )
    return Checkpoint(given)


def _quantization(config: dict[str, Any]) -> dict[str, Any]:
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, dict) else None
    quantization = config.get("quantization_config") or inner
    return quantization if isinstance(quantization, dict) else {}


def _gguf_file(path: Path) -> Path | None:
    if path.is_dir() and not (path / "config.json").exists():
        return _only_model(path)
    if path.suffix == ".gguf":
        return path
    if path.is_file():
        with path.open("rb") as file:
            return path if file.read(4) == b"GGUF" else None
    return None


def _only_model(directory: Path) -> Path | None:
    """The GGUF file of a directory, or the first part of its split one; None without, and for several."""
    from edgekit.converters.sources.gguf import files_of

    found = sorted(directory.glob("*.gguf"))
    return found[0] if len(found) == 1 or (found and files_of(found[0]) == found) else None
