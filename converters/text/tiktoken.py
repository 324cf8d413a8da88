"""tokenizer.model of Llama 3 (tiktoken ranks: a line of base64 bytes and rank a token) -> its tokenizer.json.

The file holds neither the regular expression nor the special tokens: they are those of Llama 3.1 and 3.2.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from edgekit.converters.text.tokenizer_steps import BYTE_OF_CHARACTER
from edgekit.errors import InvalidFile

REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_COUNT = 256
NAMED_SPECIALS = {
    0: "begin_of_text",
    1: "end_of_text",
    4: "finetune_right_pad_id",
    6: "start_header_id",
    7: "end_header_id",
    8: "eom_id",
    9: "eot_id",
    10: "python_tag",
}
CHARACTER_OF_BYTE = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}


def looks_like(data: bytes) -> bool:
    return re.match(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n", data) is not None


def spell(token: bytes) -> str:
    return "".join(CHARACTER_OF_BYTE[byte] for byte in token)


def special_tokens() -> list[str]:
    reserved = iter(range(SPECIAL_COUNT))
    names = [
        NAMED_SPECIALS.get(i) or f"reserved_special_token_{next(reserved)}" for i in range(SPECIAL_COUNT)
    ]
    return [f"<|{name}|>" for name in names]


def merges(ranks: dict[bytes, int]) -> list[list[str]]:
    """Every way to make a token of two others, the lowest rank first: what BPE by ranks would merge."""
    found: list[list[str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        cuts = [(left, right) for left, right in cuts if left in ranks and right in ranks]
        cuts.sort(key=lambda cut: (ranks[cut[0]], ranks[cut[1]]))
        found += [[spell(left), spell(right)] for left, right in cuts]
    return found


def definition(data: bytes, path: Path) -> dict[str, Any]:
    """Throws InvalidFile for a line that is not base64 and a rank."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise InvalidFile(
                f"{path}: line {number} is not a base64 token and its rank: {line[:60]!r}"
            ) from error
    first_special = max(ranks.values()) + 1
    added = [
        {
            "id": first_special + i,
            "content": content,
            "special": True,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for i, content in enumerate(special_tokens())
    ]
    return {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": REGEX}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        },
        "model": {
            "type": "BPE",
            "vocab": {spell(token): rank for token, rank in ranks.items()},
            "merges": merges(ranks),
            "ignore_merges": True,
        },
        "added_tokens": added,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "bos"}}, {"Sequence": {"id": "A"}}],
            "special_tokens": {"bos": {"ids": [first_special]}},
        },
        "decoder": {"type": "ByteLevel"},
        "roles": {"bos": [first_special], "eos": [first_special + 1, first_special + 8, first_special + 9]},
    }
