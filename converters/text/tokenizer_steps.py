"""The parts of a tokenizer.json around its model -> the steps that cpp/src/text runs.

A part or an option that the runtime lacks is refused by name: never compiled to something else.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.text.pattern import NUMERIC, PUNCTUATION, PatternCompiler
from edgekit.errors import InvalidFile, UnsupportedModel

Json = dict[str, Any]

# GPT-2's, which the ByteLevel pre-tokenizer applies unless told not to.
BYTE_LEVEL_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BEHAVIORS = ("isolated", "removed", "mergedwithprevious", "mergedwithnext", "contiguous")
SCHEMES = ("never", "first", "always")
FORMS = ("NFC", "NFKC", "NFD", "NFKD")
PREPEND, REPLACE, STRIP, CHARSMAP = range(4, 8)  # of NormalizerKind; the forms come before
SPLIT, PREFIX_SPACE, METASPACE = range(3)  # PreTokenizerKind

NORMALIZER_STEP = np.dtype(
    [
        ("kind", "<u4"),
        ("pattern", "<i4"),
        ("offset", "<u4"),
        ("size", "<u4"),
        ("left", "<u4"),
        ("right", "<u4"),
    ]
)
PRE_TOKENIZER_STEP = np.dtype(
    [
        ("kind", "<u4"),
        ("pattern", "<i4"),
        ("behavior", "<u4"),
        ("invert", "<u4"),
        ("offset", "<u4"),
        ("size", "<u4"),
    ]
)
MAX_INSERTED_BYTES, MAX_STEPS = 64, 16
LOSSY_BYTES, BYTE_RUNS, JOIN_WITH_SPACES = 1, 2, 4  # DecodeFlag


def unsupported(part: str, what: str) -> UnsupportedModel:
    return UnsupportedModel(f"the tokenizer's {part} {what} is not one edgekit has")


def flatten(part: Json | None, members: str) -> list[Json]:
    """A part, or the parts of a Sequence (whose list is called `members`), in order."""
    if part is None:
        return []
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InvalidFile(f"tokenizer.json: a part without a type: {str(part)[:80]}")
    if part["type"] == "Sequence":
        return [inner for member in part[members] for inner in flatten(member, members)]
    return [part]


def bytes_of_byte_level() -> dict[str, int]:
    """The printable character by which a byte-level vocabulary writes each byte -> the byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF_CHARACTER = bytes_of_byte_level()


def bytes_of_token(token: str) -> bytes | None:
    """The bytes that a token of a byte-level vocabulary stands for; None when a character stands for none."""
    try:
        return bytes(BYTE_OF_CHARACTER[c] for c in token)
    except KeyError:
        return None


@dataclass
class Steps:
    """Normalizers and pre-tokenizers as rows for the runtime."""

    patterns: PatternCompiler = field(default_factory=PatternCompiler)
    normalizers: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    pre_tokenizers: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    strings: bytearray = field(default_factory=bytearray)
    normalize: list[Callable[[str], str]] = field(default_factory=list)  # the normalizers, as Python
    byte_level: bool = False

    def inserted(self, text: str) -> tuple[int, int]:
        if len(text.encode()) > MAX_INSERTED_BYTES:
            raise unsupported(
                "normalizer", f"that puts in {len(text.encode())} bytes (over {MAX_INSERTED_BYTES})"
            )
        return self.string(text.encode())

    def string(self, text: bytes) -> tuple[int, int]:
        self.strings += text
        return len(self.strings) - len(text), len(text)

    def normalized(self, text: str) -> str:
        for step in self.normalize:
            text = step(text)
        return text

    def add_normalizer(self, part: Json) -> None:
        kind = part["type"]
        if kind in FORMS:
            self.normalizers.append((FORMS.index(kind), -1, 0, 0, 0, 0))
            self.normalize.append(lambda text: unicodedata.normalize(kind, text))
        elif kind == "Prepend":
            prefix = part["prepend"]
            self.normalizers.append((PREPEND, -1, *self.inserted(prefix), 0, 0))
            self.normalize.append(lambda text: prefix + text if text else text)
        elif kind == "Replace":
            regex, literal, content = (
                part["pattern"].get("Regex"),
                part["pattern"].get("String"),
                part["content"],
            )
            pattern = self.patterns.regex(regex) if literal is None else self.patterns.text(literal)
            self.normalizers.append((REPLACE, pattern, *self.inserted(content), 0, 0))
            if literal is not None:
                self.normalize.append(lambda text: text.replace(literal, content))
        elif kind == "Strip":
            left, right = int(part["strip_left"]), int(part["strip_right"])
            self.normalizers.append((STRIP, -1, 0, 0, left, right))
            self.normalize.append(
                lambda text: (text.lstrip() if left else text).rstrip(None if right else "")
            )
        elif kind == "Precompiled":
            charsmap = base64.b64decode(part["precompiled_charsmap"] or "")
            if charsmap:
                self.normalizers.append((CHARSMAP, -1, *self.string(charsmap), 0, 0))
        else:
            raise unsupported("normalizer", kind)

    def split(self, pattern: int, behavior: str, invert: bool = False) -> None:
        name = behavior.replace("_", "").lower()
        if name not in BEHAVIORS:
            raise unsupported("split behavior", behavior)
        self.pre_tokenizers.append((SPLIT, pattern, BEHAVIORS.index(name), int(invert), 0, 0))

    def add_pre_tokenizer(self, part: Json) -> None:
        kind = part["type"]
        if self.byte_level:
            raise unsupported("pre-tokenizer", f"{kind} after ByteLevel")
        if kind == "ByteLevel":
            self.byte_level = True
            if part.get("add_prefix_space", True):
                self.pre_tokenizers.append((PREFIX_SPACE, -1, 0, 0, 0, 0))
            if part.get("use_regex", True):
                self.split(self.patterns.regex(BYTE_LEVEL_REGEX), "isolated")
        elif kind == "Split":
            regex, literal = part["pattern"].get("Regex"), part["pattern"].get("String")
            pattern = self.patterns.regex(regex) if literal is None else self.patterns.text(literal)
            self.split(pattern, part["behavior"], part.get("invert", False))
        elif kind == "Metaspace":
            scheme = part.get("prepend_scheme") or (
                "always" if part.get("add_prefix_space", True) else "never"
            )
            replacement = part["replacement"]
            self.pre_tokenizers.append((METASPACE, -1, SCHEMES.index(scheme), 0, *self.inserted(replacement)))
            if part.get("split", True):
                self.split(self.patterns.text(replacement), "mergedwithnext")
        elif kind == "Digits":
            behavior = "isolated" if part["individual_digits"] else "contiguous"
            self.split(self.patterns.char_class(NUMERIC), behavior)
        elif kind == "Punctuation":
            self.split(self.patterns.char_class(PUNCTUATION), part.get("behavior", "isolated"))
        elif kind == "WhitespaceSplit":
            self.split(self.patterns.regex(r"\s"), "removed")
        else:
            raise unsupported("pre-tokenizer", kind)


