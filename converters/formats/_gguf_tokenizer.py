"""tokenizer.json as GGUF metadata: the keys after `tokenizer.`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekit.converters.convert import ConvertInput
from edgekit.converters.text import pre_types, tokenizer, tokenizer_steps
from edgekit.converters.text.chat_template import find_chat_template
from edgekit.converters.text.json_file import read_json
from edgekit.errors import InvalidFile, UnsupportedModel

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_CASES_SPELLED = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
# GGUF has no place for what a special token takes from the text around it. llama.cpp goes by the name of the
# model: in Phi-3's all but a few take the spaces that follow. Beside that we write keys of our own.
SIDES = ("lstrip", "rstrip")
_PHI3_NAMES = ("phi-3", "phi3")
_PHI3_EXCEPTIONS = ("<unk>", "<s>", "<|endoftext|>")


def strips(keys: dict[str, Any], tokens: list[str], types: list[int]) -> dict[str, frozenset[int]]:
    """Side -> ids of the tokens that take the spaces on that side, as a file's keys have it."""
    own = {side: keys.get(f"tokenizer.edgekit.{side}_ids") for side in SIDES}
    if any(own.values()):
        return {side: frozenset(ids or ()) for side, ids in own.items()}
    named = _is_phi3(str(keys.get("general.name")))
    return {"lstrip": frozenset(), "rstrip": _phi3_rstrip(tokens, types) if named else frozenset()}


def model_name(name: str, words: dict[str, Any]) -> str:
    """`name`, such that llama.cpp strips the spaces after special tokens as this tokenizer does, where it
    can. `words` is `metadata`'s.
    """
    strips = words.get("edgekit.rstrip_ids")
    if not strips or _is_phi3(name):
        return name
    as_phi3 = _phi3_rstrip(words["ggml.tokens"], words["ggml.token_type"])
    return f"{name} (Phi-3)" if as_phi3 == frozenset(strips) else name


def _is_phi3(name: str) -> bool:
    return any(part in name.lower() for part in _PHI3_NAMES)


def _phi3_rstrip(tokens: list[str], types: list[int]) -> frozenset[int]:
    special = (CONTROL, UNKNOWN, USER_DEFINED)
    return frozenset(
        id
        for id, text in enumerate(tokens)
        if (types[id] in special or text == "</s>") and text not in _PHI3_EXCEPTIONS
    )


def metadata(model: ConvertInput) -> dict[str, Any]:
    """Raises UnsupportedModel for a tokenizer that llama.cpp would run otherwise."""
    directory = getattr(model.checkpoint, "path", None)
    definition = tokenizer.read_definition(Path(directory)) if directory is not None else None
    if directory is None or definition is None:
        return {"ggml.model": "none"}
    try:
        found = _vocabulary(definition, model.spec.vocab_size)
        before, after = tokenizer_steps.compile_post_processor(definition.get("post_processor"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidFile(f"{directory}: tokenizer.json is not what it should be: {error!r}") from error
    config = read_json(Path(directory) / "tokenizer_config.json")
    by_text = {text: id for id, text in enumerate(found["ggml.tokens"])}
    for key, name in (
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("unk_token", "unknown"),
        ("pad_token", "padding"),
    ):
        text = model.metadata.get("special_tokens", {}).get(key)
        if text in by_text:
            found[f"ggml.{name}_token_id"] = by_text[text]
    eos = model.metadata.get("eos_ids") or []
    if eos:
        found.setdefault("ggml.eos_token_id", eos[0])
        others = [id for id in eos if id != found["ggml.eos_token_id"]]
        for role, id in zip(("eot", "eom"), others, strict=False):  # of a turn, of a message
            found[f"ggml.{role}_token_id"] = id
    add_bos = config.get("add_bos_token")
    found["ggml.add_bos_token"] = bool(before) if not isinstance(add_bos, bool) or before else add_bos
    found["ggml.add_eos_token"] = bool(after)
    if before:
        found["ggml.bos_token_id"] = before[0]
    templates = find_chat_template(Path(directory))
    if templates:
        found["chat_template"] = templates.get("default") or next(iter(templates.values()))
    return found


def _vocabulary(definition: dict[str, Any], size: int) -> dict[str, Any]:
    model = definition["model"]
    if model.get("type", "BPE") != "BPE":
        raise UnsupportedModel(f"--format gguf has no place for a tokenizer of type {model['type']!r}")
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [UNUSED] * size
    for text, id in model["vocab"].items():
        if id < size:
            tokens[id], types[id] = text, NORMAL
    for token in definition.get("added_tokens", []):
        if token["id"] < size:
            tokens[token["id"]] = token["content"]
            types[token["id"]] = CONTROL if token.get("special") else USER_DEFINED
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges", [])]
    found: dict[str, Any] = {"ggml.tokens": tokens, "ggml.token_type": types}
    for side in SIDES:
        ids = [t["id"] for t in definition.get("added_tokens", []) if t.get(side) and t["id"] < size]
        if ids:
            found[f"edgekit.{side}_ids"] = sorted(ids)
    if "ByteLevel" in json.dumps([definition.get("pre_tokenizer"), definition.get("decoder")]):
        return found | {"ggml.model": "gpt2", "ggml.pre": _pre_type(definition), "ggml.merges": merges}
    # SentencePiece: what is merged first has the higher score.
    ranks = {"".join(pair.split(" ")): rank for rank, pair in reversed(list(enumerate(merges)))}
    for id, text in enumerate(tokens):
        if tokenizer_steps.byte_of_token(text) is not None:
            types[id] = BYTE
        elif text == model.get("unk_token"):
            types[id] = UNKNOWN
    return found | {
        "ggml.model": "llama",
        "ggml.pre": "default",
        "ggml.scores": [-float(ranks.get(text, len(ranks))) for text in tokens],
        "ggml.add_space_prefix": _adds_space(definition),
    }


def _pre_type(definition: dict[str, Any]) -> str:
    parts = tokenizer_steps.flatten(definition.get("pre_tokenizer"), "pretokenizers")
    words = []
    for part in parts:
        if part["type"] == "Split":
            words.append(str(part["pattern"].get("Regex")))
        elif part["type"] == "Digits" and part.get("individual_digits"):
            words.append(pre_types.DIGITS)
        elif part["type"] == "ByteLevel":
            if part.get("use_regex", True):
                words.append(tokenizer_steps.BYTE_LEVEL_REGEX)
        else:
            words.append(str(part["type"]))
    patterns = tuple(word.replace(_CASES_SPELLED, pre_types.CASES) for word in words)
    name = pre_types.name_of(patterns, bool(definition["model"].get("ignore_merges")))
    if name is None:
        raise UnsupportedModel(f"llama.cpp has no name for how this tokenizer cuts words: {patterns}")
    return name


def _adds_space(definition: dict[str, Any]) -> bool:
    steps = tokenizer_steps.flatten(definition.get("normalizer"), "normalizers")
    parts = tokenizer_steps.flatten(definition.get("pre_tokenizer"), "pretokenizers")
    return any(step["type"] == "Prepend" for step in steps) or any(
        part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never" for part in parts
    )
