"""Students with fewer tokens: every text is still spelled, by the same tokens where these are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tokenizers = pytest.importorskip("tokenizers")

import edgekit
from edgekit.converters import convert, models
from edgekit.converters.distill.vocabulary import Vocabulary, numbering
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import UsageError
from edgekit.text import Tokenizer

SAMPLE = Path(__file__).parents[2] / "samples" / "model"
TEXT = "Once upon a time there was a little girl named Lily. She liked to play with her red ball outside.\n"


@pytest.fixture(scope="module")
def golden() -> Any:
    """tools/golden_tokenizers.py: a tokenizer of each kind, trained on a few sentences in many scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "tools")
        import golden_tokenizers

    return golden_tokenizers


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram"])
def test_every_text_is_spelled_as_before_or_smaller(kind: str, golden: Any, tmp_path: Path) -> None:
    definition = json.loads(getattr(golden, kind)().to_str())
    if kind == "byte_fallback":  # whose added tokens have the numbers of bytes: two holes instead
        vocab = definition["model"]["vocab"]
        definition["added_tokens"] = [t for t in definition["added_tokens"] if t["content"] in vocab]
    teacher = tokenizers.Tokenizer.from_str(json.dumps(definition))
    rows = 1 + max(teacher.get_vocab().values())
    vocabulary = Vocabulary(definition, rows)
    kept = vocabulary.closure(vocabulary.written_in(["latin"]))
    assert len(kept) < rows
    trimmed = vocabulary.trimmed(kept)
    student = tokenizers.Tokenizer.from_str(json.dumps(trimmed))
    assert student.get_vocab_size() == len(kept)
    (tmp_path / "tokenizer.json").write_text(json.dumps(trimmed))
    compiled = compile_tokenizer(tmp_path)
    assert compiled is not None
    ours = Tokenizer.from_bytes(compiled.blob)
    new, same, other = numbering(kept), 0, 0
    for text in [*golden.CORPUS, *golden.TEXTS]:
        before, after = teacher.encode(text), student.encode(text)
        assert student.decode(after.ids, False) == teacher.decode(before.ids, False)
        assert ours.encode(text) == after.ids
        if set(before.ids) <= new.keys():
            assert after.ids == [new[id] for id in before.ids]
            same += 1
        else:
            other += 1
    assert same > 10
    assert other > 2


def test_a_size_takes_the_first_that_fit_with_what_their_merges_need(golden: Any) -> None:
    teacher = golden.byte_level()
    vocabulary = Vocabulary(json.loads(teacher.to_str()), teacher.get_vocab_size())
    least = len(vocabulary.indispensable())
    longest = max(filter(lambda token: token.removeprefix("Ġ").isascii(), vocabulary.ids), key=len)
    kept = vocabulary.closure([vocabulary.ids[longest], *vocabulary.ids.values()], least + 20)
    assert len(kept) == least + 20
    student = tokenizers.Tokenizer.from_str(json.dumps(vocabulary.trimmed(kept)))
    word = longest.removeprefix("Ġ")
    assert longest.startswith("Ġ")
    assert student.encode(f" {word}", add_special_tokens=False).tokens == [longest]
    with pytest.raises(UsageError, match=rf"{least - 1} tokens; .* alone are {least}"):
        vocabulary.closure([], least - 1)


def test_placeholders_go_and_other_added_tokens_stay(golden: Any) -> None:
    teacher = golden.byte_fallback()
    teacher.add_tokens([tokenizers.AddedToken(text) for text in ("<unused7>", "<table>")])
    vocabulary = Vocabulary(json.loads(teacher.to_str()), teacher.get_vocab_size())
    added = [token["content"] for token in vocabulary.trimmed(vocabulary.closure([]))["added_tokens"]]
    assert "<table>" in added
    assert "<s>" in added
    assert "<unused7>" not in added


