"""One engine in a process of its own: its memory is its alone, and what it does wrong ends nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgekit.bench import machine
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from typing_extensions import Self


class BenchmarkFailed(EdgekitError):
    """An engine's process answered with an error, or ended."""


class Child:
    """A process that understands the commands of cpp/bench/edgekit_bench.cpp; `argv` starts it."""

    def __init__(self, name: str, argv: Sequence[str]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def ask(self, *words: object) -> dict[str, Any]:
        """The answer to one command. Raises BenchmarkFailed."""
        assert self._process.stdin and self._process.stdout
        try:
            print(*words, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchmarkFailed(f"{self.name}: its process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchmarkFailed(f"{self.name}: {answer['error']}")
        return answer

    def memory(self) -> machine.Memory | None:
        return machine.memory_of(self._process.pid)

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"exit status {status}"


def python_argv(engine: str) -> list[str]:
    return [sys.executable, "-m", "edgekit.bench.worker", engine]
