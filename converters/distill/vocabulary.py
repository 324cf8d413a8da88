"""A tokenizer with fewer tokens, which spells every text that it could spell before.

A BPE's merges go with their tokens. Of a token that stays, those that its merges make on the way to it stay
too: what the walk over a word's merges did before it does again, so that a text whose tokens all stay gets
the very same tokens. Other texts are spelled with smaller tokens, down to bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

from edgekit.converters.text.tokenizer_steps import byte_of_token, bytes_of_token, flatten
from edgekit.errors import UsageError

Json = dict[str, Any]
SYNONYMS = {"HAN": "CJK"}  # of a script's name in Unicode's names of characters
RESERVED = re.compile(r"<unused\d+>|\[unused\d+\]|<\|?reserved[\w ]*\|?>")  # placeholders, which no text has
SCRIPTLESS = {"COMBINING", "MODIFIER", "MICRO", "FEMININE", "MASCULINE"}  # letters that all scripts use


class Vocabulary:
    """The tokens of a tokenizer, as a tokenizer.json defines it; `rows` of a model's embedding."""

    def __init__(self, definition: Json, rows: int) -> None:
        self.definition = definition
        model = definition["model"]
        self.is_bpe = isinstance(model["vocab"], dict)
        ids = model["vocab"] if self.is_bpe else {piece: id for id, (piece, _) in enumerate(model["vocab"])}
        self.ids: dict[str, int] = {token: id for token, id in ids.items() if id < rows}
        self.added = [token for token in definition.get("added_tokens") or [] if token["id"] < rows]
        self.reserved = {token["id"] for token in self.added if RESERVED.fullmatch(token["content"])}
        self.byte_level = any(
            part["type"] == "ByteLevel" for part in flatten(definition.get("pre_tokenizer"), "pretokenizers")
        )

    def texts(self) -> dict[int, str]:
        """What each token of the model stands for; bytes that are no text of their own are "\\ufffd"."""
        if not self.byte_level:
            return {id: token for token, id in self.ids.items()}
        spelled = ((bytes_of_token(token), id, token) for token, id in self.ids.items())
        return {id: token if text is None else text.decode("utf-8", "replace") for text, id, token in spelled}

    def written_in(self, scripts: Collection[str]) -> set[int]:
        """Tokens all of whose letters belong to one of `scripts` ("latin", "cyrillic", "han", …). Raises
        UsageError for a script that no token has.
        """
        wanted = {SYNONYMS.get(name.upper(), name.upper()) for name in scripts}
        found: set[int] = set()
        seen: Counter[str] = Counter()
        for id, text in self.texts().items():
            used = {script_of(c) for c in text}
            seen.update(used)
            if "\ufffd" not in text and used <= wanted | {""}:
                found.add(id)
        if missing := wanted - seen.keys():
            known = ", ".join(name.lower() for name, _ in seen.most_common(12) if name)
            raise UsageError(
                f"no token is written in {', '.join(sorted(missing)).lower()}; this vocabulary has: {known}"
            )
        return found - self.reserved

    def indispensable(self) -> set[int]:
        """Special and other added tokens but reserved ones, bytes, and where a tokenizer has none of those
        every character.
        """
        found = {token["id"] for token in self.added} - self.reserved
        found |= {self.ids[token] for token in self._unknown() if token in self.ids}
        if self.byte_level:
            return found | {id for token, id in self.ids.items() if len(token) == 1}
        spells_bytes = all(f"<0x{byte:02X}>" in self.ids for byte in range(256))
        keep: Callable[[str], bool] = (
            (lambda token: byte_of_token(token) is not None)
            if spells_bytes
            else (lambda token: len(token) == 1)
        )
        return found | {id for token, id in self.ids.items() if keep(token)}

    def closure(self, wanted: Iterable[int], size: int | None = None) -> list[int]:
        """What is indispensable, `wanted`, and what their merges make on the way, in the student's order:
        added tokens that the model does not have come last, where the `tokenizers` package numbers them.
        With `size` the first of `wanted` that fit into so many tokens. Raises UsageError when not even the
        indispensable ones do.
        """
        found = self.indispensable()
        if size is not None and len(found) > size:
            raise UsageError(
                f"a vocabulary of {size} tokens; bytes and special tokens alone are {len(found)}"
            )
        for id in wanted:
            needed = set() if id in found else self._on_the_way(id) - found
            if size is None or len(found) + len(needed) <= size:
                found |= needed
        return sorted(found, key=lambda id: (id not in self._token_of, id))

    def _on_the_way(self, id: int) -> set[int]:
        """A token, and those that merges make before it."""
        found, left = {id}, [self._token_of.get(id, "")] if self.is_bpe else []
        while left:
            for part in _last_merge(left.pop(), self._ranks):
                made = self.ids.get(part)
                if made is not None and made not in found:
                    found.add(made)
                    left.append(part)
        return found

    @cached_property
    def _token_of(self) -> dict[int, str]:
        return {id: token for token, id in self.ids.items()}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self._merges())}

    def trimmed(self, kept: Sequence[int]) -> Json:
        """The definition with the tokens `kept` (as `closure` gives them) alone, numbered in this order."""
        new = numbering(kept)
        ids = {token: new[id] for token, id in self.ids.items() if id in new}
        model = dict(self.definition["model"])
        if self.is_bpe:
            model["vocab"] = ids
            model["merges"] = [
                list(pair)
                for pair in self._merges()
                if pair[0] in ids and pair[1] in ids and pair[0] + pair[1] in ids
            ]
        else:
            model["vocab"] = [piece for id, piece in enumerate(model["vocab"]) if id in new]
            unknown = model.get("unk_id")
            model["unk_id"] = None if unknown is None else new[unknown]
        return self.definition | {
            "model": model | {"type": "BPE" if self.is_bpe else "Unigram"},
            "added_tokens": [token | {"id": new[token["id"]]} for token in self.added if token["id"] in new],
            "post_processor": renumbered(self.definition.get("post_processor"), new),
            "padding": renumbered(self.definition.get("padding"), new),
        }

    def _unknown(self) -> list[str]:
        model = self.definition["model"]
        if self.is_bpe:
            return [model["unk_token"]] if isinstance(model.get("unk_token"), str) else []
        return [] if model.get("unk_id") is None else [model["vocab"][model["unk_id"]][0]]

    def _merges(self) -> list[tuple[str, str]]:
        pairs = (
            merge.split(" ") if isinstance(merge, str) else merge
            for merge in self.definition["model"]["merges"]
        )
        return [(first, second) for first, second in pairs]


