"""distill: a teacher in, a smaller checkpoint that behaves like it out, or nothing."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import arguments, hub
from edgekit.calibration import calibrated
from edgekit.converters import convert as source
from edgekit.converters import models, synth
from edgekit.converters.checkpoint import read_json
from edgekit.converters.checkpoint_files import flat_config
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.distill import student as students
from edgekit.converters.distill import texts, trackers
from edgekit.converters.distill.recipe import Recipe
from edgekit.converters.distill.student import Array, Load, Parts, Student
from edgekit.converters.distill.texts import Window
from edgekit.converters.distill.vocabulary import Vocabulary
from edgekit.converters.formats import edge
from edgekit.converters.models import Family
from edgekit.converters.text.tokenizer import SpecialTokens
from edgekit.distillation import corpora
from edgekit.distillation.packed import Packed, packed
from edgekit.errors import UsageError
from edgekit.in_place_of import in_place_of
from edgekit.text import ChatTemplate, Tokenizer

if TYPE_CHECKING:
    from edgekit.converters.distill.measure import Scores

SEARCH_TOKENS = 512  # with which parts of a model are chosen
BYTES_OF_A_TOKEN = 8  # of a data set, and then some
LEAST_OF_A_DATASET = 1 << 22
PACKED = "q8"  # packages that are measured, of a student that was trained for no scheme
LOG = "distillation.jsonl"  # in the student's directory: the loss of every step


@dataclass(frozen=True)
class DistillReport:
    """What was written at `path`, or with `dry_run` what would be. `scores` are None when no held-out text
    was given, `scores_before`, those of the student before it was trained, also when it was not trained.

    `packed`, when it was asked for, says what "teacher" and "student" are as packages of `scheme`.

    `memory_bytes`, `training_seconds` and `operations` are what training takes, estimated before it begins;
    None without.
    """

    path: str
    teacher: str
    model_type: str
    n_parameters_teacher: int
    n_parameters: int
    vocab_size: int
    n_layers: int
    seconds: float
    dry_run: bool
    scores: Scores | None = None
    scores_before: Scores | None = None
    packed: dict[str, Packed] = field(default_factory=dict)
    scheme: str = ""
    memory_bytes: int | None = None
    training_seconds: float | None = None
    operations: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def distill(
    teacher: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    pack: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> DistillReport:
    """Writes the directory `out`, an ordinary Hugging Face checkpoint, which `convert` packs; with `pack`
    teacher and student are packed, for the report alone.

    `options` are members of `converters.distill.recipe.Recipe`. A run that was interrupted or killed goes on
    when it is asked for again with the same ones: what it has done lies in a folder beside `out` until then.
    Raises UsageError for options that contradict each other or the model, UnsupportedModel, InvalidFile,
    IoFailure; `out` is then as it was.
    """
    started = time.monotonic()
    recipe = Recipe.of({"teacher": os.fspath(teacher), **options}, "distill")
    if recipe.changes_nothing:
        raise UsageError(
            "nothing says what the student is to have less of, or to learn",
            hint="give --tokens, --vocabulary, --layers, --ffn, --kv-heads, --width or --target-params",
        )
    target = Path(arguments.name(out, "the output"))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty directory", hint="choose another place")
    run = _Run(recipe, target, progress if is_main() else silent)
    if dry_run:
        return run.report(run.planned(), started, dry_run=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        with run.one_after_another():
            student = run.begun()
        load = run.trained(student) if recipe.tokens else student.load
        found: dict[str, Any] = {}
        if is_main():
            with in_place_of(target) as directory:
                directory.mkdir()
                run.save(student, load, directory)
                if recipe.tokens:
                    _copy_log(run.work / LOG, directory / LOG)
                found = run.measured(student, directory)
                if pack:
                    found |= run.packed(directory)
        done = True
    finally:
        if is_main() and (done or not run.state.exists()):
            shutil.rmtree(run.work, ignore_errors=True)
    return run.report(_as_student(student), started, **found)


def is_main() -> bool:
    """Of several processes that train together one writes and speaks; torch's launchers number them."""
    return os.environ.get("RANK", "0") == "0"


