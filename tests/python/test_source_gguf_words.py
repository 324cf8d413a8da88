"""What the keys of GGUF files mean, and what holds where they are silent.

Right values are llama.cpp's, or the checkpoint's in Transformers where llama.cpp does not read a key.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.converters import convert, sources
from edgekit.converters.sources.gguf import GgufCheckpoint
from edgekit.converters.text import pre_types
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import EdgekitError, InvalidFile, UnsupportedModel
from edgekit.text import Tokenizer

pytest.importorskip("gguf", reason="needs the [gguf] extra")

import gguf_files
from gguf_files import BOS, CONTROL, EOS, EOT, USER

HI = 260


def tokenizer(file: Path) -> Tokenizer:
    checkpoint = GgufCheckpoint(file)  # its files last as long
    compiled = compile_tokenizer(checkpoint.path)
    assert compiled is not None
    return Tokenizer.from_bytes(compiled.blob)


# ---- the tokenizer


@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ({}, [BOS]),
        ({"tokenizer.ggml.pre": "lfm2"}, [BOS]),
        ({"tokenizer.ggml.pre": "tekken"}, [BOS]),
        ({"tokenizer.ggml.pre": "qwen2"}, []),
        ({"tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.add_bos_token": True}, [BOS]),
        ({"tokenizer.ggml.add_bos_token": False}, []),
        ({"tokenizer.ggml.bos_token_id": None}, []),
    ],
)
def test_bos_goes_by_the_pre_tokenizer_where_no_key_says(
    keys: dict[str, Any], first: list[int], tmp_path: Path
) -> None:
    assert tokenizer(gguf_files.write(tmp_path / "m.gguf", keys)).encode("hi") == [*first, HI]


def test_eos_is_added_where_a_key_says(tmp_path: Path) -> None:
    file = gguf_files.write(tmp_path / "m.gguf", {"tokenizer.ggml.add_eos_token": True})
    assert tokenizer(file).encode("hi") == [BOS, HI, EOS]


@pytest.mark.parametrize(
    "end", ["<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<EOT>", "<|eom_id|>"]
)
@pytest.mark.parametrize("kind", [1, CONTROL])
def test_ends_of_turn_are_known_by_their_text(end: str, kind: int, tmp_path: Path) -> None:
    tokens = [*gguf_files.TOKENIZER["tokenizer.ggml.tokens"], "hi", end, "</s>"]
    keys = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * HI + [1, kind, 1]}
    model = convert.read(gguf_files.write(tmp_path / "m.gguf", keys), "m")
    assert model.metadata["eos_ids"] == [EOS, EOT, HI + 1]  # "</s>" is a word here
    assert tokenizer(tmp_path / "m.gguf").encode(f"hi{end}")[-1] == HI + 1


def test_every_end_that_a_key_names_counts(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.eot_token_id": USER, "tokenizer.ggml.eom_token_id": HI}
    model = convert.read(gguf_files.write(tmp_path / "m.gguf", keys), "m")
    assert model.metadata["eos_ids"] == [EOS, USER, HI, EOT]


@pytest.mark.parametrize(
    "name", sorted({meaning: name for name, meaning in pre_types.BY_NAME.items()}.values())
)
def test_every_way_of_cutting_words_compiles(name: str, tmp_path: Path) -> None:
    """One file of each: names of the same meaning are rows of one table."""
    made = tokenizer(gguf_files.write(tmp_path / "m.gguf", {"tokenizer.ggml.pre": name}))
    text = "hi there, it's 12345 naïve 東京!\n\n  x"
    assert made.decode(made.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize(
    ("name", "same"),
    [("deepseek-r1-qwen", "qwen2"), ("falcon3", "llama-bpe"), ("phi-2", "gpt-2"), ("starcoder", "smollm")],
)
def test_names_that_mean_the_same(name: str, same: str) -> None:
    assert pre_types.BY_NAME[name] == pre_types.BY_NAME[same]


def test_a_way_of_cutting_words_has_one_name_to_write() -> None:
    for meaning in pre_types.BY_NAME.values():
        name = pre_types.name_of(meaning.patterns, meaning.ignore_merges)
        assert name is not None and pre_types.BY_NAME[name].patterns == meaning.patterns
        assert pre_types.BY_NAME[name].ignore_merges == meaning.ignore_merges
    assert pre_types.name_of(("x",), False) is None


def test_an_unknown_way_of_cutting_words_is_refused_and_a_missing_one_said(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="'kimi-k2'"):
        GgufCheckpoint(gguf_files.write(tmp_path / "m.gguf", {"tokenizer.ggml.pre": "kimi-k2"}))
    (said,) = convert.read(gguf_files.write(tmp_path / "m.gguf", {"tokenizer.ggml.pre": None}), "m").warnings
    assert "tokenizer.ggml.pre" in said


@pytest.mark.parametrize("name", ["Phi-3 mini", "my phi3", "other"])
def test_phi3_takes_the_spaces_after_special_tokens(name: str, tmp_path: Path) -> None:
    made = tokenizer(gguf_files.write(tmp_path / "m.gguf", {"general.name": name}))
    between = [] if name != "other" else made.encode("\n", add_special_tokens=False)
    assert made.encode("<|user|>\nhi", add_special_tokens=False) == [USER, *between, HI]


# ---- the model


def test_head_dim_is_the_key_length(tmp_path: Path) -> None:
    keys = {"qwen3.attention.key_length": 16, "tokenizer.ggml.pre": "qwen2"}
    checkpoint = GgufCheckpoint(gguf_files.write(tmp_path / "m.gguf", keys, architecture="qwen3"))
    assert checkpoint.spec.layers[0].head_dim == 16


def yarn(tmp_path: Path, **keys: Any) -> Any:
    given = {"type": "yarn", "factor": 4.0, "original_context_length": 16} | keys
    written = {f"llama.rope.scaling.{word}": value for word, value in given.items()}
    return GgufCheckpoint(gguf_files.write(tmp_path / "m.gguf", written)).spec.ropes[0]


def test_keys_of_yarn_are_read(tmp_path: Path) -> None:
    plain = yarn(tmp_path)
    assert plain.factor == pytest.approx(0.1 * math.log(4) + 1)
    tuned = yarn(tmp_path, yarn_beta_fast=4.0, yarn_beta_slow=0.25)
    assert tuned.factor == plain.factor and tuned.inv_freq != plain.inv_freq
    assert yarn(tmp_path, yarn_attn_factor=1.25).factor == 1.25
    assert yarn(tmp_path, attn_factor=2.0).factor == pytest.approx(2 * plain.factor)
    assert yarn(tmp_path, yarn_log_multiplier=1.0).factor == pytest.approx(1.0)


@pytest.mark.parametrize("word", ["rope.scaling.factor", "rope.scale_linear"])
def test_positions_are_stretched_without_a_type(word: str, tmp_path: Path) -> None:
    plain = GgufCheckpoint(gguf_files.write(tmp_path / "a.gguf")).spec.ropes[0]
    stretched = GgufCheckpoint(gguf_files.write(tmp_path / "b.gguf", {f"llama.{word}": 4.0})).spec.ropes[0]
    np.testing.assert_allclose(stretched.inv_freq, np.array(plain.inv_freq) / 4)
    gain = {f"llama.{word}": 4.0, "llama.rope.scaling.attn_factor": 1.5}
    both = GgufCheckpoint(gguf_files.write(tmp_path / "c.gguf", gain)).spec.ropes[0]
    assert both.factor == 1.5
    np.testing.assert_allclose(both.inv_freq, stretched.inv_freq)


def test_ministral_3s_architecture_is_read(tmp_path: Path) -> None:
    scaling = {
        "type": "yarn",
        "factor": 4.0,
        "original_context_length": 16,
        "yarn_beta_fast": 32.0,
        "yarn_beta_slow": 1.0,
        "yarn_log_multiplier": 1.0,
    }
    keys = {f"mistral3.rope.scaling.{word}": value for word, value in scaling.items()}
    keys |= {"mistral3.attention.temperature_scale": 0.1, "tokenizer.ggml.pre": "tekken"}
    spec = GgufCheckpoint(gguf_files.write(tmp_path / "m.gguf", keys, architecture="mistral3")).spec
    assert (spec.model_type, spec.context, spec.ropes[0].factor) == ("ministral3", 16, pytest.approx(1.0))


def test_keys_that_are_not_read_are_said(tmp_path: Path) -> None:
    model = convert.read(gguf_files.write(tmp_path / "m.gguf", {"llama.attention.clamp_kqv": 8.0}), "m")
    assert "llama.attention.clamp_kqv = 8.0" in " ".join(model.warnings)
    assert convert.read(gguf_files.write(tmp_path / "n.gguf"), "n").warnings == ()


def test_licence_and_sampling_are_kept(tmp_path: Path) -> None:
    keys = {"general.license": "apache-2.0", "general.sampling.temp": 0.5, "general.sampling.top_k": 40}
    metadata = convert.read(gguf_files.write(tmp_path / "m.gguf", keys), "m").metadata
    assert metadata["source"]["license"] == "apache-2.0"
    assert metadata["generation"] == {"temperature": 0.5, "top_k": 40}


# ---- the files


def test_a_split_model_is_read_from_any_part_and_from_its_folder(tmp_path: Path) -> None:
    whole = GgufCheckpoint(gguf_files.write(tmp_path / "whole.gguf"))
    (tmp_path / "split").mkdir()
    first = gguf_files.write(tmp_path / "split" / "m.gguf", parts=3)
    second = first.with_name("m-00002-of-00003.gguf")
    for given in (first, second, first.parent):
        opened = sources.open_source(given)
        assert opened.names() == whole.names()
        for name in whole.names():
            np.testing.assert_array_equal(opened.read(name), whole.read(name))
    second.unlink()
    for given in (first, first.parent):
        with pytest.raises(InvalidFile, match=r"one of 3 parts.*m-00002-of-00003\.gguf"):
            sources.open_source(given)
    alone = first.rename(tmp_path / "alone.gguf")
    with pytest.raises(InvalidFile, match="one of 3 parts"):
        sources.open_source(alone)


def test_a_big_endian_file_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="big-endian"):
        sources.open_source(gguf_files.write(tmp_path / "m.gguf", big_endian=True))


def test_a_file_without_its_suffix_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    file = gguf_files.write(tmp_path / "m.gguf").rename(tmp_path / "sha256-0123")
    assert isinstance(sources.open_source(file), GgufCheckpoint)


def test_what_special_tokens_strip_comes_back_from_our_own_file(tmp_path: Path) -> None:
    from edgekit.converters.formats import gguf as format

    first = GgufCheckpoint(gguf_files.write(tmp_path / "m.gguf"))
    definition = json.loads((first.path / "tokenizer.json").read_text("utf-8"))
    for token in definition["added_tokens"]:
        token["rstrip"] = token["content"] in ("<|user|>", "<|eot_id|>")
        token["lstrip"] = token["content"] == "<|eot_id|>"
    (first.path / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    compiled = compile_tokenizer(first.path)
    assert compiled is not None
    text = "<|user|>\nhi <|eot_id|> hi"
    want = Tokenizer.from_bytes(compiled.blob).encode(text)
    assert want == [BOS, USER, HI, EOT, HI]
    model = convert.read(tmp_path / "m.gguf", "m")
    model = convert.ConvertInput(model.spec, first, model.tensors, compiled.blob, None, model.metadata)
    format.write(model, tmp_path / "out.gguf", "f32")
    assert tokenizer(tmp_path / "out.gguf").encode(text) == want


# ---- damaged keys


def test_keys_of_another_type_are_invalid(tmp_path: Path) -> None:
    keys = [*(f"llama.{word}" for word in gguf_files.MODEL), *gguf_files.TOKENIZER]
    keys += ["llama.attention.key_length", "llama.rope.dimension_count", "tokenizer.edgekit.rstrip_ids"]
    refused = 0
    for key in keys:
        for value in (0, 5, "x", [1, 2], ["x"]):
            file = gguf_files.write(tmp_path / "m.gguf", {key: value})
            try:
                convert.read(file, "damaged")
            except EdgekitError:
                refused += 1
    assert refused > 2 * len(keys)
