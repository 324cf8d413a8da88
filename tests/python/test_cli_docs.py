"""docs/cli.md says what `--help` says. EDGEKIT_WRITE_DOCS=1 writes it anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edgekit.cli import cli
from edgekit.errors import EXIT_CODES

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
INTRODUCTION = """\
# The command line

What follows is `edgekit VERB --help` for every verb; a test keeps it so.

Data goes to stdout, progress and hints to stderr. `--json` gives one JSON document on stdout, also for an
error: `{"error": {"kind", "message", "exit_code", "hint"?, "needed_bytes"?}}`. Long work shows a progress bar
on a terminal. An interrupted or failed command leaves no half-written file.

| exit code | |
|---:|---|
"""


def reference() -> str:
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    parts = [INTRODUCTION + codes]
    settings: dict[str, Any] = cli.context_settings | {"terminal_width": 100, "max_content_width": 100}
    root = click.Context(cli, info_name="edgekit", **settings)
    for verb in cli.list_commands(root):
        command = cli.get_command(root, verb)
        assert command is not None
        context = click.Context(command, root, info_name=verb, terminal_width=100, max_content_width=100)
        parts.append(f"## edgekit {verb}\n\n```\n{command.get_help(context).strip()}\n```\n")
    return "\n".join(parts)


def test_the_reference_is_what_help_says() -> None:
    if os.environ.get("EDGEKIT_WRITE_DOCS"):
        DOCS.write_text(reference())
    assert DOCS.read_text().split() == reference().split(), "run with EDGEKIT_WRITE_DOCS=1 to write it anew"
