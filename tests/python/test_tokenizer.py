"""Our tokenizer against the `tokenizers` package, id for id, on real tokenizers, vectors and texts."""

from __future__ import annotations

import functools
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from random_text import random_text

from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.text import Tokenizer

tokenizers = pytest.importorskip("tokenizers")

SHARED = (
    Path(os.environ.get("EDGEKIT_SHARED") or Path(__file__).resolve().parents[2].parent / "shared") / "data"
)
TEXTS = sorted(path for path in SHARED.glob("corpora/*/*") if path.suffix in (".txt", ".tokens"))
FILES = sorted(SHARED.glob("tokenizers/**/*tokenizer.json")) + sorted(
    SHARED.glob("weights/*/hf-derived/tokenizer.json")
)
# Random texts a tokenizer; the acceptance run is 100,000.
RANDOM_TEXTS = int(os.environ.get("EDGEKIT_RANDOM_TEXTS", "2000"))
TEXT_BYTES = int(os.environ.get("EDGEKIT_TEXT_BYTES", "100000"))

pytestmark = pytest.mark.skipif(not FILES, reason=f"no tokenizers under {SHARED}")


def name(path: Path) -> str:
    return "-".join(path.relative_to(SHARED).parts[1:])


@functools.lru_cache(maxsize=4)
def ours(path: Path, directory: Path) -> Tokenizer:
    """Compiles a tokenizer file alone, under the name that a checkpoint gives it."""
    checkpoint = directory / name(path)
    checkpoint.mkdir(exist_ok=True)
    shutil.copy(path, checkpoint / ("tokenizer.json" if path.suffix == ".json" else "tokenizer.model"))
    compiled = compile_tokenizer(checkpoint)
    assert compiled is not None
    return Tokenizer.from_bytes(compiled.blob)


@functools.lru_cache(maxsize=4)
def reference(path: Path) -> Any:
    return tokenizers.Tokenizer.from_file(str(path))


@pytest.fixture(scope="module", params=FILES, ids=name)
def path(request: pytest.FixtureRequest) -> Path:
    """Of module scope, so that all tests of one tokenizer follow each other."""
    return Path(request.param)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


def test_texts_agree(path: Path, directory: Path) -> None:
    tokenizer, expected = ours(path, directory), reference(path)
    for text_file in TEXTS:
        text = text_file.read_text(encoding="utf-8")[:TEXT_BYTES]
        ids = expected.encode(text).ids
        assert tokenizer.encode(text) == ids, text_file.name
        assert tokenizer.decode(ids) == expected.decode(ids, skip_special_tokens=False), text_file.name


def test_random_texts_agree(path: Path, directory: Path) -> None:
    tokenizer, expected = ours(path, directory), reference(path)
    special = [token.content for token in expected.get_added_tokens_decoder().values()][:40]
    vocabulary = sorted(expected.get_vocab().values())
    for seed in range(RANDOM_TEXTS):
        rng = random.Random(seed)
        text = random_text(rng, special)
        ids = expected.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, add_special_tokens=False) == ids, f"seed {seed}: {text!a}"
        if seed % 2:  # ids that no text gives: halves of code points, special tokens, runs of bytes
            ids = [rng.choice(vocabulary) for _ in range(rng.randint(1, 12))]
        skip = seed % 3 == 0
        assert tokenizer.decode(ids, skip) == expected.decode(ids, skip_special_tokens=skip), (
            f"seed {seed}: {ids}"
        )