def test_the_student_has_the_rows_of_its_tokens(tmp_path: Path) -> None:
    """Logits are the teacher's of the tokens that stay, and special ids are the same tokens."""
    (tmp_path / "text.txt").write_text(TEXT)
    report = edgekit.distill(
        SAMPLE, tmp_path / "student", vocabulary_size=1000, text=[str(tmp_path / "text.txt")]
    )
    assert report.vocab_size == 1000
    teacher, student = (convert.read(path, "m") for path in (SAMPLE, tmp_path / "student"))
    theirs, ours = (Tokenizer.from_bytes(model.tokenizer or b"") for model in (teacher, student))
    before, after = theirs.encode(TEXT), ours.encode(TEXT)
    assert ours.decode(after) == theirs.decode(before)
    kept = [theirs.token_to_id(ours.token_bytes(id).decode()) for id in after]
    assert kept == before
    want, got = (
        Reference(model.spec, model.load).logits(ids) for model, ids in ((teacher, before), (student, after))
    )
    for position, logits in enumerate(want):
        assert np.isclose(logits[before], got[position][after], atol=1e-4).all()
    ends = [[theirs.token_bytes(id) for id in teacher.metadata["eos_ids"]]]
    assert [[ours.token_bytes(id) for id in student.metadata["eos_ids"]]] == ends
    assert student.bos_id is not None
    assert ours.token_bytes(student.bos_id) == theirs.token_bytes(teacher.bos_id or 0)
    assert student.chat_template == teacher.chat_template
    edgekit.convert(tmp_path / "student", tmp_path / "student.edge", scheme="q8")


def test_a_quantized_teacher_has_a_student_of_floats(tmp_path: Path) -> None:
    edgekit.convert(SAMPLE, tmp_path / "m.gguf", format="gguf", scheme="q8", verify=False)
    (tmp_path / "text.txt").write_text(TEXT)
    edgekit.distill(
        tmp_path / "m.gguf", tmp_path / "student", vocabulary="text", text=[str(tmp_path / "text.txt")]
    )
    teacher, made = convert.read(tmp_path / "m.gguf", "m"), convert.read(tmp_path / "student", "m")
    assert made.spec.vocab_size < 1000
    assert made.checkpoint.info(made.tensors["embed"].name)[0] == "F32"
    theirs, ours = (Tokenizer.from_bytes(model.tokenizer or b"") for model in (teacher, made))
    assert ours.decode(ours.encode(TEXT)) == theirs.decode(theirs.encode(TEXT))
    want, got = (model.load("layers.0.q") for model in (teacher, made))
    assert want is not None
    assert np.array_equal(want, got)


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"written in klingon; this vocabulary has: latin"):
        edgekit.distill(SAMPLE, tmp_path / "a", vocabulary="latin,klingon")
    with pytest.raises(UsageError, match="nothing says what the student"):
        edgekit.distill(SAMPLE, tmp_path / "a")
    with pytest.raises(UsageError, match="need a text"):
        edgekit.distill(SAMPLE, tmp_path / "a", vocabulary_size=1000)
    with pytest.raises(UsageError, match=r"no 'colour'; known: teacher, "):
        edgekit.distill(SAMPLE, tmp_path / "a", colour="red")
    with pytest.raises(UsageError, match=r"'vocabulary_size' is '9'; a int is expected"):
        edgekit.distill(SAMPLE, tmp_path / "a", vocabulary_size="9")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("kept")
    with pytest.raises(UsageError, match="not an empty directory"):
        edgekit.distill(SAMPLE, tmp_path / "b", vocabulary="latin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_a_family_stores_what_its_specs_tensors_name() -> None:
    """`stored` is the inverse of `Family.tensors`, also for fused rows and norms per head."""
    from tiny_models import TINY_CONFIGS

    for name in ("phi3", "stablelm_qk_norm", "openelm", "lfm2_bias"):
        family = models.load(TINY_CONFIGS[name])
        named = {theirs for where in family.tensors.values() for theirs in (where.name, *where.stack)}
        stored = models.stored(family)
        assert stored.keys() == named
        sizes = sum(int(np.prod(tensor.shape)) for tensor in stored.values())
        assert sizes == sum(int(np.prod(family.spec.shape(name))) for name in family.tensors)
