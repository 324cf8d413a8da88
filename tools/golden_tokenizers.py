"""Writes tests/golden/tokenizer: small compiled tokenizers, and what the `tokenizers` package makes of
texts with them.

    pip install tokenizers && python tools/golden_tokenizers.py

Each `<name>.edgetok` is a compiled tokenizer; `<name>.json` lists {text, ids, special_as_text, decoded}:
the ids with
special tokens added and parsed, the ids with neither, and the first ids decoded.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from edgekit.converters.text.tiktoken import REGEX
from edgekit.converters.text.tokenizer import compile_tokenizer

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "golden" / "tokenizer"
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind; it's asleep.",
    "Once upon a time there was a little tokenizer who lived in a small house with 1234 tokens.",
    "for (int i = 0; i < n; ++i) {\n    total += values[i];\n}\n",
    "Der schnelle braune Fuchs springt über den faulen Hund. Le renard brun saute par-dessus le chien.",
    "我喜欢在早上喝茶，然后去公园散步。今日は天気がいいですね。 오늘은 날씨가 좋습니다.",
    "Быстрая коричневая лиса прыгает через ленивую собаку. الثعلب البني السريع",
] * 4
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces\tand\r\n\r\nlines\n",
    "it's we're I'LL '\u017f",
    "12345678 3.14 \u0663\u00bd\u2167",
    "e\u0301 \u1112\u1161\u11ab \u212b \ufb01 \u0958 a\u0323\u0307 a\u0307\u0323",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \u2764\ufe0f",
    "<s>now<end>  <end><pad> <s",
    "\u2581\u2581a\u2581 b",
    "我们的茶\u3000散步 \u0378\ue000\U0010fffd",
    "\x00\x7f\x85\u2028",
    "a" * 300,
    "x\u0301" * 60,
]


def trained(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(
        [AddedToken("<end>", lstrip=True, rstrip=True, special=True), AddedToken("<pad>", normalized=True)]
    )
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    return trained(tokenizer, trainer)


def byte_fallback() -> Tokenizer:
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+"), "isolated")  # while it is trained
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<s>"], limit_alphabet=60, show_progress=False
    )
    tokenizer = trained(tokenizer, trainer)
    definition = json.loads(tokenizer.to_str())
    definition["pre_tokenizer"] = None
    vocabulary = definition["model"]["vocab"]
    size = 1 + max(*vocabulary.values(), *(token["id"] for token in definition["added_tokens"]))
    vocabulary.update({token: size + i for i, token in enumerate(fallback)})
    return Tokenizer.from_str(json.dumps(definition))


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    return trained(tokenizer, trainer)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for make in (byte_level, byte_fallback, unigram):
        tokenizer = make()
        with tempfile.TemporaryDirectory() as directory:
            tokenizer.save(str(Path(directory) / "tokenizer.json"))
            compiled = compile_tokenizer(Path(directory))
        assert compiled is not None
        cases = []
        for text in TEXTS:
            ids = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = False
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            cases.append({"text": text, "ids": ids, "special_as_text": plain, "decoded": decoded})
        (OUT / f"{make.__name__}.edgetok").write_bytes(compiled.blob)
        (OUT / f"{make.__name__}.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
