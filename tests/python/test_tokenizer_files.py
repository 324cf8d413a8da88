"""Tokenizers without tokenizer.json: tokenizer.model, vocab.json with merges.txt, and their neighbours."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.converters.text.tokenizer_steps import BYTE_OF_CHARACTER
from edgekit.errors import InvalidFile, UnsupportedModel
from edgekit.text import Tokenizer

PIECES = [
    ("<unk>", 2),
    ("<s>", 3),
    ("</s>", 3),
    ("\u2581", 1),
    ("h", 1),
    ("i", 1),
    ("hi", 1),
    ("\u2581hi", 1),
]
START, END = len(PIECES), len(PIECES) + 1
CHAT = {"<|im_start|>": START, "<|im_end|>": END}


def field(number: int, value: bytes | int) -> bytes:
    """Of a protobuf message, values below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def sentencepiece_model(directory: Path) -> None:
    """A BPE model whose longer pieces are better."""
    data = b""
    for text, kind in PIECES:
        score = bytes([2 << 3 | 5]) + struct.pack("<f", float(len(text)))
        data += field(1, field(1, text.encode()) + score + field(3, kind))
    bpe, keep_spaces = 2, 0
    data += field(2, field(3, bpe)) + field(3, field(4, keep_spaces))
    (directory / "tokenizer.model").write_bytes(data)


def encode(directory: Path, text: str) -> list[int]:
    compiled = compile_tokenizer(directory)
    assert compiled is not None
    return Tokenizer.from_bytes(compiled.blob).encode(text)


def say(directory: Path, **files: Any) -> None:
    for name, value in files.items():
        (directory / f"{name}.json").write_text(json.dumps(value))


def test_added_tokens_beside_a_sentencepiece_model(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path)
    say(tmp_path, added_tokens=CHAT, tokenizer_config={"tokenizer_class": "LlamaTokenizer"})
    text = "<|im_start|>hi<|im_end|>"
    assert encode(tmp_path, text) == [1, START, 6, END]
    (tmp_path / "added_tokens.json").unlink()
    decoder = {str(id): {"content": text, "special": True} for text, id in CHAT.items()}
    say(
        tmp_path,
        tokenizer_config={"added_tokens_decoder": decoder, "legacy": False, "eos_token": "<|im_end|>"},
    )
    assert encode(tmp_path, text) == [1, START, 6, END]
    compiled = compile_tokenizer(tmp_path)
    assert compiled is not None and compiled.eos_ids[0] == END
    say(tmp_path, tokenizer_config={"added_tokens_decoder": decoder, "legacy": True})
    assert encode(tmp_path, text) == [1, START, 7, END]  # a space after every special token


@pytest.mark.parametrize(("name", "ids"), [("LlamaTokenizer", [1, 7, 6]), ("T", [1, 7, 0, 6])])
def test_what_no_piece_spells(name: str, ids: list[int], tmp_path: Path) -> None:
    sentencepiece_model(tmp_path)
    say(tmp_path, tokenizer_config={"tokenizer_class": name})
    assert encode(tmp_path, "hi\nhi") == ids


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ({}, [1, 7]),
        ({"add_bos_token": False}, [7]),
        ({"add_bos_token": True, "add_eos_token": True}, [1, 7, 2]),
        ({"add_eos_token": True, "eos_token": {"content": "</s>"}}, [1, 7, 2]),
    ],
)
def test_tokens_around_a_text(config: dict[str, Any], ids: list[int], tmp_path: Path) -> None:
    sentencepiece_model(tmp_path)
    say(tmp_path, tokenizer_config=config)
    assert encode(tmp_path, "hi") == ids


def vocab_and_merges(directory: Path) -> dict[str, int]:
    tokens = [*BYTE_OF_CHARACTER, "hi", "12", "<|endoftext|>"]
    vocab = {text: id for id, text in enumerate(tokens)}
    say(directory, vocab=vocab)
    (directory / "merges.txt").write_text("#version: 0.2\nh i\n1 2\n")
    return vocab


@pytest.mark.parametrize(
    ("config", "model_type", "cut"),
    [
        ({"tokenizer_class": "Qwen2Tokenizer"}, "llama", True),
        ({"tokenizer_class": "GPT2TokenizerFast"}, "llama", False),
        ({}, "qwen3", True),
        ({}, "starcoder2", False),
    ],
)
def test_vocab_and_merges(config: dict[str, Any], model_type: str, cut: bool, tmp_path: Path) -> None:
    ids = vocab_and_merges(tmp_path)
    say(tmp_path, tokenizer_config=config | {"eos_token": "<|endoftext|>"}, config={"model_type": model_type})
    number = [ids["1"], ids["2"]] if cut else [ids["12"]]
    assert encode(tmp_path, "hi12<|endoftext|>") == [ids["hi"], *number, ids["<|endoftext|>"]]


def test_vocab_and_merges_of_an_unknown_class_and_broken_ones_are_refused(tmp_path: Path) -> None:
    vocab_and_merges(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"tokenizer_class None.*known: GPT2Tokenizer"):
        compile_tokenizer(tmp_path)
    say(tmp_path, tokenizer_config={"tokenizer_class": "GPT2Tokenizer"})
    (tmp_path / "merges.txt").write_text("h i\nhi\n")
    with pytest.raises(InvalidFile, match=r"merges\.txt: line 2"):
        compile_tokenizer(tmp_path)


@pytest.mark.parametrize("wrong", [5, "x", [5], {"1": 5}, {"x": {"content": "y"}}, {"1": {}}], ids=str)
@pytest.mark.parametrize("name", ["added_tokens_decoder", "additional_special_tokens", "added_tokens"])
def test_damaged_neighbours_are_invalid_or_left_out(tmp_path: Path, name: str, wrong: Any) -> None:
    sentencepiece_model(tmp_path)
    if name == "added_tokens":
        say(tmp_path, added_tokens={"<|x|>": wrong})
    else:
        say(tmp_path, tokenizer_config={name: wrong})
    with suppress(InvalidFile):
        compile_tokenizer(tmp_path)
