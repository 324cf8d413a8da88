"""tokenizer.json as GGUF metadata: the keys after `tokenizer.`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekit.converters.convert import ConvertInput
from edgekit.converters.text import tokenizer, tokenizer_steps
from edgekit.converters.text.chat_template import find_chat_template
from edgekit.errors import InvalidFile, UnsupportedModel

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_CASES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = _CASES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
)
# How words are cut -> llama.cpp's name for it. "llama-bpe" also takes whole words that are tokens.
PRE_TYPES = {
    _WORDS + r"\p{N}{1,3}" + _TAIL: "dbrx",
    _WORDS + r"\p{N}" + _TAIL: "qwen2",
    _TEKKEN + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "gpt-4o",
    _TEKKEN.replace(_CASES + "?", "")
    + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
    "gpt-2": "gpt-2",
    "digits gpt-2": "smollm",
}


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
    config = _json(Path(directory) / "tokenizer_config.json")
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
        if len(eos) > 1:  # chat models end a turn with another token than a text
            found["ggml.eot_token_id"] = next(id for id in eos if id != found["ggml.eos_token_id"])
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
            words.append("digits")
        elif part["type"] == "ByteLevel":
            if part.get("use_regex", True):
                words.append("gpt-2")
        else:
            words.append(str(part["type"]))
    pattern = " ".join(words).replace("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", _CASES)
    if pattern not in PRE_TYPES:
        raise UnsupportedModel(f"llama.cpp has no name for how this tokenizer cuts words: {pattern!r}")
    name = PRE_TYPES[pattern]
    return "llama-bpe" if name == "dbrx" and definition["model"].get("ignore_merges") else name


def _adds_space(definition: dict[str, Any]) -> bool:
    steps = tokenizer_steps.flatten(definition.get("normalizer"), "normalizers")
    metaspace = definition.get("pre_tokenizer") or {}
    return any(step["type"] == "Prepend" for step in steps) or (
        metaspace.get("type") == "Metaspace" and metaspace.get("prepend_scheme", "always") != "never"
    )


def _json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes()) if path.exists() else {}
    return value if isinstance(value, dict) else {}
