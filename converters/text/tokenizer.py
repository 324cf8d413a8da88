"""A checkpoint's tokenizer -> the blob that cpp/src/text maps and uses in place.

Reads tokenizer.json; or tokenizer.model (SentencePiece, or tiktoken ranks as Llama 3 has them), or vocab.json
and merges.txt, with tokenizer_config.json and added_tokens.json beside them. What comes out encodes and
decodes as the `tokenizers` package does with the same files, id for id.
cpp/src/text/tokenizer_layout.h describes the blob.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.text import sentencepiece, tiktoken, tokenizer_config, vocab_merges
from edgekit.converters.text.json_file import read_json
from edgekit.converters.text.tokenizer_steps import (
    MAX_STEPS,
    NORMALIZER_STEP,
    PRE_TOKENIZER_STEP,
    Json,
    Steps,
    byte_of_token,
    bytes_of_token,
    compile_decoder,
    compile_post_processor,
    flatten,
    rows,
)
from edgekit.converters.text.tokenizer_tables import merge_tables, offsets, trie, vocab_table, whole_tokens
from edgekit.errors import InvalidFile, UnsupportedModel

MAGIC = b"EDGETOK\n"
VERSION = 2
ALIGNMENT = 64
MAX_VOCAB = 1 << 20
SECTIONS = (
    "config token_output output_base output_offset respellings token_flags vocab_table merge_left"
    " merge_base merge_offset merge_runs byte_ids ascii_ids scores vocab_trie added_tokens raw_trie"
    " normalized_trie normalizers pre_tokenizers patterns instructions char_classes char_ranges strings"
    " prefix_ids suffix_ids eos_ids"
).split()
BPE, UNIGRAM = 0, 1
BYTE_LEVEL, BYTE_FALLBACK, FUSE_UNK, IGNORE_MERGES = 1, 2, 4, 8  # ModelFlag
SPECIAL, PRESENT, BYTE, WHOLE, RESPELT = 1, 2, 4, 8, 16  # TokenFlag
SPACE_MARK = "\u2581"  # of SentencePiece
MOST_BEFORE_SPACES = 16  # characters after which a token may go on with a space
ADDED_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "special")  # bits of AddedTokenFlag, in order
UNK_PENALTY = 10.0  # below the lowest score, as SentencePiece has it


@dataclass(frozen=True)
class CompiledTokenizer:
    """`blob` is what the runtime maps; the rest is what the package says about it."""

    blob: bytes
    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    eos_ids: tuple[int, ...]  # every token that ends a generation, `eos_id` first


def compile_tokenizer(checkpoint_dir: Path) -> CompiledTokenizer | None:
    """None when the directory has no tokenizer.

    Raises UnsupportedModel for what the runtime lacks, InvalidFile for what is broken.
    """
    try:
        definition = read_definition(checkpoint_dir)
        if definition is None:
            return None
        return _Compiler(definition).compile(SpecialTokens.read(checkpoint_dir, definition))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InvalidFile(
            f"{checkpoint_dir}: the tokenizer's files are not what they should be: {error!r}"
        ) from error


def read_definition(checkpoint_dir: Path) -> Json | None:
    """The tokenizer as a tokenizer.json describes it, whatever file it comes from."""
    path = checkpoint_dir / "tokenizer.json"
    if path.is_file():
        definition = read_json(path)
        if not isinstance(definition.get("model"), dict):
            raise InvalidFile(f"{path}: no model in it")
        return definition
    path = checkpoint_dir / "tokenizer.model"
    if path.is_file():
        data = path.read_bytes()
        reader = tiktoken if tiktoken.looks_like(data) else sentencepiece
        return tokenizer_config.completed(reader.definition(data, path), checkpoint_dir)
    if all((checkpoint_dir / name).is_file() for name in (vocab_merges.VOCAB, vocab_merges.MERGES)):
        config = read_json(checkpoint_dir / "tokenizer_config.json")
        return tokenizer_config.completed(vocab_merges.definition(checkpoint_dir, config), checkpoint_dir)
    return None


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that a checkpoint's configuration files name, in the order of their authority."""

    bos: tuple[int, ...]
    eos: tuple[int, ...]
    pad: tuple[int, ...]

    @classmethod
    def read(cls, checkpoint_dir: Path, definition: Json) -> SpecialTokens:
        ids = dict(definition["model"]["vocab"]) if isinstance(definition["model"]["vocab"], dict) else {}
        ids |= {token["content"]: token["id"] for token in definition.get("added_tokens") or []}
        by_id = [read_json(checkpoint_dir / name) for name in ("generation_config.json", "config.json")]
        by_name = [
            read_json(checkpoint_dir / name) for name in ("tokenizer_config.json", "special_tokens_map.json")
        ]

        def found(role: str) -> tuple[int, ...]:
            out: list[int] = []
            for config in by_id:
                value = config.get(f"{role}_token_id")
                out += value if isinstance(value, list) else [] if value is None else [value]
            for config in by_name:
                value = config.get(f"{role}_token")
                name = value.get("content") if isinstance(value, dict) else value
                out += [ids[name]] if name in ids else []
            out += definition.get("roles", {}).get(role, [])
            return tuple(dict.fromkeys(id for id in out if isinstance(id, int)))

        return cls(found("bos"), found("eos"), found("pad"))


