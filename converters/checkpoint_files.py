"""What a directory format takes over from the checkpoint as it is, and the card it gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.converters.convert import ConvertInput

COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
)


def copy_files(model: ConvertInput, out: Path) -> None:
    """Tokenizer, chat template, generation defaults and licence, those that are there."""
    directory = getattr(model.checkpoint, "path", None)
    if directory is None:
        return
    files = [Path(directory) / name for name in COPIED]
    for file in [*files, *Path(directory).glob("*.tiktoken")]:
        if file.is_file():
            shutil.copyfile(file, out / file.name)


def write_card(
    model: ConvertInput, out: Path, library: str, scheme: str, use: str, notes: Sequence[str] = ()
) -> None:
    """README.md as model hubs read it; `use` is a program that runs the directory, `notes` its limits."""
    source = model.metadata.get("source", {})
    name = source.get("name", model.spec.model_type)
    front = {"library_name": library, "pipeline_tag": "text-generation", "base_model": name}
    if source.get("license"):
        front["license"] = source["license"]
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items()]
    digest = f" (SHA-256 of the weights: `{source['sha256']}`)" if source.get("sha256") else ""
    (out / "README.md").write_text(
        "\n".join(["---", *lines, "---", "", f"# {name}, {scheme}", ""])
        + f"Converted from {name}{digest} by edgekit for {library}.\n\n```\n{use}\n```\n"
        + "".join(f"\n{note}\n" for note in notes),
        "utf-8",
    )


def flat_config(model: ConvertInput) -> dict[str, Any]:
    """The checkpoint's config with the text model's members at the top level, without another engine's
    quantization.
    """
    config = dict(model.checkpoint.config)
    config |= config.pop("text_config", None) or {}
    for name in ("vision_config", "audio_config", "quantization", "quantization_config", "auto_map"):
        config.pop(name, None)
    return config | {"model_type": model.spec.model_type}


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
