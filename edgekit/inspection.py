"""What is inside a package or another output of `edgekit convert`, by what it says about itself."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

from edgekit.converters import convert, formats, models
from edgekit.converters.checkpoint import TensorSource
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats import edge
from edgekit.converters.sources import open_source
from edgekit.converters.sources.gguf import GgufCheckpoint
from edgekit.converters.spec import ModelSpec
from edgekit.converters.text.chat_template import find_chat_template
from edgekit.files import bytes_of


def describe(path: Path) -> dict[str, Any]:
    """Of every format: `format`, `scheme`, `file_bytes`, `n_parameters`, `bits_per_weight` (over the whole
    output), `source` (name, licence and hash of the checkpoint, as far as they are told), `spec`, `eos_ids`,
    `special_tokens`, `generation`, the bytes of tokenizer and chat template or None, and `tensors` (name,
    shape, layout). A `.edge` package also tells its calibration and quality, and the bytes of each tensor.

    Raises InvalidFile, UnsupportedModel.
    """
    name = formats.format_of(path)
    return _package(path) if name == "edge" else _output(path, name)


def cache_bytes(path: Path, tokens: int) -> tuple[int, int]:
    """(tokens, bytes): of a text of `tokens` tokens, how many an output's engine keeps, and what their keys
    and values take; `tokens` is at most the model's context.
    """
    name = formats.format_of(path)
    format, output = formats.named(name), formats.read_back(name, path)
    kept = min(tokens, output.told.context or tokens, sum(output.cache or (tokens,)))
    model = ConvertInput(output.told, cast(TensorSource, None), {})  # its shape is what counts
    if name in ("mlx", "gguf"):  # and the type of its floats
        written = models.open_model(open_source(path))
        model = ConvertInput(output.told, written.source, written.tensors)
    options = {"opset_only": True} if name == "onnx" and output.cache else {}
    return kept, int(format.cache_bytes(model, output.scheme, kept, **options))


def _output(path: Path, name: str) -> dict[str, Any]:
    output = formats.read_back(name, path)
    spec: ModelSpec = output.told
    tensors: list[dict[str, Any]] = [
        {"name": each, "shape": list(spec.shape(each)), "layout": output.layout(each)}
        for each in spec.matrices()
    ]
    parameters = sum(math.prod(row["shape"]) for row in tensors)
    size = bytes_of(path)
    checkpoint = GgufCheckpoint(path) if name == "gguf" else None
    folder = checkpoint.path if checkpoint else path  # where tokenizer and templates lie
    template = find_chat_template(folder)
    return {
        "path": str(path),
        "format": name,
        "scheme": output.scheme,
        "file_bytes": size,
        "n_parameters": parameters,
        "bits_per_weight": 8 * size / parameters,
        "source": _told_by_keys(checkpoint) if checkpoint else _told_by_card(folder),
        "spec": spec.to_json(),
        "tokenizer_bytes": len(output.tokenizer) if output.tokenizer else None,
        "chat_template_bytes": len(template["default"].encode()) if "default" in template else None,
        **convert.describe(folder, checkpoint.config if checkpoint else {}, spec.vocab_size),
        "tensors": tensors,
    }


def _told_by_card(folder: Path) -> dict[str, str]:
    """Of the front matter of README.md."""
    card = folder / "README.md"
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    words = dict(re.findall(r"^(base_model|license):\s*['\"]?(.+?)['\"]?\s*$", front, re.MULTILINE))
    hashed = re.search(r"SHA-256 of the weights: `([0-9a-f]{64})`", text)
    found = {"name": words.get("base_model"), "license": words.get("license"), "sha256": hashed and hashed[1]}
    return {key: value for key, value in found.items() if value}


def _told_by_keys(checkpoint: GgufCheckpoint) -> dict[str, str]:
    keys = {"name": "general.name", "license": "general.license"}
    return {ours: str(checkpoint.keys[theirs]) for ours, theirs in keys.items() if theirs in checkpoint.keys}


def _package(path: Path) -> dict[str, Any]:
    """Everything a package says about itself, from its header alone."""
    entries, data_offset = edge.read_header(path)
    metadata = edge.decode_metadata(entries.pop("__metadata__"))
    matrices, spec = metadata["matrices"], ModelSpec.from_json(metadata["spec"])
    tensors = []
    parameters = 0
    for name, entry in entries.items():
        first, last = entry["data_offsets"]
        row: dict[str, Any] = {"name": name, "bytes": last - first, "sha256": metadata["sha256"].get(name)}
        if name in matrices:
            n, k = row["shape"] = matrices[name]["shape"]
            row["layout"] = matrices[name]["layout"]
            row["bits_per_weight"] = 8 * row["bytes"] / (n * k)
            parameters += n * k
        elif entry["dtype"] == "F32":
            row["shape"], row["layout"] = list(spec.shape(name)), "f32 vector"
            parameters += math.prod(row["shape"])
        else:
            row["layout"] = "compiled"
        tensors.append(row)
    weight_bytes = sum(row["bytes"] for row in tensors if row["layout"] != "compiled")
    file_bytes = path.stat().st_size
    return {
        "path": str(path),
        "format": "edge",
        "format_version": int(metadata["version"]),
        "scheme": metadata["scheme"],
        "file_bytes": file_bytes,
        "header_bytes": data_offset,
        "weight_bytes": weight_bytes,
        "n_parameters": parameters,
        "bits_per_weight": 8 * file_bytes / parameters,
        "weight_bits_per_weight": 8 * weight_bytes / parameters,
        "source": metadata.get("source"),
        "spec": metadata["spec"],
        "tokenizer_bytes": _bytes_of(tensors, "tokenizer"),
        "chat_template_bytes": _bytes_of(tensors, "chat_template"),
        "eos_ids": metadata.get("eos_ids"),
        "special_tokens": metadata.get("special_tokens"),
        "generation": metadata.get("generation"),
        "calibration": metadata.get("calibration"),
        "quality": metadata.get("quality"),
        "golden": "golden" in metadata,
        "tensors": tensors,
    }


def _bytes_of(tensors: list[dict[str, Any]], name: str) -> int | None:
    return next((row["bytes"] for row in tensors if row["name"] == name), None)
