"""GGUF's tokenizer in Hugging Face's words: tokenizer.json, its neighbours, and what the file leaves open."""

from __future__ import annotations

from typing import Any

from edgekit.converters.formats import _gguf_tokenizer
from edgekit.converters.formats._gguf_tokenizer import CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from edgekit.converters.text import pre_types
from edgekit.errors import InvalidFile, UnsupportedModel

# Tokens that end a turn whatever the file's keys and types say: llama.cpp knows them by their text too.
ENDS = frozenset(
    "<|eot_id|> <|eom_id|> <|im_end|> <|end|> <end_of_turn> <turn|> <|endoftext|> <|end_of_text|> <eos> <EOT>"
    " _<EOT> [EOT] [EOS] <end_of_utterance> <｜end▁of▁sentence｜>".split()
)
CONTROL_ENDS = frozenset(["</s>"])  # a piece of HTML in some vocabularies: an end only as a control token
DEFAULT_IDS = {"llama": {"bos": 1, "eos": 2, "unknown": 0}, "gpt2": {}}
SAMPLING = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def files(keys: dict[str, Any]) -> dict[str, Any]:
    """What lies beside a Hugging Face checkpoint, by name: JSON values, and README.md as text.

    Raises UnsupportedModel for a way of cutting words that edgekit does not know, InvalidFile for ids outside
    the vocabulary.
    """
    found: dict[str, Any] = {}
    if license := keys.get("general.license"):
        found["README.md"] = f"---\nlicense: {license}\n---\n"
    sampling = {name: keys.get(f"general.sampling.{key}") for key, name in SAMPLING.items()}
    generation = {name: value for name, value in sampling.items() if value is not None}
    if not _readable(keys):
        return found
    tokens: list[str] = keys["tokenizer.ggml.tokens"]
    types = _types(keys)
    ids = _special_ids(keys)
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    words: dict[str, Any] = {theirs: tokens[ids[ours]] for ours, theirs in names.items() if ours in ids}
    if template := keys.get("tokenizer.chat_template"):
        words["chat_template"] = template
    ends = [ids[role] for role in ("eos", "eot", "eom") if role in ids]
    ends += [id for id, text in enumerate(tokens) if _ends(text, types[id])]
    return found | {
        "tokenizer.json": _definition(keys, tokens, types, ids),
        "tokenizer_config.json": words,
        "generation_config.json": generation | {"eos_token_id": list(dict.fromkeys(ends))},
    }


def warnings(keys: dict[str, Any]) -> tuple[str, ...]:
    """What the file leaves open about its tokenizer."""
    kind = keys.get("tokenizer.ggml.model")
    if kind not in (None, "none", *DEFAULT_IDS):
        return (f"the GGUF file's tokenizer is of the kind {kind!r}, which edgekit does not read",)
    if kind == "gpt2" and "tokenizer.ggml.pre" not in keys:
        return (
            "the GGUF file does not say how its tokenizer cuts words (tokenizer.ggml.pre): texts are cut as"
            " llama.cpp's 'default' does, which may not be how the model was trained; a newer conversion of"
            " the model says it",
        )
    return ()


def _readable(keys: dict[str, Any]) -> bool:
    return bool(keys.get("tokenizer.ggml.tokens")) and keys.get("tokenizer.ggml.model") in DEFAULT_IDS


def _types(keys: dict[str, Any]) -> list[int]:
    """The type of each token; ends of turn are control tokens even where the file has them as words."""
    tokens = keys["tokenizer.ggml.tokens"]
    given = keys.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if len(given) < len(tokens):
        raise InvalidFile(f"the GGUF file has {len(tokens)} tokens and the types of {len(given)}")
    return [CONTROL if text in ENDS else kind for text, kind in zip(tokens, given, strict=False)]


def _ends(text: str, kind: int) -> bool:
    return text in ENDS or (kind == CONTROL and text in CONTROL_ENDS)


