"""What a distillation is asked to do: the options of the command line, and of a YAML file."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.converters.distill.trackers import TRACKERS
from edgekit.errors import InvalidFile, UsageError

# What says of which parts of its teacher a student is made.
MADE_BY = ("vocabulary", "vocabulary_size", "layers", "ffn", "kv_heads", "width", "target_params")
OFF_POLICY = ("vocabulary", "vocabulary_size", "hidden_weight", "validation", "cache", "scheme")


@dataclass(frozen=True)
class Recipe:
    """A member that is None was not asked for.

    `text`, to learn from: files of text, of JSONL of {"text"}, {"messages"}, {"prompt", "completion"}, or ids
    of data sets; `held_out`, a file to measure with.

    Making the student: `vocabulary`, the scripts of the tokens that stay ("latin,cyrillic"), or "text": those
    that `text` has; `vocabulary_size`, the most frequent of them; `layers`, channels `ffn` of each
    feed-forward part, key/value heads `kv_heads` and channels `width` of the hidden states that stay;
    `target_params`, so many parameters at most by a smaller `ffn`. Or `student`: a checkpoint with the
    teacher's vocabulary, or the config.json of one, whose weights begin random.

    Training it: `tokens` in all, 0: none; `batch_tokens` in a step, in texts of `context`; `loss`, `beta`,
    `temperature` and `hidden_weight` as in `losses.Loss`; `validation`, a file by which the best weights are
    chosen, and training ends when `patience` judgements of twenty in all were no better; `cache`, a folder
    for the teacher's answers; `scheme`, which the student's weights are trained for: those of an .edge
    package of that scheme; `on_policy`, the share of the texts that the student writes itself, by `jsd`;
    `track`, one of TRACKERS, which is told of every step.
    """

    teacher: str
    text: tuple[str, ...] = ()
    held_out: str | None = None
    vocabulary: str | None = None
    vocabulary_size: int | None = None
    layers: int | None = None
    ffn: int | None = None
    kv_heads: int | None = None
    width: int | None = None
    target_params: int | None = None
    student: str | None = None
    tokens: int = 0
    batch_tokens: int = 1024
    context: int = 256
    learning_rate: float = 3e-4
    loss: str = "kl"
    beta: float = 0.1
    temperature: float = 1.0
    hidden_weight: float = 0.0
    validation: str | None = None
    patience: int = 3
    cache: str | None = None
    scheme: str | None = None
    on_policy: float = 0.0
    track: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in MADE_BY if getattr(self, name) is not None]
        if self.student is not None and given:
            raise UsageError(f"'student' is given, and {', '.join(given)} too; give the one or the other")
        if self.ffn is not None and self.target_params is not None:
            raise UsageError("'ffn' and 'target_params' are given; the one follows from the other")
        if self.tokens < 0 or self.context < 2 or self.batch_tokens < self.context:
            raise UsageError(
                f"{self.tokens} tokens, {self.batch_tokens} a step, in texts of {self.context}; "
                "a step has at least one text, a text two tokens"
            )
        if not 0 <= self.on_policy <= 1:
            raise UsageError(f"on_policy is {self.on_policy}; give a share, 0 to 1")
        if self.on_policy and (self.loss != "jsd" or any(getattr(self, name) for name in OFF_POLICY)):
            raise UsageError(
                f"text of the student's own is learned by --loss jsd, without {', '.join(OFF_POLICY)}",
                hint="train in two runs, one after the other",
            )
        if self.track not in (None, *TRACKERS):
            raise UsageError(f"there is no tracker {self.track!r}; choose one of: {', '.join(TRACKERS)}")
        if not self.text and self.needs_text:
            raise UsageError("choosing parts of a model, and training, need a text", hint="give --text FILE")

    @property
    def needs_text(self) -> bool:
        chosen = any(getattr(self, name) is not None for name in MADE_BY if name != "vocabulary")
        return self.tokens > 0 or self.vocabulary == "text" or chosen

    @property
    def changes_nothing(self) -> bool:
        return not self.tokens and all(getattr(self, name) is None for name in (*MADE_BY, "student"))

    @classmethod
    def of(cls, members: dict[str, Any], where: str) -> Recipe:
        """Checked. Raises UsageError for unknown members, values of a wrong type, and missing ones."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := members.keys() - known.keys():
            raise UsageError(
                f"{where}: there is no {', '.join(map(repr, sorted(unknown)))}; known: {', '.join(known)}"
            )
        kinds = typing.get_type_hints(cls)
        if "teacher" not in members:
            raise UsageError(f"{where}: 'teacher' is missing: a checkpoint, or its Hugging Face id")
        return cls(
            **{name: _checked(value, kinds[name], f"{where}: {name!r}") for name, value in members.items()}
        )

    def to_yaml(self) -> str:
        import yaml

        return yaml.safe_dump(
            {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self).items()
            },
            sort_keys=False,
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """The members of a recipe's file. Raises InvalidFile."""
    import yaml

    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidFile(f"{path}: cannot read it: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}: not YAML: {error}") from None
    if not isinstance(value, dict):
        raise InvalidFile(f"{path}: a {type(value).__name__} where names and values belong")
    return value


def _checked(value: Any, kind: Any, where: str) -> Any:
    if typing.get_origin(kind) is types.UnionType:
        return None if value is None else _checked(value, typing.get_args(kind)[0], where)
    if typing.get_origin(kind) is tuple:
        listed = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_checked(member, typing.get_args(kind)[0], where) for member in listed)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UsageError(f"{where} is {value!r}; a {kind.__name__} is expected")
    return value
