"""Standard streams that are closed or full, and models that are no files: an error, no traceback, no wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import cli

TEXT = Path(__file__).parents[1] / "golden" / "engine" / "text.edge"


def shell(command: str, *arguments: str | Path) -> Any:
    """`command` in a shell, with `$E` for edgekit and `$1` … for `arguments`."""
    return subprocess.run(
        ["bash", "-c", command, "bash", *map(str, arguments)],
        env=os.environ | {"E": f"{sys.executable} -m edgekit"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ('$E run "$1" - <&-', b"error: stdin is closed"),
        ('$E run "$1" hi >&-', b"error: stdout is closed"),
        ('$E run "$1" hi -n 4 --json >/dev/full', b"error: No space left"),
    ],
)
def test_streams_that_cannot_be_used(command: str, words: bytes) -> None:
    done = shell(command, TEXT)
    assert done.returncode == 4 and words in done.stderr and b"Traceback" not in done.stderr


def test_without_stderr_the_text_is_the_same() -> None:
    command = '$E run "$1" hi -n 4 --seed 1 --ignore-eos'
    silent, whole = shell(command + " 2>&-", TEXT), shell(command, TEXT)
    assert silent.returncode == 0 and silent.stdout == whole.stdout != b""


@pytest.mark.parametrize("verb", ["convert", "run", "inspect", "verify", "bench"])
def test_a_pipe_is_no_model(verb: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.edge")
    prompt = "hi" if verb == "run" else ""
    done = shell(f'$E {verb} "$1" {prompt} --json', tmp_path / "model.edge")
    assert done.returncode == 4 and "is a pipe" in json.loads(done.stdout)["error"]["message"]


def test_every_exit_code_is_explained() -> None:
    from edgekit import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {each.exit_code for each in classes} <= errors.EXIT_CODES.keys()
    assert all(f"{code} {meaning}" in (cli.epilog or "") for code, meaning in errors.EXIT_CODES.items())
