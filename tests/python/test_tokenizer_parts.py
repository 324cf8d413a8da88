"""Every part of a tokenizer.json that edgekit has, against the `tokenizers` package, on tokenizers trained on
the spot; and that what it lacks, or what is broken, is refused with its name.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from random_text import random_text

from edgekit.converters.text.pattern import Parser
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import EdgekitError, InvalidFile, UnsupportedModel
from edgekit.text import Tokenizer

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Regex, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre

CORPUS = [random_text(random.Random(seed)) for seed in range(300)]
CORPUS += ["the quick brown fox HTTPServer don't I'll we've 1234"] * 50
FEW_CHARACTERS = CORPUS[-60:]
TEXTS = 150

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
REGEXES = {
    "llama3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL,
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL,
    "qwen3.5": CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    + TAIL,
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    + r"\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|"
    + rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}|"
    + rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{TAIL}",
    "tekken": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|"
    + rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{TAIL}",
    "han": r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+",
    "falcon": r"[0-9][0-9][0-9]",
    "negated": r"\P{L}+|\D|[^\P{N}x]",
    "escapes": r"\x41\u00e9|[\t\x{1F600}-\x{1F64F}]+|\.",
}
DEEPSEEK = (
    r"\p{N}{1,3}",
    r"[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    + r" ?[\p{P}\p{S}]+[\r\n]*|"
    + TAIL,
)
BYTES = pre.ByteLevel(add_prefix_space=False, use_regex=False)
BYTES_OF_GPT2 = pre.ByteLevel(add_prefix_space=False)


def compile_definition(definition: dict[str, Any], directory: Path) -> Tokenizer:
    (directory / "tokenizer.json").write_text(json.dumps(definition))
    compiled = compile_tokenizer(directory)
    assert compiled is not None
    return Tokenizer.from_bytes(compiled.blob)


def assert_agree(expected: Any, directory: Path, texts: int = TEXTS) -> None:
    tokenizer = compile_definition(json.loads(expected.to_str()), directory)
    special = [token.content for token in expected.get_added_tokens_decoder().values()]
    for seed in range(texts):
        text = random_text(random.Random(seed), special)
        ids = expected.encode(text).ids
        assert tokenizer.encode(text) == ids, f"seed {seed}: {text!a}"
        assert tokenizer.decode(ids) == expected.decode(ids, skip_special_tokens=False), f"seed {seed}: {ids}"


def byte_level(pre_tokenizer: Any, normalizer: Any = None) -> Any:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.mark.parametrize("regex", REGEXES)
def test_regex(regex: str, tmp_path: Path) -> None:
    split = pre.Split(Regex(REGEXES[regex]), "isolated")
    assert_agree(byte_level(pre.Sequence([split, BYTES])), tmp_path)


PRE_TOKENIZERS = {
    "gpt2": BYTES_OF_GPT2,
    "prefix space": pre.ByteLevel(add_prefix_space=True),
    "single digits": pre.Sequence([pre.Digits(individual_digits=True), BYTES_OF_GPT2]),
    "digits": pre.Sequence([pre.Digits(individual_digits=False), BYTES_OF_GPT2]),
    "punctuation": pre.Sequence([pre.Punctuation("merged_with_previous"), BYTES]),
    "whitespace": pre.Sequence([pre.WhitespaceSplit(), BYTES]),
    "literal": pre.Sequence([pre.Split("e", "merged_with_next"), BYTES]),
    "deepseek": pre.Sequence([*(pre.Split(Regex(regex), "isolated") for regex in DEEPSEEK), BYTES]),
}


@pytest.mark.parametrize("pre_tokenizer", PRE_TOKENIZERS)
def test_pre_tokenizer(pre_tokenizer: str, tmp_path: Path) -> None:
    assert_agree(byte_level(PRE_TOKENIZERS[pre_tokenizer]), tmp_path)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    "behavior", ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
)
def test_split_behavior(behavior: str, invert: bool, tmp_path: Path) -> None:
    split = pre.Split(Regex(r"[ \p{L}]"), behavior, invert=invert)
    assert_agree(byte_level(pre.Sequence([split, BYTES])), tmp_path, texts=60)


NORMALIZERS = {
    "nfc": normalizers.NFC(),
    "nfd": normalizers.NFD(),
    "nfkc": normalizers.NFKC(),
    "nfkd": normalizers.NFKD(),
    "strip": normalizers.Strip(left=True, right=False),
    "replace": normalizers.Sequence(
        [normalizers.Replace("e", "xx"), normalizers.Replace(Regex(" {2,}"), " ")]
    ),
    "prepend": normalizers.Sequence([normalizers.Strip(), normalizers.Prepend("_")]),
}


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_normalizer(normalizer: str, tmp_path: Path) -> None:
    assert_agree(byte_level(BYTES, NORMALIZERS[normalizer]), tmp_path)


@pytest.mark.parametrize("form", ["nfc", "nfd", "nfkc", "nfkd"])
def test_every_code_point_in_normal_form(form: str, tmp_path: Path) -> None:
    expected = byte_level(BYTES, NORMALIZERS[form])
    tokenizer = compile_definition(json.loads(expected.to_str()), tmp_path)
    code_points = [chr(c) for c in range(0x80, 0x30000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(code_points), 64):
        text = "".join(c + "\u0334a\u0301\u0316" for c in code_points[start : start + 64])
        assert tokenizer.encode(text) == expected.encode(text).ids, hex(ord(code_points[start]))


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@pytest.mark.parametrize("model", ["bpe", "bpe without unk", "unigram"])
def test_metaspace_and_added_tokens(model: str, scheme: str, split: bool, tmp_path: Path) -> None:
    unigram = model == "unigram"
    unk = {} if model == "bpe without unk" else {"unk_token": "<unk>", "fuse_unk": split}
    expected = tokenizers.Tokenizer(models.Unigram() if unigram else models.BPE(**unk))
    expected.pre_tokenizer = pre.Metaspace(prepend_scheme=scheme, split=split)
    expected.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    expected.normalizer = normalizers.NFC()
    if unigram:
        trainer = trainers.UnigramTrainer(
            vocab_size=600, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
    else:
        trainer = trainers.BpeTrainer(
            vocab_size=900, limit_alphabet=200, special_tokens=["<unk>"], show_progress=False
        )
    expected.train_from_iterator(FEW_CHARACTERS if unigram else CORPUS, trainer)
    expected.add_tokens(
        [
            AddedToken("<x>", single_word=True),
            AddedToken("[L]", lstrip=True),
            AddedToken("[R]", rstrip=True, special=True),
            AddedToken("[RR]", normalized=False),
            AddedToken("the", normalized=True, single_word=True),
            AddedToken("A\u030aB", normalized=True),
        ]
    )
    assert_agree(expected, tmp_path)


def charsmap(rules: dict[bytes, bytes]) -> bytes:
    """A precompiled_charsmap with keys of one byte, which a double array of 512 units holds."""
    units = [0] * 512
    units[0] = 0 << 10
    replacements = b""
    for key, value in rules.items():
        # Unit `byte` is reached from the root at 0; its value sits in a unit of its own, at an offset from
        # it.
        byte = key[0]
        leaf = 256 + byte
        units[byte] = byte | 1 << 8 | (leaf ^ byte) << 10
        units[leaf] = len(replacements) | 1 << 31
        replacements += value + b"\0"
    array = b"".join(unit.to_bytes(4, "little") for unit in units)
    return len(array).to_bytes(4, "little") + array + replacements


def test_precompiled_charsmap(tmp_path: Path) -> None:
    encoded = base64.b64encode(charsmap({b"A": b"aa", b"\t": b" ", b"\r": b"", b"e": "é".encode()})).decode()
    definition = json.loads(byte_level(BYTES).to_str())
    definition["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": encoded}
    expected = tokenizers.Tokenizer.from_str(json.dumps(definition))
    assert expected.encode("Ae").ids == expected.encode("aaé").ids
    assert_agree(expected, tmp_path)


@pytest.mark.parametrize("unknown", ["u", None])
def test_merges_of_any_order_and_length(unknown: str | None, tmp_path: Path) -> None:
    """Ranks that follow no ids, parts of over 255 bytes, spaces within tokens, dropped characters."""
    rng = random.Random(5)
    spelt = {*"abc>/u\u2581", ">\u2581/", ">\u2581", *("a" * 2**i for i in range(10))}
    while len(spelt) < 150:
        spelt.add("".join(rng.choices([each for each in sorted(spelt) if len(each) < 6], k=2)))
    spelt = {each for each in spelt if "\u2581" not in each.lstrip("\u2581") or ">\u2581" in each}
    order = rng.sample(sorted(spelt), len(spelt))
    splits = [(each[:at], each[at:]) for each in order for at in range(1, len(each))]
    merges = [" ".join(parts) for parts in splits if spelt.issuperset(parts)]
    space = {"String": " "}, {"String": "\u2581"}
    definition = small() | {
        "normalizer": {"type": "Replace", "pattern": space[0], "content": "\u2581"},
        "decoder": {"type": "Replace", "pattern": space[1], "content": " "},
        "model": {
            "type": "BPE",
            "unk_token": unknown,
            "fuse_unk": True,
            "vocab": {each: id for id, each in enumerate(order)},
            "merges": rng.sample(merges, len(merges)),
        },
    }
    expected = tokenizers.Tokenizer.from_str(json.dumps(definition))
    tokenizer = compile_definition(definition, tmp_path)
    texts = ["".join(rng.choices("abc>/ x", k=rng.randint(1, 90))) for _ in range(400)]
    for text in [*texts, "a" * 1500, "x" + "a" * 700 + " "]:
        ids = expected.encode(text).ids
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == "".join(order[id] for id in ids).replace("\u2581", " ")


def test_a_token_is_stored_once(tmp_path: Path) -> None:
    """Of a byte-level vocabulary of 900 tokens, each of which merges make, no more than 20 bytes a token."""
    (tmp_path / "tokenizer.json").write_text(byte_level(BYTES_OF_GPT2).to_str())
    compiled = compile_tokenizer(tmp_path)
    assert compiled is not None and len(compiled.blob) < 9000 + 20 * compiled.vocab_size


# ---- refusals
# ------------------------------------------------------------------------------------------------


def small() -> dict[str, Any]:
    return {
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    }


def test_small(tmp_path: Path) -> None:
    tokenizer = compile_definition(small(), tmp_path)
    assert tokenizer.encode("abba?") == [2, 1, 0]
    assert tokenizer.decode([2, 1]) == "ab b"


@pytest.mark.parametrize(
    ("part", "value", "name"),
    [
        ("normalizer", {"type": "Nmt"}, "Nmt"),
        ("pre_tokenizer", {"type": "UnicodeScripts"}, "UnicodeScripts"),
        ("post_processor", {"type": "Unheard"}, "Unheard"),
        ("decoder", {"type": "CTC"}, "CTC"),
        ("model", {"type": "WordPiece", "vocab": {"a": 0}}, "WordPiece"),
        ("model", {"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"}, "</w>"),
        (
            "pre_tokenizer",
            {"type": "Split", "pattern": {"Regex": r"(?<=a)b"}, "behavior": "Isolated"},
            "(?<=a)b",
        ),
    ],
)
def test_what_the_runtime_lacks_is_named(part: str, value: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        compile_definition(small() | {part: value}, tmp_path)
    assert name in str(refused.value)


@pytest.mark.parametrize(
    "regex", [r"(ab)+", r"a*", r"a+?", r"(?!ab)c", r"\bword", r"[a-", r"(a", r"\p{Greek}", r"a{2,1}"]
)
def test_regex_outside_the_subset_is_refused(regex: str, tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"}
    with pytest.raises(UnsupportedModel):
        compile_definition(small() | {"pre_tokenizer": split}, tmp_path)


def test_regex_parser_never_fails_otherwise() -> None:
    pieces = [*r"ab()[]{}?*+|\.^$-,0129pLNsSu&:=!", r"\p{L}", "(?:", "(?i:"]
    for seed in range(3000):
        rng = random.Random(seed)
        with contextlib.suppress(UnsupportedModel):
            Parser("".join(rng.choice(pieces) for _ in range(9))).parse()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"model": {"type": "BPE"}}',
        b'{"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}',
        b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 99999999999}, "merges": []}}',
        b'{"model": {"type": "Unigram", "vocab": [["a"]], "unk_id": 0}}',
    ],
)
def test_broken_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(EdgekitError):
        compile_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x0f", b"nonsense", b"QUFB 1\nnot base64 2\n"]
)
def test_broken_model_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(InvalidFile):
        compile_tokenizer(tmp_path)


def test_no_tokenizer(tmp_path: Path) -> None:
    assert compile_tokenizer(tmp_path) is None


def test_blob_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(small()))
    compiled = compile_tokenizer(tmp_path)
    assert compiled is not None
    for size in range(0, len(compiled.blob), 97):
        with pytest.raises(InvalidFile):
            Tokenizer.from_bytes(compiled.blob[:size])
