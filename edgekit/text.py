"""Tokenizer and chat template, as packages hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit import arguments
from edgekit.arguments import TokenIds
from edgekit.runtimes import _edgekit

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Tokenizer:
    """Text to token ids and back. Safe to share between threads."""

    def __init__(self, native: _edgekit.Tokenizer) -> None:
        self._native = native
        info = native.info()
        self.vocab_size: int = info["vocab_size"]
        self.bos_id: int | None = _id(info["bos_id"])
        self.eos_id: int | None = _id(info["eos_id"])
        self.pad_id: int | None = _id(info["pad_id"])

    @classmethod
    def from_bytes(cls, blob: Buffer) -> Tokenizer:
        """Opens a compiled tokenizer (a copy is kept). Raises InvalidFile."""
        return cls(_edgekit.Tokenizer(arguments.blob(blob)))

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids. `add_special_tokens`: add BOS and the like; `parse_special`: recognise "<|eot|>" in the
        text.
        """
        return self._native.encode(arguments.utf8(text), bool(add_special_tokens), bool(parse_special))

    def decode(self, ids: TokenIds, skip_special_tokens: bool = False) -> str:
        """Text; bytes that are not UTF-8 become U+FFFD, ids outside the vocabulary nothing."""
        return self._native.decode(arguments.token_ids(ids).tolist(), bool(skip_special_tokens))

    def token_bytes(self, id: int) -> bytes:
        """The bytes one token stands for; they may be a part of a code point."""
        return self._native.token_bytes(int(arguments.token_ids([id])[0]))

    def token_to_id(self, text: str) -> int | None:
        """The id of a token's exact text, or None."""
        return _id(self._native.token_to_id(arguments.utf8(text)))


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, native: _edgekit.ChatTemplate) -> None:
        self._native = native

    @classmethod
    def from_bytes(cls, blob: Buffer) -> ChatTemplate:
        """Opens a compiled template (a copy is kept). Raises InvalidFile."""
        return cls(_edgekit.ChatTemplate(arguments.blob(blob)))

    def render(self, context: Mapping[str, Any]) -> str:
        """The text for `context` ("messages", "tools", "bos_token", …). Raises TemplateError."""
        return self._native.render(arguments.json_utf8(context))

    def encode(
        self, tokenizer: Tokenizer, context: Mapping[str, Any], package: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Token ids of the text for `context` and `package`, the variables that are the package's own
        ("bos_token", …). Only what the template and the package write becomes special tokens, what `context`
        says never does. Raises TemplateError.
        """
        encoded = arguments.json_utf8(context), arguments.json_utf8(package or {})
        return self._native.encode(tokenizer._native, *encoded)


def _id(value: int) -> int | None:
    return None if value < 0 else value
