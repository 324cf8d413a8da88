"""What callers pass, checked. Every function raises UsageError: what is wrong, and the value seen."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgekit.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer

Message: TypeAlias = Mapping[str, Any]
TokenIds: TypeAlias = "Iterable[int] | npt.NDArray[np.integer[Any]]"
MAX_ID = np.iinfo(np.int32).max


def utf8(text: str, what: str = "the text") -> bytes:
    if not isinstance(text, str):
        raise UsageError(f"{what} is {_kind(text)}; give a str")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{what} is not valid Unicode: a lone surrogate at character {error.start}"
        ) from None


def texts(values: str | Iterable[str] | None, what: str) -> list[str]:
    """One text, several or none, as a list."""
    if values is None:
        return []
    found = [values] if isinstance(values, str) else _listed(values, f"{what} is one text or several")
    for value in found:
        utf8(value, what)
    return found


def name(value: str | os.PathLike[str], what: str = "the name") -> str:
    """Of a file, a model or a checkpoint."""
    found = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(found, str):
        raise UsageError(f"{what} is {value!r}; give a str or a Path")
    return found


def path(value: str | os.PathLike[str]) -> str:
    """A name that the core takes: in UTF-8."""
    found = name(value, "the path")
    if b"\0" in utf8(found, "the path"):
        raise UsageError(f"the path is {found!r}; a path has no zero byte")
    return found


def integer(value: int, what: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{what} is {value!r}; give a whole number") from None


def count(value: int, what: str) -> int:
    """A whole number, 0 or more, that fits 64 bits."""
    found = integer(value, what)
    if not 0 <= found < 1 << 64:
        raise UsageError(f"{what} is {found}; give 0 or more" + (", below 2^64" if found > 0 else ""))
    return found


def switch(value: bool, what: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise UsageError(f"{what} is {value!r}; give True or False")
    return bool(value)


def number(value: float, what: str) -> float:
    if isinstance(value, (str, bytes)):
        raise UsageError(f"{what} is {value!r}; give a number")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{what} is {value!r}; give a number") from None


def token_ids(ids: TokenIds, wanted: str = "token ids are a list of integers") -> npt.NDArray[np.int32]:
    """int32 `[n]`."""
    given = ids if isinstance(ids, np.ndarray) else _listed(ids, wanted)
    try:
        array = np.asarray(given)
    except ValueError:  # rows of several lengths
        raise UsageError("token ids are nested lists; give one list of integers") from None
    if array.size == 0:
        return np.empty(0, np.int32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UsageError(
            f"token ids are {array.dtype} of shape {list(array.shape)}; give one list of integers"
        )
    if array.min() < 0 or array.max() > MAX_ID:
        raise UsageError(
            f"a token id is {array.min() if array.min() < 0 else array.max()}; ids lie in the vocabulary"
        )
    return np.ascontiguousarray(array, dtype=np.int32)


def logit_bias(values: Mapping[int, float] | None) -> list[tuple[int, float]]:
    if not isinstance(values or {}, Mapping):
        raise UsageError(f"logit_bias is {_kind(values)}; give a dict of token id to number")
    found = []
    for id, value in (values or {}).items():
        if not 0 <= integer(id, "an id of logit_bias") <= MAX_ID:
            raise UsageError(f"an id of logit_bias is {id}; ids lie in the vocabulary")
        found.append((int(id), number(value, "a value of logit_bias")))
    return found


def is_messages(prompt: object) -> bool:
    """A conversation, as opposed to text or token ids. Raises UsageError for one message alone."""
    if isinstance(prompt, Mapping):
        raise UsageError("the prompt is one message; messages are a list of them: [message]")
    return (
        isinstance(prompt, Sequence)
        and not isinstance(prompt, (str, bytes))
        and len(prompt) > 0
        and isinstance(prompt[0], Mapping)
    )


def messages(given: Iterable[Message]) -> list[Message]:
    """A conversation."""
    listed = _listed(given, "messages are a list of dicts with role and content")
    for message in listed:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(f"a message is {message!r}; give a dict with role and content")
    return listed


def chat_context(
    conversation: Iterable[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    variables: Mapping[str, Any],
) -> dict[str, Any]:
    """What a chat template reads."""
    listed = messages(conversation)
    if not isinstance(variables, Mapping):
        raise UsageError(f"template_variables are {_kind(variables)}; give a dict")
    listed_tools = {} if tools is None else {"tools": _listed(tools, "tools are a list of dicts")}
    return {**variables, "messages": listed} | listed_tools


def blob(data: Buffer) -> memoryview:
    try:
        return memoryview(data)
    except TypeError:
        raise UsageError(f"the data is {_kind(data)}; give bytes") from None


def json_utf8(value: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the conversation cannot be written as JSON: {error}") from None
    return utf8(text, "the conversation")


def _listed(values: Iterable[Any], wanted: str) -> list[Any]:
    if isinstance(values, (str, bytes, bytearray, memoryview, Mapping)):
        raise UsageError(f"{wanted}; this is {_kind(values)}")
    try:
        return list(values)
    except TypeError:
        raise UsageError(f"{wanted}; this is {_kind(values)}") from None


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