@dataclass
class Decoding:
    """How tokens print: a rewriting of each token, and what the runtime does to the joined text."""

    rewrites: list[Callable[[str], str]] = field(default_factory=list)
    flags: int = 0
    strip_count: int = 0
    strip_character: str = "\0"
    first_dropped: str = "\0"

    def output(self, token: str) -> bytes:
        """What a token prints in the middle of a text."""
        if self.flags & LOSSY_BYTES:
            raw = bytes_of_token(token)
            return token.encode() if raw is None else raw
        if self.flags & BYTE_RUNS and (byte := byte_of_token(token)) is not None:
            return bytes([byte])
        for rewrite in self.rewrites:
            token = rewrite(token)
        return token.encode()


def byte_of_token(token: str) -> int | None:
    """`<0x4E>` -> 0x4E; None for any other token."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return int(token[3:5], 16)
        except ValueError:
            return None
    return None


def replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda token: token.replace(old, new)


def compile_decoder(decoder: Json | None) -> Decoding:
    decoding = Decoding()
    parts = flatten(decoder, "decoders")
    if not parts:
        decoding.flags = JOIN_WITH_SPACES
    fused = False
    for part in parts:
        kind = part["type"]
        if decoding.flags & LOSSY_BYTES:
            raise unsupported("decoder", f"{kind} after ByteLevel")
        if kind == "ByteLevel" and len(parts) == 1:
            decoding.flags |= LOSSY_BYTES
        elif kind == "ByteFallback" and not fused:
            decoding.flags |= BYTE_RUNS
        elif kind == "Fuse":
            fused = True
        elif kind == "Replace" and not fused and "String" in part["pattern"]:
            decoding.rewrites.append(replacing(part["pattern"]["String"], part["content"]))
        elif kind == "Strip" and fused and part["stop"] == 0 and not decoding.strip_count:
            decoding.strip_count, decoding.strip_character = part["start"], part["content"]
        elif kind == "Metaspace" and not fused and not decoding.rewrites:
            replacement = part["replacement"]
            scheme = part.get("prepend_scheme") or (
                "always" if part.get("add_prefix_space", True) else "never"
            )
            decoding.rewrites.append(replacing(replacement, " "))
            if scheme != "never":
                decoding.first_dropped = replacement
        else:
            raise unsupported(
                "decoder", f"{kind} as part {parts.index(part)} of {[p['type'] for p in parts]}"
            )
    return decoding


def compile_post_processor(processor: Json | None) -> tuple[list[int], list[int]]:
    """-> (ids before a text, ids after it)."""
    before: list[int] = []
    after: list[int] = []
    for part in flatten(processor, "processors"):
        kind = part["type"]
        if kind == "ByteLevel":  # concerns offsets only
            continue
        if kind == "TemplateProcessing":
            inner_before, inner_after = template_ids(part)
        elif kind in ("RobertaProcessing", "BertProcessing"):
            inner_before, inner_after = [part["cls"][1]], [part["sep"][1]]
        else:
            raise unsupported("post-processor", kind)
        before, after = inner_before + before, after + inner_after
    return before, after


def template_ids(part: Json) -> tuple[list[int], list[int]]:
    sides: tuple[list[int], list[int]] = ([], [])
    side = 0
    for piece in part["single"]:
        if "Sequence" in piece:
            side += 1
        else:
            sides[min(side, 1)].extend(part["special_tokens"][piece["SpecialToken"]["id"]]["ids"])
    if side != 1:
        raise unsupported("post-processor", f"template with {side} texts")
    return sides


def rows(steps: Sequence[tuple[int, ...]], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    return np.array(list(steps), dtype)