def numbering(kept: Sequence[int]) -> dict[int, int]:
    """The teacher's id of each token -> the student's."""
    return {old: number for number, old in enumerate(kept)}


def renumbered(value: Any, new: Mapping[int, int]) -> Any:
    """A part of a tokenizer.json, or a config, with the token ids in it renumbered. Tokens that are gone are
    left out of lists, and None alone.
    """

    def translated(ids: Any) -> Any:
        if isinstance(ids, list):
            return [new[id] for id in ids if id in new]
        return new.get(ids) if type(ids) is int and ids >= 0 else ids

    if isinstance(value, list):
        return [renumbered(member, new) for member in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, member in value.items():
        if key in ("id", "ids") or key.endswith(("token_id", "token_ids", "pad_id")):
            found[key] = translated(member)
        elif key in ("sep", "cls") and isinstance(member, list):  # Bert's: ["</s>", 2]
            found[key] = [member[0], new.get(member[1])]
        else:
            found[key] = renumbered(member, new)
    return found


@cache
def script_of(character: str) -> str:
    """The script of a letter or mark, as Unicode's names begin ("LATIN", "CJK"); "" for what has none."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    first = re.match("[A-Z]+", unicodedata.name(character, ""))
    return "" if first is None or first[0] in SCRIPTLESS else first[0]


def _last_merge(token: str, ranks: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """The two tokens of which merges make `token` in the end; () when they do not make it."""
    parts = list(token)
    while len(parts) > 2:
        rank, at = min((ranks.get(pair, len(ranks)), i) for i, pair in enumerate(pairwise(parts)))
        if rank == len(ranks):
            return ()
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return tuple(parts) if len(parts) == 2 and tuple(parts) in ranks else ()
