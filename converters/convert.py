"""What every output format receives: one checkpoint, understood.

`read(path)` opens a Hugging Face checkpoint and refuses, before any work, what would be converted wrongly. A format is a
module `converters/formats/<format>.py`, found by name, with

    SUFFIX: str                     ".edge", or "" for a directory
    SCHEMES: tuple[str, ...]        what `--scheme` takes, the default first
    write(model: ConvertInput, path: Path, scheme: str, progress: Progress = ...) -> None

`write` creates `path` and never touches anything else: the caller gives it a temporary name and renames. The edge format also has
`attach(path, metadata, tensors)`, which adds what verification measured to a package already written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters import models
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.spec import ModelSpec, Source
from edgekit.converters.text.chat_template import compile_template, find_chat_template
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import UnsupportedModel

# (what is being done, steps done, steps in all)
Progress = Callable[[str, int, int], None]


def silent(task: str, done: int, total: int) -> None:
    """A `Progress` that says nothing."""


@dataclass(frozen=True)
class ConvertInput:
    """A checkpoint with its family's description, tokenizer and chat template.

    `metadata` goes into a package as it is. Its members:

        source          {"name", "model_type", "sha256": of all weights}
        license         an SPDX-like name from the model card, or absent
        eos_ids         every token that ends a text
        special_tokens  {"bos_token": "<s>", …}: what chat templates read
        generation      the checkpoint's own sampling defaults (temperature, top_k, top_p, …), or absent
    """

    spec: ModelSpec
    checkpoint: Checkpoint
    tensors: dict[str, Source]
    tokenizer: bytes | None = None
    chat_template: bytes | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def tensor(self, name: str) -> np.ndarray | None:
        """A tensor of the spec as float32, or None when this model has none of that name."""
        source = self.tensors.get(name)
        return None if source is None else self.checkpoint.source(source)
