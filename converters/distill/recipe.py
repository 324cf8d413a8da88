"""What a distillation is asked to do: the options of the command line, and of a YAML file."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import InvalidFile, UsageError


@dataclass(frozen=True)
class Recipe:
    """A member that is None was not asked for.

    Making the student: `vocabulary`, the scripts of the tokens that stay ("latin,cyrillic"), or "text": those
    that `text` has; `vocabulary_size`, the most frequent of them.
    """

    teacher: str
    text: tuple[str, ...] = ()
    held_out: str | None = None
    vocabulary: str | None = None
    vocabulary_size: int | None = None

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
