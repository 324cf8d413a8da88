"""vocab.json and merges.txt (byte-level BPE) -> the tokenizer as a tokenizer.json would describe it.

The files do not say how words are cut: that belongs to the class which Transformers reads them with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.converters.text import pre_types
from edgekit.converters.text.json_file import read_json
from edgekit.converters.text.tokenizer_steps import BYTE_LEVEL_REGEX
from edgekit.errors import InvalidFile, UnsupportedModel

VOCAB, MERGES = "vocab.json", "merges.txt"
GPT2: dict[str, Any] = {"normalizer": None, "regex": BYTE_LEVEL_REGEX}
CLASSES: dict[str, dict[str, Any]] = {
    "GPT2Tokenizer": GPT2,
    "CodeGenTokenizer": GPT2,
    "Qwen2Tokenizer": {"normalizer": {"type": "NFC"}, "regex": pre_types.QWEN2},
}
CLASS_OF_MODEL_TYPE = {
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "qwen3_moe": "Qwen2Tokenizer",
    "phi": "CodeGenTokenizer",
    "starcoder2": "GPT2Tokenizer",
}


def definition(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """`config` is tokenizer_config.json. Raises UnsupportedModel for a class that edgekit does not know,
    InvalidFile for a line of merges.txt that is no pair.
    """
    vocab = read_json(directory / VOCAB)
    words = CLASSES.get(_class_name(directory, config))
    if words is None:
        raise UnsupportedModel(
            f"{directory}: {VOCAB} and {MERGES} of tokenizer_class {config.get('tokenizer_class')!r}; known: "
            + ", ".join(CLASSES),
            hint="save tokenizer.json beside them: transformers.AutoTokenizer.from_pretrained(...)"
            ".save_pretrained(...)",
        )
    prefix = bool(config.get("add_prefix_space", False))
    split = {"type": "Split", "pattern": {"Regex": words["regex"]}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    steps = [{"type": "ByteLevel", "add_prefix_space": prefix}] if prefix else [split, byte_level]
    return {
        "normalizer": words["normalizer"],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "model": {"type": "BPE", "vocab": vocab, "merges": _merges(directory / MERGES)},
        "added_tokens": [],
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
    }


def _class_name(directory: Path, config: dict[str, Any]) -> str:
    name = config.get("tokenizer_class")
    if name is None:
        name = CLASS_OF_MODEL_TYPE.get(str(read_json(directory / "config.json").get("model_type")))
    return str(name).removesuffix("Fast")


def _merges(path: Path) -> list[list[str]]:
    found = []
    for number, line in enumerate(path.read_text("utf-8", "replace").split("\n"), 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2:
            raise InvalidFile(f"{path}: line {number} is no pair of tokens: {line[:60]!r}")
        found.append(pair)
    return found
