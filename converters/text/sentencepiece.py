"""tokenizer.model of SentencePiece (BPE or Unigram) -> the tokenizer as a tokenizer.json would describe it.

The file is one protobuf message, ModelProto of github.com/google/sentencepiece; the few fields that matter
are read here.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import InvalidFile, UnsupportedModel

MARK = "\u2581"  # stands for a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # SentencePiece.Type
UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    type: int


def varint(data: bytes, at: int) -> tuple[int, int]:
    """-> (value, offset after it)."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number of more than 64 bits")


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protobuf message: int for varints, bytes for all else."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        wire = key & 7
        if wire == 0:
            value: Any
            value, at = varint(message, at)
        else:
            if wire == 2:
                size, at = varint(message, at)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise ValueError(f"wire type {wire}")
            value = message[at : at + size]
            if len(value) != size:
                raise ValueError("truncated")
            at += size
        yield key >> 3, value


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def read_piece(message: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for number, value in fields(message):
        if number == 1:
            text = value.decode()
        elif number == 2:
            score = struct.unpack("<f", value)[0]
        elif number == 3:
            kind = value
    return Piece(text, score, kind)


def merges(pieces: list[Piece]) -> list[list[str]]:
    """Every way to make a piece of two others, the best score first: what BPE by scores would merge."""
    ids = {piece.text: id for id, piece in enumerate(pieces) if piece.type in (NORMAL, USER_DEFINED, UNUSED)}
    found: list[tuple[float, str, str]] = []
    for piece in pieces:
        if piece.type != NORMAL:
            continue
        cuts = [(piece.text[:i], piece.text[i:]) for i in range(1, len(piece.text))]
        cuts = [(left, right) for left, right in cuts if left in ids and right in ids]
        cuts.sort(key=lambda cut: (ids[cut[0]], ids[cut[1]]))
        found += [(-piece.score, left, right) for left, right in cuts]
    found.sort(key=lambda merge: merge[0])
    return [[left, right] for _, left, right in found]


def definition(data: bytes, path: Path) -> dict[str, Any]:
    """Throws InvalidFile for what is no ModelProto, UnsupportedModel for word and character models."""
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for number, value in fields(data):
            if number == 1:
                pieces.append(read_piece(value))
            elif number == 2:
                trainer = dict(fields(value))
            elif number == 3:
                normalizer = dict(fields(value))
    except (ValueError, IndexError, TypeError, struct.error) as error:
        raise InvalidFile(f"{path}: neither a SentencePiece model nor tiktoken ranks: {error}") from error
    if not pieces:
        raise InvalidFile(f"{path}: a SentencePiece model without pieces")
    kind = trainer.get(3, UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        raise UnsupportedModel(
            f"{path}: SentencePiece model type {kind}; edgekit reads 1 (Unigram) and 2 (BPE)"
        )

    dummy_prefix = bool(normalizer.get(3, 1))
    charsmap = normalizer.get(2, b"")
    steps: list[dict[str, Any]] = []
    if charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})
    if normalizer.get(4, 1):  # remove_extra_whitespaces
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if dummy_prefix:
        steps.append({"type": "Prepend", "prepend": MARK})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": MARK})

    unk_id = next((id for id, piece in enumerate(pieces) if piece.type == UNKNOWN), None)
    roles = {
        role: [id] if 0 <= (id := signed(trainer.get(number, default))) < len(pieces) else []
        for role, number, default in (("bos", 41, 1), ("eos", 42, 2), ("pad", 43, (1 << 64) - 1))
    }
    model: dict[str, Any] = {"byte_fallback": any(piece.type == BYTE for piece in pieces)}
    if kind == BPE:
        model |= {
            "type": "BPE",
            "vocab": {piece.text: id for id, piece in enumerate(pieces)},
            "merges": merges(pieces),
            "unk_token": None if unk_id is None else pieces[unk_id].text,
            "fuse_unk": True,
        }
    else:
        model |= {
            "type": "Unigram",
            "vocab": [[piece.text, piece.score] for piece in pieces],
            "unk_id": unk_id,
        }
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    begin = [{"SpecialToken": {"id": "bos", "type_id": 0}}] if roles["bos"] else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "model": model,
        "added_tokens": [
            {
                "id": id,
                "content": piece.text,
                "special": piece.type != USER_DEFINED,
                "normalized": False,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
            }
            for id, piece in enumerate(pieces)
            if piece.type in (UNKNOWN, CONTROL, USER_DEFINED)
        ],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"bos": {"ids": roles["bos"]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders},
        "roles": roles,
    }
