"""Texts to learn from: files of plain text, and JSONL whose lines have `text`, `messages`, or `prompt` and
`completion`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from edgekit.errors import InvalidFile

Messages: TypeAlias = list[dict[str, Any]]
Document: TypeAlias = str | Messages

# What is tokenized at a time of a long text.
CHARACTERS = 4096
SHORTEST = 8  # tokens of a piece


def read_text(path: Path) -> str:
    """Of UTF-8. Raises InvalidFile."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidFile(f"{path}: cannot read it: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path} is not UTF-8 text: byte {error.start} is {error.reason}") from None


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each object of a JSON Lines file stands, and the object. Raises InvalidFile."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidFile(f"{where}: no JSON: {error}") from None
        if not isinstance(value, dict):
            raise InvalidFile(f"{where}: a {type(value).__name__} where an object belongs")
        yield where, value


def documents(paths: Iterable[Path]) -> Iterator[Document]:
    """Of all files: a text file is one, a `.jsonl` file has one a line. Raises InvalidFile."""
    for path in paths:
        if path.suffix == ".jsonl":
            for where, members in json_lines(path):
                yield _document(members, where)
        else:
            yield read_text(path)


def _document(members: dict[str, Any], where: str) -> Document:
    text, messages = members.get("text"), members.get("messages")
    if isinstance(text, str):
        return text
    if isinstance(messages, list) and messages and all(isinstance(each, dict) for each in messages):
        return messages
    pair = [members.get("prompt"), members.get("completion")]
    if all(isinstance(each, str) for each in pair):
        return "".join(map(str, pair))
    raise InvalidFile(
        f"{where}: neither `text`, nor a list of `messages`, nor `prompt` and `completion`: "
        f"{str(members)[:60]}",
        hint='a line is {"text": "…"} or {"messages": [{"role": "user", "content": "…"}, …]}',
    )


def pieces(
    found: Iterable[Document],
    encode: Callable[[Document], list[int]],
    *,
    length: int,
    tokens: int,
    start: Sequence[int] = (),
    seed: int = 0,
) -> list[list[int]]:
    """Token ids of about `tokens` tokens of the documents, in pieces of at most `length`: `seed` says which,
    and in which order. `encode` gives the ids of a conversation, and those of text without `start`, with
    which every piece of text begins.
    """
    parts: list[Document] = []
    for document in found:
        if isinstance(document, str):
            parts += [document[at : at + CHARACTERS] for at in range(0, len(document), CHARACTERS)]
        else:
            parts.append(document)
    random.Random(seed).shuffle(parts)
    chosen: list[list[int]] = []
    for part in parts:
        first = list(start) if isinstance(part, str) else []
        ids, step = encode(part), length - len(first)
        for at in range(0, len(ids), step):
            piece = (first + ids[at : at + step])[:tokens]
            if len(piece) >= SHORTEST:
                chosen.append(piece)
                tokens -= len(piece)
        if tokens < SHORTEST:
            break
    return chosen