def test_special_tokens_as_text(path: Path, directory: Path) -> None:
    tokenizer, expected = ours(path, directory), reference(path)
    special = [token.content for token in expected.get_added_tokens_decoder().values()][:40]
    expected.encode_special_tokens = True
    try:
        for seed in range(RANDOM_TEXTS // 10):
            text = random_text(random.Random(seed), special)
            ids = expected.encode(text, add_special_tokens=False).ids
            assert tokenizer.encode(text, add_special_tokens=False, parse_special=False) == ids, ascii(text)
    finally:
        expected.encode_special_tokens = False


VECTORS = SHARED / "tokenizer-vectors"
KITOKEN = {
    "tokenizers/small_tokens_gpt2": "gpt2/tokenizer.json",
    "tokenizers/small_tokens_llama2": "llama2/tokenizer.json",
    "tokenizers/small_tokens_llama32": "llama3/tokenizer.json",
    "tokenizers/small_tokens_llama33": "llama3/tokenizer.json",
    "tokenizers/small_tokens_mistral01": "mistral/mistral-7b-v0.1.tokenizer.json",
    "tokenizers/small_tokens_mistral03": "mistral/mistral-7b-v0.3.tokenizer.json",
    "sentencepiece/small_tokens_llama2": "llama2/tokenizer.model",
    "sentencepiece/small_tokens_mistral01": "mistral/tokenizer.model.v1",
    "sentencepiece/small_tokens_mistral03": "mistral/mistral_instruct_tokenizer_240323.model.v3",
}
LLAMA_CPP = {
    "gpt-2": "gpt2/tokenizer.json",
    "llama-bpe": "llama3/tokenizer.json",
    "llama-spm": "llama2/tokenizer.json",
    "phi-3": "phi3-v/tokenizer.json",
    "qwen2": "qwen/qwen3.tokenizer.json",
}


def numbers(line: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", line)]


@pytest.mark.parametrize("vector", KITOKEN)
def test_kitoken_vectors(vector: str, directory: Path) -> None:
    tokenizer = ours(SHARED / "tokenizers" / KITOKEN[vector], directory)
    lines = (VECTORS / "kitoken" / "small_input.txt").read_text(encoding="utf-8").split("\n")
    expected = (VECTORS / "kitoken" / f"{vector}.txt").read_text().split("\n")
    assert len(lines) == len(expected) > 10
    for line, ids in zip(lines, expected, strict=True):
        text = line.replace("\\n", "\n").replace("\\s", " ")
        # A SentencePiece model has no special tokens in a text; a tokenizer.json has.
        parsed = tokenizer.encode(
            text, add_special_tokens=False, parse_special=vector.startswith("tokenizers")
        )
        assert parsed == numbers(ids), ascii(text)


@pytest.mark.parametrize("vector", LLAMA_CPP)
def test_llama_cpp_vectors(vector: str, directory: Path) -> None:
    tokenizer = ours(SHARED / "tokenizers" / LLAMA_CPP[vector], directory)
    stem = VECTORS / "llama.cpp" / f"ggml-vocab-{vector}.gguf"
    texts = stem.with_suffix(".gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    expected = stem.with_suffix(".gguf.out").read_text().split("\n")
    assert len(texts) > 40
    for text, ids in zip(texts, expected, strict=False):
        assert tokenizer.encode(text, add_special_tokens=False) == numbers(ids), ascii(text)


@pytest.mark.parametrize("file", ["llama2/tokenizer.model", "mistral/tokenizer.model.v1"])
def test_sentencepiece_model_agrees_with_sentencepiece(file: str, directory: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    path = SHARED / "tokenizers" / file
    tokenizer = ours(path, directory)
    expected = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for seed in range(RANDOM_TEXTS):
        text = random_text(random.Random(seed)).replace("\0", "")
        ids = tokenizer.encode(text, add_special_tokens=False, parse_special=False)
        assert ids == expected.encode(text), ascii(text)
    for text_file in TEXTS:
        text = text_file.read_text(encoding="utf-8")[:TEXT_BYTES]
        ids = tokenizer.encode(text, add_special_tokens=False, parse_special=False)
        assert ids == expected.encode(text), text_file.name


def test_tiktoken_ranks_agree_with_the_json_made_of_them(directory: Path) -> None:
    from edgekit.converters.text.tokenizer import read_definition

    path = SHARED / "tokenizers" / "llama3" / "tokenizer.model"
    ours(path, directory)
    made, given = (read_definition(folder) for folder in (directory / name(path), path.parent))
    assert made is not None and given is not None
    assert made["model"]["vocab"] == given["model"]["vocab"]
    assert [tuple(merge) for merge in made["model"]["merges"]] == [
        tuple(merge.split(" ")) for merge in given["model"]["merges"]
    ]
    contents = [
        {token["content"]: token["id"] for token in definition["added_tokens"]}
        for definition in (made, given)
    ]
    assert contents[0] == contents[1]
    tokenizer, expected = ours(path, directory), reference(path.parent / "tokenizer.json")
    for seed in range(RANDOM_TEXTS // 10):
        text = random_text(random.Random(seed), ["<|eot_id|>"])
        assert tokenizer.encode(text) == expected.encode(text).ids, ascii(text)


def test_special_ids_of_a_checkpoint() -> None:
    compiled = compile_tokenizer(SHARED / "tokenizers" / "llama3")
    assert compiled is not None
    assert (compiled.vocab_size, compiled.bos_id, compiled.eos_id) == (128256, 128000, 128009)
    tokenizer = Tokenizer.from_bytes(compiled.blob)
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (128256, 128000, 128009)
    assert tokenizer.encode("hi")[0] == 128000
    assert tokenizer.token_bytes(128009) == b"<|eot_id|>"
    assert tokenizer.token_to_id("<|eot_id|>") == 128009
    assert tokenizer.token_to_id("no such token") is None
