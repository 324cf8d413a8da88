"""The standard streams, whatever state they were handed over in."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import NoReturn

from edgekit.errors import IoFailure


class _Closed(io.RawIOBase):
    """stdin when the caller closed it: an error for whoever reads, and no other file's number."""

    def readable(self) -> bool:
        return True

    def readinto(self, _: object) -> NoReturn:
        raise IoFailure(
            "stdin is closed, so there is nothing to read", hint="give a pipe, a file or a terminal"
        )


def prepare() -> None:
    """Text is UTF-8; a stream that is closed is an error where it is needed. Raises IoFailure."""
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for _ in closed:  # a file that is opened later must not become standard output
        os.open(os.devnull, os.O_RDWR)
    if "stdin" in closed:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Closed()))
    if "stderr" in closed:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if "stdout" in closed:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        raise IoFailure("stdout is closed, so there is nowhere to write to", hint="redirect it: > /dev/null")
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def drop_unwritten() -> None:
    """What stdout did not take (a full disk) would be tried, and fail, again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
