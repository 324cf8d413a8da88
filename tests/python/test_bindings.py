"""docs/bindings.md: every name in its tables is in the sources of the language it is said to be in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "C": ["cpp/include/edgekit/edgekit.h"],
    "Python": ["edgekit/*.py", "edgekit/engines/*.py"],
    "Swift": ["runtimes/apple/EdgeKit/*.swift"],
    "Kotlin": ["runtimes/android/src/main/kotlin/**/*.kt"],
    "TypeScript": ["runtimes/web/src/*.ts"],
}
WORDS = {
    language: set(re.findall(r"\w+", " ".join(f.read_text() for glob in globs for f in ROOT.glob(glob))))
    for language, globs in SOURCES.items()
}


def names(cell: str, languages: list[str]) -> list[tuple[str, str]]:
    """(language, name) of a table's cell; a language before a name says that it is that language's own."""
    found = re.findall(r"(?:(Swift|Kotlin|TypeScript) )?`([^`]+)`", cell)
    own = {language for language, _ in found if language}
    return [
        (one, word)
        for language, code in found
        for one in ([language] if language else [one for one in languages if one not in own])
        for word in re.findall(r"[A-Za-z_]\w+", code)
    ]


def rows() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    columns: list[list[str]] = []
    for line in (ROOT / "docs" / "bindings.md").read_text().splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        heads = [[language for language in SOURCES if language in cell.split(", ")] for cell in cells]
        if any(heads):
            columns = heads
        elif len(cells) == len(columns):
            for number, languages in enumerate(columns):
                same = cells[number] == "the same"  # as the column before
                found += names(cells[number - same], languages)
    return found


@pytest.mark.parametrize("language", SOURCES)
def test_every_name_is_there(language: str) -> None:
    named = {word for one, word in rows() if one == language}
    assert len(named) > 30
    assert named - WORDS[language] == set()
