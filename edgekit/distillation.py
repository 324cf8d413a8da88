"""distill: a teacher in, a smaller checkpoint that behaves like it out, or nothing."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import arguments, hub
from edgekit.converters import convert as source
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.distill import student as students
from edgekit.converters.distill import texts
from edgekit.converters.distill.recipe import Recipe
from edgekit.converters.distill.student import Parts
from edgekit.converters.distill.vocabulary import Vocabulary
from edgekit.converters.text.tokenizer import SpecialTokens
from edgekit.errors import UsageError
from edgekit.in_place_of import in_place_of
from edgekit.text import Tokenizer

if TYPE_CHECKING:
    from edgekit.converters.distill.measure import Scores


@dataclass(frozen=True)
class DistillReport:
    """What was written at `path`. `scores` are None when no held-out text was given."""

    path: str
    model_type: str
    n_parameters_teacher: int
    n_parameters: int
    vocab_size: int
    n_layers: int
    seconds: float
    scores: Scores | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def distill(
    teacher: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    progress: Progress = silent,
    **options: Any,
) -> DistillReport:
    """Writes the directory `out`, an ordinary Hugging Face checkpoint, which `convert` packs.

    `options` are members of `converters.distill.recipe.Recipe`. Raises UsageError for options that contradict
    each other or the model, UnsupportedModel, InvalidFile, IoFailure; `out` is then as it was.
    """
    started = time.monotonic()
    recipe = Recipe.of({"teacher": os.fspath(teacher), **options}, "distill")
    target = Path(arguments.name(out, "the output"))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty directory", hint="choose another place")
    model = source.read(hub.resolve(recipe.teacher, progress), recipe.teacher)
    tokens = _tokens(model, recipe, progress)
    student = students.of(model, Parts(tokens=tokens))
    target.parent.mkdir(parents=True, exist_ok=True)
    with in_place_of(target) as directory:
        directory.mkdir()
        what = f"{student.spec.vocab_size} of {model.spec.vocab_size} tokens"
        students.save(student, model, directory, kept=tokens, what=what, progress=progress)
        scores = _measured(model, directory, recipe.held_out, tokens, progress) if recipe.held_out else None
    return DistillReport(
        path=str(target),
        model_type=student.spec.model_type,
        n_parameters_teacher=students.count(model.spec, model.tensors),
        n_parameters=student.n_parameters,
        vocab_size=student.spec.vocab_size,
        n_layers=len(student.spec.layers),
        seconds=time.monotonic() - started,
        scores=scores,
    )


def _tokens(model: ConvertInput, recipe: Recipe, progress: Progress) -> list[int] | None:
    """The tokens that stay, in order; None: all."""
    if recipe.vocabulary is None and recipe.vocabulary_size is None:
        return None
    definition = students.definition_of(model)
    known = Vocabulary(definition, model.spec.vocab_size)
    counts: Counter[int] = Counter()
    if recipe.vocabulary == "text" or recipe.vocabulary_size is not None:
        counts = _counted(model, recipe, progress)
    progress("choosing tokens", 0, 0)
    if recipe.vocabulary == "text":
        wanted = set(counts)
    elif recipe.vocabulary is not None:
        wanted = known.written_in([name.strip() for name in recipe.vocabulary.split(",")])
    else:
        wanted = set(known.ids.values()) - known.reserved
    roles = SpecialTokens.read(Path(model.checkpoint.path), definition)
    always = [id for id in (*roles.bos, *roles.eos, *roles.pad) if id < model.spec.vocab_size]
    frequent = sorted(wanted, key=lambda id: (-counts[id], id))
    return known.closure([*always, *frequent], recipe.vocabulary_size)


def _counted(model: ConvertInput, recipe: Recipe, progress: Progress) -> Counter[int]:
    """How often the text has each token."""
    if not recipe.text:
        raise UsageError("which tokens are frequent says a text; give --text FILE")
    tokenizer = _tokenizer(model)
    counts: Counter[int] = Counter()
    for sample in texts.read(map(Path, recipe.text)):
        progress("counting tokens", 0, 0)
        for text in texts.texts_of(sample):
            for piece in texts.pieces(text):
                counts.update(tokenizer.encode(piece, add_special_tokens=False))
    return counts


def _measured(
    model: ConvertInput, directory: Path, held_out: str, tokens: list[int] | None, progress: Progress
) -> Scores:
    from edgekit.converters.distill.measure import Side, compare
    from edgekit.converters.distill.weights import decoder

    text = "\n".join(text for sample in texts.read([Path(held_out)]) for text in texts.texts_of(sample))
    made = source.read(directory, "the student")
    theirs, ours = (Side(decoder(each.spec, each.load), _tokenizer(each).encode) for each in (model, made))
    return compare(theirs, ours, text, tokens, progress)


def _tokenizer(model: ConvertInput) -> Tokenizer:
    if model.tokenizer is None:
        raise UsageError("the teacher has no tokenizer that edgekit reads", hint="give a checkpoint with one")
    return Tokenizer.from_bytes(model.tokenizer)
