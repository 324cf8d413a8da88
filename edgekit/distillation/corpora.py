"""Texts by what they are called: a file, or a data set of Hugging Face, which becomes one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit import hub
from edgekit.converters.convert import Progress, silent
from edgekit.errors import IoFailure, UnsupportedModel, UsageError
from edgekit.in_place_of import in_place_of

DATASET = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<config>[\w.-]+))?(?::(?P<split>[\w.-]+))?")
MEMBERS = ("text", "messages", "prompt", "completion")


def resolve(name: str, n_bytes: int, progress: Progress = silent) -> Path:
    """The file `name`; or "owner/data", "owner/data@config:split" (by default "train"): about the first
    `n_bytes` of it, as JSON Lines in edgekit's cache. Raises UnsupportedModel without the package `datasets`,
    UsageError for a data set without text, IoFailure.
    """
    found = DATASET.fullmatch(name)
    if Path(name).exists() or found is None or name.endswith((".txt", ".jsonl")):
        return Path(name)
    key = hashlib.sha256(f"{name} {n_bytes}".encode()).hexdigest()[:16]
    path = hub.home() / "datasets" / f"{found['id'].replace('/', '--')}-{key}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_place_of(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            written = 0
            for sample in _samples(found["id"], found["config"], found["split"] or "train"):
                progress(f"reading {name}", min(written, n_bytes), n_bytes)
                written += file.write(json.dumps(sample, ensure_ascii=False) + "\n")
                if written >= n_bytes:
                    break
            if not written:
                raise UsageError(f"{name} has none of {', '.join(MEMBERS)}", hint="choose another data set")
    return path


def _samples(id: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UnsupportedModel(
            f"there is no file {id!r}, and data sets need the package datasets, which is not installed",
            hint="pip install datasets, or give a file",
        ) from None
    try:
        for row in load_dataset(id, config, split=split, streaming=True):
            sample = {name: row[name] for name in MEMBERS if row.get(name) is not None}
            if sample:
                yield sample
    except (OSError, ValueError, RuntimeError) as error:
        raise IoFailure(f"the data set {id}: {str(error).splitlines()[0][:200]}") from None
