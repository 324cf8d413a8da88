"""What a model learns from and is measured on: files of text, as token ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.converters.text.corpus import json_lines, read_text
from edgekit.errors import InvalidFile, UsageError

PIECE = 2000  # characters of a text that is measured in pieces
Encode = Callable[[str], "list[int]"]
Render = Callable[["list[dict[str, Any]]"], "list[int]"]  # messages as a chat template writes them


@dataclass(frozen=True)
class Window:
    """A text to learn from: token ids, and the place of the first that is to be learned."""

    ids: tuple[int, ...]
    first: int = 1


def read(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Samples: {"text"}, {"messages"} or {"prompt", "completion"}; a file that is not .jsonl is one text.
    Raises InvalidFile for what is none of these, UsageError when there is nothing in them.
    """
    any_text = False
    for path in paths:
        for sample in _samples(path) if path.suffix == ".jsonl" else [{"text": read_text(path)}]:
            any_text = any_text or any(sample.values())
            yield sample
    if not any_text:
        raise UsageError("there is no text in the files given")


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    for where, sample in json_lines(path):
        if not (
            isinstance(sample.get("text"), str)
            or isinstance(sample.get("messages"), list)
            or (isinstance(sample.get("prompt"), str) and isinstance(sample.get("completion"), str))
        ):
            raise InvalidFile(f"{where} has neither 'text', nor 'messages', nor 'prompt' and 'completion'")
        yield sample


def pieces(text: str) -> list[str]:
    """The text in pieces of about PIECE characters that end where a word does, none of them empty."""
    found = re.findall(rf"(?s).{{1,{PIECE}}}(?:(?=\s)|\Z)|.{{1,{PIECE}}}", text)
    return [piece for piece in found if piece.strip()]


def texts_of(sample: dict[str, Any]) -> list[str]:
    """What people wrote in a sample, without the marks of a chat between."""
    if "messages" in sample:
        contents = (message.get("content") for message in sample["messages"] if isinstance(message, dict))
        return [content for content in contents if isinstance(content, str)]
    return [sample["text"]] if "text" in sample else [sample["prompt"], sample["completion"]]


def whole(paths: Iterable[Path]) -> str:
    """All that people wrote in files, as one text."""
    return "\n".join(text for sample in read(paths) for text in texts_of(sample))


def windows(
    samples: Iterable[dict[str, Any]],
    encode: Encode,
    render: Render | None,
    *,
    length: int,
    around: tuple[Sequence[int], Sequence[int]],
) -> list[Window]:
    """Of at most `length` tokens. Texts and conversations are put one after another, and cut; `around` is
    what goes before every window and after every text. A completion has a window of its own, and only it is
    learned. Raises UsageError when there is nothing to learn.
    """
    before, after = around
    stream: list[int] = []
    found = []
    for sample in samples:
        if "messages" in sample:
            if render is None:
                raise UsageError("a sample has 'messages', and the teacher has no chat template")
            stream += [*render(sample["messages"]), *after]
        elif "text" in sample:
            stream += [id for piece in pieces(sample["text"]) for id in encode(piece)] + list(after)
        else:
            prompt = [*before, *encode(sample["prompt"])]
            ids = [*prompt, *encode(sample["completion"]), *after][:length]
            if len(prompt) < len(ids):
                found.append(Window(tuple(ids), max(1, len(prompt))))
    room = length - len(before)
    cut = (tuple(before) + tuple(stream[at : at + room]) for at in range(0, len(stream), room))
    found += [Window(ids) for ids in cut if len(ids) > 1]
    if not found:
        raise UsageError("there is nothing to learn in the text given: it has fewer than two tokens")
    return found
