"""What tokenizer_config.json and its neighbours add to a tokenizer without tokenizer.json: special and added
tokens, the tokens around a text, SentencePiece's space before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.converters.text.json_file import read_json

Json = dict[str, Any]
MARK = "\u2581"
# Classes that put a space before a text only (with `legacy`: after special tokens too), and whose BPE has no
# unknown token: what neither a piece nor bytes spell vanishes.
LLAMA = ("LlamaTokenizer", "LlamaTokenizerFast")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


def completed(definition: Json, directory: Path) -> Json:
    """`definition` with what the files beside it say."""
    config = read_json(directory / "tokenizer_config.json")
    added = {token["id"]: token for token in definition["added_tokens"]}
    vocab = definition["model"]["vocab"]
    ids = dict(vocab) if isinstance(vocab, dict) else {piece: id for id, (piece, _) in enumerate(vocab)}
    ids |= {token["content"]: id for id, token in added.items()}
    for text, id in read_json(directory / "added_tokens.json").items():
        added[int(id)] = _token(int(id), text, {})
    for id, token in (config.get("added_tokens_decoder") or {}).items():
        added[int(id)] = _token(int(id), token["content"], token)
    ids |= {token["content"]: id for id, token in added.items()}
    for text in _special(read_json(directory / "special_tokens_map.json") | config):
        if text in ids:
            token = added.get(ids[text]) or _token(ids[text], text, {})
            added[ids[text]] = token | {"special": True}
    found = definition | {"added_tokens": [added[id] for id in sorted(added)]}
    found["post_processor"] = _post_processor(definition, config, ids)
    is_llama = config.get("tokenizer_class") in LLAMA
    if is_llama and definition["model"].get("type") == "BPE":
        found["model"] = definition["model"] | {"unk_token": None}
    legacy = config.get("legacy", not is_llama)
    return found if legacy else _space_before_text_only(found)


def _token(id: int, text: str, flags: Json) -> Json:
    """Texts are matched as they are written: what the normalizer does to them is unknown to these files."""
    given = {name: bool(flags.get(name)) for name in FLAGS} | {"normalized": False}
    return {"id": id, "content": text, "special": bool(flags.get("special"))} | given


def _special(config: Json) -> list[str]:
    """Texts of the tokens that have a role."""
    named = [value for name, value in config.items() if name.endswith("_token")]
    more = config.get("additional_special_tokens") or []
    texts = [value.get("content") if isinstance(value, dict) else value for value in [*named, *more]]
    return [text for text in texts if isinstance(text, str)]


def _post_processor(definition: Json, config: Json, ids: dict[str, int]) -> Json | None:
    """`add_bos_token` and `add_eos_token` count where they are given."""
    given = definition["post_processor"]
    if not isinstance(config.get("add_bos_token"), bool) and not config.get("add_eos_token"):
        return given
    roles = {}
    for role in ("bos", "eos"):
        named = _special({f"{role}_token": config.get(f"{role}_token")})
        found = [ids[text] for text in named if text in ids] or definition.get("roles", {}).get(role, [])
        roles[role] = found[:1]
    default = given is not None and any("SpecialToken" in part for part in given["single"])
    before = (
        [{"SpecialToken": {"id": "bos"}}] if config.get("add_bos_token", default) and roles["bos"] else []
    )
    after = [{"SpecialToken": {"id": "eos"}}] if config.get("add_eos_token") and roles["eos"] else []
    return {
        "type": "TemplateProcessing",
        "single": [*before, {"Sequence": {"id": "A"}}, *after],
        "special_tokens": {role: {"ids": found} for role, found in roles.items()},
    }


def _space_before_text_only(definition: Json) -> Json:
    normalizer = definition["normalizer"]
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else []
    kept = [step for step in steps if step["type"] != "Prepend"]
    if len(kept) == len(steps):
        return definition
    first = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": False}
    return definition | {"normalizer": normalizer | {"normalizers": kept}, "pre_tokenizer": first}
