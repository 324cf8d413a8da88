"""Files and folders that appear whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import IoFailure, UsageError


@contextmanager
def in_place_of(target: Path) -> Iterator[Path]:
    """A temporary name beside `target` that becomes `target` when all went well, and disappears when not.

    A process that was killed could not tidy up: what it left of this target goes first. Raises IoFailure, and
    UsageError for a device or a pipe, whose place a file would take.
    """
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise UsageError(f"{target} is a device or a pipe; give the name of a file")
    try:
        for left in _left_by_the_dead(target):
            _remove(left)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            yield temporary
            temporary.replace(target)
        finally:
            _remove(temporary)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise IoFailure(
                f"{target.parent}: the disk is full", hint="make room, or give another place"
            ) from None
        raise IoFailure(f"{target}: cannot write it: {error.strerror or error}") from None


def check(target: Path) -> None:
    """That a file `target` can be written, before hours go into what will be in it. Raises UsageError."""
    folder = target.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{folder} is no directory; create it first")
    if target.is_dir():
        raise UsageError(f"{target} is a directory; give the name of a file")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is a device or a pipe; give the name of a file")
    try:  # what permissions say is not the whole truth: a disk may be mounted for reading alone
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{target}: cannot write there: {error.strerror}; give another place") from None


def _left_by_the_dead(target: Path) -> list[Path]:
    """Temporary names of `target` whose process is no more; one with our own number is of an earlier life."""
    name = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.part")
    found = ((path, name.fullmatch(path.name)) for path in target.absolute().parent.iterdir())
    return [path for path, match in found if match and not _lives(int(match[1]))]


def _lives(process: int) -> bool:
    if process == os.getpid():
        return False
    if os.name != "posix":  # where asking with signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