class _Run:
    """`work` is where an interrupted run goes on from: the student before training, the training's state."""

    def __init__(self, recipe: Recipe, target: Path, progress: Progress) -> None:
        self.recipe, self.progress, self.target = recipe, progress, target
        self.teacher_path = hub.resolve(recipe.teacher, progress)
        self.teacher = source.read(self.teacher_path, recipe.teacher)
        if recipe.tokens or recipe.held_out:
            self._course()  # which says what is wrong before any work, a missing torch too
        if recipe.scheme is not None and recipe.scheme not in edge.SCHEMES:
            raise UsageError(
                f"there is no scheme {recipe.scheme!r}; choose one of: {', '.join(edge.SCHEMES)}"
            )
        n_bytes = max(recipe.tokens * BYTES_OF_A_TOKEN, LEAST_OF_A_DATASET)
        self.texts = [corpora.resolve(name, n_bytes, progress) for name in recipe.text]
        self.held_out = texts.whole([Path(recipe.held_out)]) if recipe.held_out else ""
        facts = [(f.stat().st_size, f.stat().st_mtime_ns) for f in self.texts if f.is_file()]
        identity = repr((recipe, self.teacher.metadata["source"], facts))
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        self.work = target.with_name(f".{target.name}.{digest}.distill")
        self.state = self.work / "training"
        self.tokens = self._tokens() if recipe.student is None else None

    # ---- the student

    def planned(self) -> Student:
        """One of the right shape, with any parts."""
        if self.recipe.student is not None:
            path = hub.resolve(self.recipe.student, self.progress)
            if path.suffix != ".json":
                return _as_student(self._given())
            config = read_json(path)
            return Student(config, models.load(config), self.teacher.load)
        spec, recipe = self.teacher.spec, self.recipe
        layers = range(min(recipe.layers or len(spec.layers), len(spec.layers)))
        width = self._width(layers)
        parts = Parts(
            self.tokens,
            layers if recipe.layers else None,
            {n: range(width) for n in layers if spec.layers[n].d_ff} if width else {},
            {n: range(recipe.kv_heads) for n in layers} if recipe.kv_heads else {},
            range(recipe.width) if recipe.width else None,
        )
        return students.of(self.teacher, parts)

    def begun(self) -> ConvertInput:
        """The student before training: with a scheme, the weights that its calibrated codes stand for."""
        made, scheme = self._made(), self.recipe.scheme
        if scheme is None or not self.recipe.tokens:
            return made
        folder = self.work / "calibrated"
        if not folder.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            grids = edge.grids(made, scheme)
            with (
                calibrated(made, grids, self.texts, self.recipe.seed, progress=self.progress) as model,
                in_place_of(folder) as directory,
            ):

                def load(name: str) -> Array | None:
                    if name not in grids:
                        return model.load(name)
                    return grids[name].restore(
                        model.fitted(name, grids[name], (0, model.spec.shape(name)[0]))
                    )

                directory.mkdir()
                self.save(made, load, directory)
        return source.read(folder, "the student")

    def _made(self) -> ConvertInput:
        """The student as its parts are, before training."""
        if self.recipe.student is not None:
            return self._given()
        folder = self.work / "student"
        if not folder.exists():
            parts = self._chosen()
            made = students.of(self.teacher, parts)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with in_place_of(folder) as directory:
                directory.mkdir()
                students.save(
                    made,
                    self.teacher,
                    directory,
                    kept=self.tokens,
                    what=self._what(made),
                    progress=self.progress,
                )
        return source.read(folder, "the student")

    def _given(self) -> ConvertInput:
        path = hub.resolve(str(self.recipe.student), self.progress)
        if path.suffix == ".json":
            folder = self.work / "student"
            if not folder.exists():
                synth.synth(read_json(path), folder, self.recipe.seed, self.progress)
            path = folder
        found = source.read(path, "the student")
        if found.spec.vocab_size != self.teacher.spec.vocab_size:
            raise UsageError(
                f"the student has {found.spec.vocab_size} tokens, the teacher {self.teacher.spec.vocab_size}",
                hint="a student learns from a teacher with the same vocabulary",
            )
        if found.tokenizer not in (None, self.teacher.tokenizer):
            raise UsageError("the student's tokenizer is another one than the teacher's")
        return found

    def _chosen(self) -> Parts:
        recipe, spec = self.recipe, self.teacher.spec
        width = self._width(range(recipe.layers or len(spec.layers)))
        if not (recipe.layers or width or recipe.kv_heads or recipe.width):
            return Parts(self.tokens)
        from edgekit.converters.distill import prune, weights

        loaded = weights.fixed(self.teacher.load)
        windows = [window.ids for window in self._windows(self.teacher, self.texts)]
        some = windows[: max(1, SEARCH_TOKENS // recipe.context)]
        self.progress("weighing channels and heads", 0, 0)
        return Parts(
            self.tokens,
            prune.layers(spec, loaded, some, recipe.layers, self.progress) if recipe.layers else None,
            prune.channels(spec, loaded, some, width) if width else {},
            prune.groups(spec, loaded, some, recipe.kv_heads) if recipe.kv_heads else {},
            prune.width(spec, loaded, some, recipe.width) if recipe.width else None,
        )

    def _width(self, layers: Sequence[int]) -> int | None:
        """Channels that stay; None: all."""
        if self.recipe.target_params is None:
            return self.recipe.ffn
        from edgekit.converters.distill import prune

        heads = self.recipe.kv_heads
        groups = {n: range(heads) for n in layers} if heads else {}
        few = Parts(self.tokens, layers, {}, groups, range(self.recipe.width) if self.recipe.width else None)
        student = students.of(self.teacher, few)
        names = student.family.tensors
        return prune.width_for(student.spec, lambda spec: spec.parameters(names), self.recipe.target_params)

    def _what(self, student: Student) -> str:
        ours, theirs = student.spec, self.teacher.spec
        layers = f"{len(ours.layers)} of {len(theirs.layers)} layers"
        return f"{ours.vocab_size} of {theirs.vocab_size} tokens, {layers}"

    # ---- its vocabulary

    def _tokens(self) -> list[int] | None:
        """The teacher's tokens that stay, in the student's order; None: all."""
        recipe, model = self.recipe, self.teacher
        if recipe.vocabulary is None and recipe.vocabulary_size is None:
            return None
        definition = students.definition_of(model)
        known = Vocabulary(definition, model.spec.vocab_size)
        counts: Counter[int] = Counter()
        if recipe.vocabulary == "text" or recipe.vocabulary_size is not None:
            counts = self._counted()
        self.progress("choosing tokens", 0, 0)
        if recipe.vocabulary == "text":
            wanted = set(counts)
        elif recipe.vocabulary is not None:
            wanted = known.written_in([name.strip() for name in recipe.vocabulary.split(",")])
        else:
            wanted = set(known.ids.values()) - known.reserved
        roles = SpecialTokens.read(model.checkpoint.path, definition)
        always = [id for id in (*roles.bos, *roles.eos, *roles.pad) if id < model.spec.vocab_size]
        frequent = sorted(wanted, key=lambda id: (-counts[id], id))
        return known.closure([*always, *frequent], recipe.vocabulary_size)

    def _counted(self) -> Counter[int]:
        """How often the text has each token."""
        tokenizer = _tokenizer(self.teacher)
        counts: Counter[int] = Counter()
        for sample in texts.read(self.texts):
            self.progress("counting tokens", 0, 0)
            for text in texts.texts_of(sample):
                for piece in texts.pieces(text):
                    counts.update(tokenizer.encode(piece, add_special_tokens=False))
        return counts

    # ---- its training

    def one_after_another(self) -> AbstractContextManager[None]:
        """The main process before the others, which then find what it has made."""
        if not self.recipe.tokens:
            return nullcontext()
        from edgekit.converters.train import processes

        team: AbstractContextManager[None] = processes().main_process_first()
        return team

    def trained(self, student: ConvertInput) -> Load:
        recipe, model = self.recipe, student if student.tokenizer else self.teacher
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / LOG).open("a", encoding="utf-8") if is_main() else nullcontext() as log:
            track = trackers.opened(recipe.track, self.target, recipe) if is_main() else None

            def told(step: int, values: dict[str, float]) -> None:
                if log is not None:
                    log.write(json.dumps({"step": step, **values}) + "\n")
                    log.flush()
                if track is not None:
                    track(step, values)

            if recipe.on_policy:
                return self._answered(student, told)
            from edgekit.converters.distill.healing import heal

            return heal(
                student,
                self.teacher,
                self._windows(model, self.texts),
                self._course(),
                kept=self.tokens,
                cache=None if recipe.cache is None else Path(recipe.cache),
                grids=edge.grids(student, recipe.scheme) if recipe.scheme else None,
                validation=self._windows(model, [Path(recipe.validation)]) if recipe.validation else (),
                state=self.state,
                told=told,
                progress=self.progress,
            )

    def _answered(self, student: ConvertInput, told: Callable[[int, dict[str, float]], None]) -> Load:
        """The student after it has learned from its own text."""
        from edgekit.converters.distill import on_policy

        folder, own = self.work / "on-policy", student.checkpoint.path
        if not (self.teacher_path.is_dir() and (own / "config.json").is_file()):
            raise UsageError("on-policy distillation is of Hugging Face directories, teacher and student")
        on_policy.train(self.teacher_path, own, texts.read(self.texts), self.recipe, folder, told)
        return source.read(folder, "the student").load

    def save(self, student: ConvertInput, load: Load, directory: Path) -> None:
        """Writes the student with the tensors of `load`."""
        made = dataclasses.replace(_as_student(student), load=load)
        base = student if student.tokenizer else self.teacher
        # codes that the weights were trained for are those of the weights as they are, not rounded
        dtype = "F32" if self.recipe.scheme else None
        students.save(made, base, directory, dtype=dtype, what=self._what(made), progress=self.progress)

    def _course(self) -> Any:
        from edgekit.converters.distill.healing import Course
        from edgekit.converters.distill.losses import Loss

        recipe = self.recipe
        loss = Loss(recipe.loss, recipe.beta, recipe.temperature, recipe.hidden_weight)
        size, rate, patience = recipe.batch_tokens, recipe.learning_rate, recipe.patience
        return Course(recipe.tokens, size, rate, loss, recipe.seed, patience)

    def _windows(self, model: ConvertInput, files: Sequence[Path]) -> list[Window]:
        tokenizer = _tokenizer(model)
        before = [] if model.bos_id is None else [model.bos_id]
        after = model.metadata["eos_ids"][:1]
        render = None
        if model.chat_template is not None:
            template = ChatTemplate.from_bytes(model.chat_template)
            render = functools.partial(_rendered, template, tokenizer, model.metadata["special_tokens"])
        self.progress("reading the text", 0, 0)
        return texts.windows(
            texts.read(files),
            functools.partial(tokenizer.encode, add_special_tokens=False),
            render,
            length=self.recipe.context,
            around=(before, after),
        )

    # ---- what is said of it

    def measured(self, before: ConvertInput, directory: Path) -> dict[str, Scores]:
        """The student in `directory`, and what it was before training, on the held-out text; with a scheme
        those that a package holds.
        """
        if not self.held_out:
            return {}
        students = {"scores": source.read(directory, "the student")}
        if self.recipe.tokens:
            students["scores_before"] = before
        return {name: self._scores(student) for name, student in students.items()}

    def _scores(self, student: ConvertInput) -> Scores:
        from edgekit.converters.distill import weights
        from edgekit.converters.distill.measure import Side, compare
        from edgekit.converters.interpreters.torch import TorchDecoder

        theirs, ours = (
            Side(TorchDecoder(each.spec, weights.fixed(load)), _tokenizer(tokenizer).encode)
            for each, load, tokenizer in (
                (self.teacher, self.teacher.load, self.teacher),
                (student, self._as_packed(student), student if student.tokenizer else self.teacher),
            )
        )
        return compare(theirs, ours, self.held_out, self.tokens, self.progress)

    def _as_packed(self, student: ConvertInput) -> Load:
        """The student's tensors as the package that it was trained for holds them."""
        grids = edge.grids(student, self.recipe.scheme) if self.recipe.scheme else {}

        def load(name: str) -> Array | None:
            values = student.load(name)
            return grids[name].changed(values) if name in grids and values is not None else values

        return load

    def packed(self, directory: Path) -> dict[str, Any]:
        """Teacher and student as packages."""
        scheme = self.recipe.scheme or PACKED
        sides = {"teacher": self.teacher_path, "student": directory}
        return {"packed": packed(sides, scheme, self.progress), "scheme": scheme}

    def report(
        self, student: Student, started: float, *, dry_run: bool = False, **found: Any
    ) -> DistillReport:
        n_teacher, n = self.teacher.spec.parameters(self.teacher.tensors), student.n_parameters
        if dry_run and self.recipe.tokens:
            from edgekit.converters.distill.estimate import estimate

            found |= asdict(estimate(n_teacher, n, student.spec.vocab_size, self._course()))
        return DistillReport(
            path=str(self.target),
            teacher=self.recipe.teacher,
            model_type=student.spec.model_type,
            n_parameters_teacher=n_teacher,
            n_parameters=n,
            vocab_size=student.spec.vocab_size,
            n_layers=len(student.spec.layers),
            seconds=time.monotonic() - started,
            dry_run=dry_run,
            **found,
        )


def _as_student(model: ConvertInput) -> Student:
    return Student(flat_config(model), Family(model.spec, model.tensors), model.load)


def _tokenizer(model: ConvertInput) -> Tokenizer:
    if model.tokenizer is None:
        raise UsageError("the teacher has no tokenizer that edgekit reads", hint="give a checkpoint with one")
    return Tokenizer.from_bytes(model.tokenizer)


def _rendered(
    template: ChatTemplate, tokenizer: Tokenizer, special: dict[str, str], messages: list[dict[str, Any]]
) -> list[int]:
    return template.encode(tokenizer, {"messages": messages}, special)


def _copy_log(work: Path, to: Path) -> None:
    """Each step once: those after the last saved state were made again by a run that went on."""
    steps = {step["step"]: step for step in map(json.loads, work.read_text("utf-8").splitlines())}
    to.write_text("".join(json.dumps(steps[number]) + "\n" for number in sorted(steps)), "utf-8")