class _Compiler:
    def __init__(self, definition: Json) -> None:
        self.definition = definition
        self.model: Json = definition["model"]
        self.steps = Steps()
        for part in flatten(definition.get("normalizer"), "normalizers"):
            self.steps.add_normalizer(part)
        for part in flatten(definition.get("pre_tokenizer"), "pretokenizers"):
            self.steps.add_pre_tokenizer(part)
        if max(len(self.steps.normalizers), len(self.steps.pre_tokenizers)) >= MAX_STEPS:
            raise UnsupportedModel(f"a tokenizer of more than {MAX_STEPS - 1} normalizers or pre-tokenizers")
        self.decoding = compile_decoder(definition.get("decoder"))
        self.kind = self.model_kind()
        self.vocab = self.model_vocab()
        self.added: list[Json] = [token for token in definition.get("added_tokens") or [] if token["content"]]
        self.vocab_size = 1 + max([*self.vocab.values(), *(token["id"] for token in self.added)], default=-1)
        if not 0 < self.vocab_size < MAX_VOCAB:
            raise UnsupportedModel(
                f"a vocabulary of {self.vocab_size} tokens; edgekit takes 1 to {MAX_VOCAB - 1}"
            )
        if min([*self.vocab.values(), *(token["id"] for token in self.added)]) < 0:
            raise InvalidFile("tokenizer: a negative token id")

    def model_kind(self) -> int:
        kind = self.model.get("type")
        if kind is None:
            kind = (
                "BPE"
                if "merges" in self.model
                else "Unigram"
                if isinstance(self.model.get("vocab"), list)
                else None
            )
        if kind not in ("BPE", "Unigram"):
            raise UnsupportedModel(f"the tokenizer's model {kind} is not one edgekit has (BPE, Unigram)")
        for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
            if self.model.get(option):
                raise UnsupportedModel(
                    f"the tokenizer's model has {option} {self.model[option]!r}; edgekit has no such thing"
                )
        if kind == "Unigram" and self.steps.byte_level:
            raise UnsupportedModel("a byte-level Unigram tokenizer; edgekit has byte-level BPE only")
        return BPE if kind == "BPE" else UNIGRAM

    def model_vocab(self) -> dict[str, int]:
        if self.kind == BPE:
            return dict(self.model["vocab"])
        return {piece: id for id, (piece, _) in enumerate(self.model["vocab"])}

    def compile(self, roles: SpecialTokens) -> CompiledTokenizer:
        sections: dict[str, NDArray[Any]] = {}
        self.add_tokens(sections)
        unk = self.model.get("unk_token") if self.kind == BPE else self.model.get("unk_id")
        unk_id = self.vocab.get(unk, -1) if isinstance(unk, str) else -1 if unk is None else int(unk)
        if self.kind == BPE:
            self.add_bpe(sections)
        unk_score = self.add_unigram(sections, unk_id) if self.kind == UNIGRAM else 0.0
        self.add_added_tokens(sections)
        if self.kind == BPE:
            self.cut_before_spaces()

        inside = {
            role: tuple(id for id in getattr(roles, role) if 0 <= id < self.vocab_size)
            for role in ("bos", "eos", "pad")
        }
        bos_id, pad_id = ((inside[role] or (-1,))[0] for role in ("bos", "pad"))
        prefix, suffix = compile_post_processor(self.definition.get("post_processor"))
        model_flags = (
            self.steps.byte_level * BYTE_LEVEL
            | bool(self.model.get("byte_fallback")) * BYTE_FALLBACK
            | bool(self.model.get("fuse_unk")) * FUSE_UNK
            | bool(self.model.get("ignore_merges")) * IGNORE_MERGES
        )
        config = struct.pack(
            "<4I3i7Id",
            self.kind,
            model_flags,
            self.vocab_size,
            self.vocab_slots,
            unk_id,
            bos_id,
            pad_id,
            self.decoding.flags,
            self.decoding.strip_count,
            ord(self.decoding.strip_character),
            ord(self.decoding.first_dropped),
            *self.space_mark,
            0,
            unk_score,
        )
        sections |= {
            "config": np.frombuffer(config, np.uint8),
            "normalizers": rows(self.steps.normalizers, NORMALIZER_STEP),
            "pre_tokenizers": rows(self.steps.pre_tokenizers, PRE_TOKENIZER_STEP),
            "strings": np.frombuffer(bytes(self.steps.strings), np.uint8),
            "prefix_ids": np.array(prefix, "<i4"),
            "suffix_ids": np.array(suffix, "<i4"),
            "eos_ids": np.array(inside["eos"], "<i4"),
        } | self.steps.patterns.sections()
        first = {role: ids[0] if ids else None for role, ids in inside.items()}
        return CompiledTokenizer(
            join_sections(sections), self.vocab_size, first["bos"], first["eos"], first["pad"], inside["eos"]
        )

    def spelt(self, token: str) -> bytes | None:
        """A token of the vocabulary as the model meets it; None when it never does."""
        return bytes_of_token(token) if self.steps.byte_level else token.encode()

    def add_tokens(self, sections: dict[str, NDArray[Any]]) -> None:
        """Texts, outputs and flags of all tokens, and the table that finds the model's by text."""
        texts = [b""] * self.vocab_size
        outputs = [b""] * self.vocab_size
        self.flags = np.zeros(self.vocab_size, np.uint8)
        self.ids: dict[bytes, int] = {}  # what the model can meet
        for token, id in self.vocab.items():
            text = self.spelt(token)
            texts[id] = token.encode() if text is None else text
            outputs[id] = self.decoding.output(token)
            self.flags[id] |= PRESENT | BYTE * (byte_of_token(token) is not None)
            if text:
                self.ids[text] = id
        for added in self.added:
            # A normalized added token prints as its normalized form, and is found by it.
            shown = self.steps.normalized(added["content"]) if added["normalized"] else added["content"]
            id = added["id"]
            if not self.flags[id] & PRESENT:
                texts[id] = shown.encode()
            outputs[id] = self.decoding.output(shown)
            self.flags[id] |= PRESENT | SPECIAL * bool(added["special"])
        self.add_respellings(sections, texts, outputs)
        sections["token_output"] = np.frombuffer(b"".join(outputs), np.uint8)
        sizes = np.array([len(output) for output in outputs])
        sections["output_base"], sections["output_offset"] = offsets(sizes, "bytes")
        sections["token_flags"] = self.flags
        sections["vocab_table"], self.vocab_slots = vocab_table(list(self.ids), list(self.ids.values()))
        if self.steps.byte_level:
            byte_ids = [self.ids.get(bytes([byte]), -1) for byte in range(256)]
        else:
            byte_ids = [self.vocab.get(f"<0x{byte:02X}>", -1) for byte in range(256)]
        sections["byte_ids"] = np.array(byte_ids, "<i4")

    def add_respellings(
        self, sections: dict[str, NDArray[Any]], texts: list[bytes], outputs: list[bytes]
    ) -> None:
        """What stands in texts for the spaces of outputs, and the texts that do not follow from it."""
        mark = SPACE_MARK if self.decoding.output(SPACE_MARK) == b" " else " "
        self.space_mark = self.steps.string(b"" if mark == " " else mark.encode())
        found: list[tuple[int, int, int]] = []
        for id, (text, output) in enumerate(zip(texts, outputs, strict=True)):
            if text != output.replace(b" ", mark.encode()):
                found.append((id, *self.steps.string(text)))
                self.flags[id] |= RESPELT
        sections["respellings"] = np.array(found, "<u4").reshape(-1, 3)

    def add_bpe(self, sections: dict[str, NDArray[Any]]) -> None:
        """The merges, and which tokens need none looked up."""
        results: dict[tuple[int, int], int] = {}
        for rank, merge in enumerate(self.model["merges"]):
            first, second = merge.split(" ") if isinstance(merge, str) else merge
            try:
                pair, made = (self.vocab[first], self.vocab[second]), self.vocab[first + second]
            except KeyError as error:
                raise InvalidFile(
                    f"tokenizer: merge {rank} makes or takes {error}, which is not in the vocabulary"
                ) from error
            results.pop(pair, None)  # of a pair that is listed twice the last rank counts
            results[pair] = made
        left, right = np.array(list(results), np.int64).reshape(-1, 2).T
        result = np.array(list(results.values()), np.int64)
        sizes = np.zeros(self.vocab_size, np.int64)
        sizes[list(self.ids.values())] = [len(text) for text in self.ids]
        sections |= merge_tables(sizes[left], result, self.vocab_size)

        ascii_ids = np.full(128, -1, "<i4")
        if not self.steps.byte_level:
            ascii_ids[:] = [self.ids.get(bytes([c]), -1) for c in range(128)]
        sections["ascii_ids"] = ascii_ids
        symbols: dict[int, list[int]] = {}
        for text, id in self.ids.items():
            units = (
                [text[i : i + 1] for i in range(len(text))]
                if self.steps.byte_level
                else [c.encode() for c in text.decode()]
            )
            start = [self.ids.get(unit, -1) for unit in units]
            if -1 not in start:
                symbols[id] = start
        self.flags[list(whole_tokens(symbols, left, right, result))] |= WHOLE

    def cut_before_spaces(self) -> None:
        """Cuts text before each run of U+2581, where merges cannot tell: not after a character that one
        follows within a token.
        """
        mark = SPACE_MARK
        if self.steps.byte_level or mark not in self.vocab:
            return
        inside = {
            token[at - 1]
            for token in self.vocab
            for at in range(1, len(token))
            if token[at] == mark != token[at - 1]
        }
        drops = self.model.get("unk_token") is None and not self.model.get("byte_fallback")
        if len(inside) > MOST_BEFORE_SPACES or (inside and drops):
            return
        if inside:
            others = "".join(rf"\x{{{ord(c):X}}}" for c in sorted(inside))
            self.steps.split(self.steps.patterns.regex(f"[^{mark}{others}](?={mark})"), "mergedwithprevious")
        else:  # the same, found faster
            self.steps.split(self.steps.patterns.regex(f"{mark}+[^{mark}]*|[^{mark}]+"), "isolated")

    def add_unigram(self, sections: dict[str, NDArray[Any]], unk_id: int) -> float:
        """-> the score of an unknown character."""
        if unk_id < 0:
            raise UnsupportedModel("a Unigram tokenizer without an unknown token; edgekit needs one")
        scores = np.zeros(self.vocab_size, "<f8")
        own = np.array([score for _, score in self.model["vocab"]], np.float64)
        scores[: len(own)] = own
        sections["scores"] = scores
        sections["vocab_trie"] = trie(self.ids)
        return float(own.min()) - UNK_PENALTY

    def add_added_tokens(self, sections: dict[str, NDArray[Any]]) -> None:
        table = np.zeros(len(self.added), np.dtype([("id", "<i4"), ("flags", "<u4")]))
        raw: dict[bytes, int] = {}
        normalized: dict[bytes, int] = {}
        for i, token in enumerate(self.added):
            bits = sum(bool(token.get(name)) << bit for bit, name in enumerate(ADDED_TOKEN_FLAGS))
            table[i] = (token["id"], bits)
            if token["normalized"]:
                normalized[self.steps.normalized(token["content"]).encode()] = i
            else:
                raw[token["content"].encode()] = i
        sections["added_tokens"] = table
        sections["raw_trie"], sections["normalized_trie"] = trie(raw), trie(normalized)


def join_sections(sections: dict[str, NDArray[Any]]) -> bytes:
    """Header and sections, each on 64 bytes; an absent section is empty."""
    header_bytes = len(MAGIC) + 16 + 16 * len(SECTIONS)
    body = bytearray()
    entries: list[int] = []
    start = -header_bytes % ALIGNMENT + header_bytes
    for name in SECTIONS:
        data = sections[name].tobytes() if name in sections else b""
        entries += [start + len(body), len(data)]
        body += data + bytes(-len(data) % ALIGNMENT)
    header = MAGIC + struct.pack("<IIQ", VERSION, len(SECTIONS), start + len(body))
    header += struct.pack(f"<{len(entries)}Q", *entries)
    return header.ljust(start, b"\0") + bytes(body)
