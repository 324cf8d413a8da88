"""Texts to learn from: which files are read, what is refused, and how they are cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.converters.text.corpus import Document, documents, pieces
from edgekit.errors import InvalidFile

TALK = [{"role": "user", "content": "hi"}]


def letters(document: Document) -> list[int]:
    text = document if isinstance(document, str) else "<" + "".join(turn["content"] for turn in document)
    return [ord(letter) for letter in text]


def test_text_is_one_document_and_jsonl_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffone\ntwo\n", "utf-8")
    lines = [
        json.dumps({"text": "line\u2028still the same"}, ensure_ascii=False),
        "",
        json.dumps({"messages": TALK}),
    ]
    (tmp_path / "b.jsonl").write_text("\n".join(lines), "utf-8")
    found = list(documents([tmp_path / "a.txt", tmp_path / "b.jsonl"]))
    assert found == ["one\ntwo\n", "line\u2028still the same", TALK]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text": "fine"}\n{"prompt": "x"}', "line 2: neither `text`, nor a list of `messages`"),
        (b"[" * 100_000, "line 1: no JSON"),
        (b'{"text": 3}', "line 1: neither"),
        (b'{"messages": []}', "line 1: neither"),
        (b'{"messages": ["hi"]}', "line 1: neither"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(InvalidFile, match=said):
        list(documents([tmp_path / "bad.jsonl"]))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="cannot read it"):
        list(documents([tmp_path / "none.txt"]))


def test_pieces_cover_a_short_corpus_whole() -> None:
    text = "".join(map(chr, range(32, 122)))
    cut = pieces([text, TALK * 8], letters, length=20, tokens=1000, start=(1,))
    of_text = [piece for piece in cut if piece[0] == 1]
    assert all(len(piece) <= 20 for piece in cut)
    assert sorted(id for piece in of_text for id in piece[1:]) == list(map(ord, text))
    assert [piece for piece in cut if piece[0] != 1] == [letters(TALK * 8)]  # a template has its own start


def test_the_seed_chooses_and_the_number_of_tokens_is_kept() -> None:
    many: list[Document] = [chr(65 + i) * 50 for i in range(26)]
    first, again, other = (pieces(many, letters, length=32, tokens=100, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert sum(map(len, first)) == 100
    assert len({id for piece in first for id in piece}) > 1