def _special_ids(keys: dict[str, Any]) -> dict[str, int]:
    """Role -> id, where the file names one inside its vocabulary, or llama.cpp's default for the kind."""
    size = len(keys["tokenizer.ggml.tokens"])
    found = dict(DEFAULT_IDS[keys["tokenizer.ggml.model"]])
    for role in ("bos", "eos", "eot", "eom", "unknown", "padding"):
        id = keys.get(f"tokenizer.ggml.{role}_token_id")
        if isinstance(id, int) and id < size:
            found[role] = id
    return {role: id for role, id in found.items() if 0 <= id < size}


def _definition(
    keys: dict[str, Any], tokens: list[str], types: list[int], ids: dict[str, int]
) -> dict[str, Any]:
    byte_level = keys["tokenizer.ggml.model"] == "gpt2"
    pre = _pre_type(keys) if byte_level else None
    add_bos = keys.get("tokenizer.ggml.add_bos_token", pre.add_bos if pre else True)
    before = [tokens[ids["bos"]]] if add_bos and "bos" in ids else []
    after = [tokens[ids["eos"]]] if keys.get("tokenizer.ggml.add_eos_token") and "eos" in ids else []
    special = (CONTROL, UNKNOWN)
    strips = _gguf_tokenizer.strips(keys, tokens, types)
    added = [
        {
            "id": id,
            "content": text,
            "special": types[id] in special,
            "normalized": False,
            "single_word": False,
            **{side: id in strips[side] for side in strips},
        }
        for id, text in enumerate(tokens)
        if types[id] in (*special, USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "post_processor": _template(before, after, tokens),
        **(_byte_level(keys, pre) if pre else _sentencepiece(keys, tokens, ids)),
    }


def _template(before: list[str], after: list[str], tokens: list[str]) -> dict[str, Any] | None:
    if not before and not after:
        return None
    single: list[dict[str, Any]] = [{"SpecialToken": {"id": text, "type_id": 0}} for text in before]
    single.append({"Sequence": {"id": "A", "type_id": 0}})
    single += [{"SpecialToken": {"id": text, "type_id": 0}} for text in after]
    special = {text: {"id": text, "ids": [tokens.index(text)], "tokens": [text]} for text in before + after}
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": special}


def _pre_type(keys: dict[str, Any]) -> pre_types.PreType:
    name = keys.get("tokenizer.ggml.pre", "default")
    if name not in pre_types.BY_NAME:
        raise UnsupportedModel(
            f"the GGUF file's tokenizer cuts words as {name!r}, which edgekit does not know",
            hint="convert the checkpoint that the file was made from",
        )
    return pre_types.BY_NAME[name]


def _byte_level(keys: dict[str, Any], pre: pre_types.PreType) -> dict[str, Any]:
    words = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in pre.patterns
    ]
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*words, BYTES]},
        "decoder": BYTES,
        "model": {
            "type": "BPE",
            "ignore_merges": pre.ignore_merges,
            "byte_fallback": False,
            "vocab": {text: id for id, text in enumerate(keys["tokenizer.ggml.tokens"])},
            "merges": keys.get("tokenizer.ggml.merges", []),
        },
    }


def _sentencepiece(keys: dict[str, Any], tokens: list[str], special_ids: dict[str, int]) -> dict[str, Any]:
    """Pairs are merged in the order of their scores."""
    scores = keys.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
    ids = {text: id for id, text in enumerate(tokens)}
    merges = []
    for id, text in enumerate(tokens):
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                merges.append((-scores[id], ids[left], ids[right], [left, right]))
    merges.sort(key=lambda merge: merge[:3])
    prefix = keys.get("tokenizer.ggml.add_space_prefix", True)
    steps: list[dict[str, Any]] = [{"type": "Prepend", "prepend": "▁"}] if prefix else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "byte_fallback": "<0x00>" in ids,
            "fuse_unk": True,
            "unk_token": tokens[special_ids["unknown"]] if "unknown" in special_ids else None,
            "vocab": ids,
            "merges": [merge[3] for merge in merges],
        },
    }
