"""The process of an engine with a Python interface. It understands what cpp/bench/edgekit_bench.cpp does:

    ready
    open THREADS SETTINGS POSITIONS PATH       SETTINGS: JSON without spaces
    fill COUNT
    measure PROMPT DECODE

one command a line on stdin, one JSON object a line on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from itertools import islice
from typing import Any

from edgekit.bench import peers


class Worker:
    def __init__(self, module: Any) -> None:
        self._module = module
        self._engine: Any = None
        self._random = random.Random(1)
        self._position = 0

    def ready(self) -> dict[str, Any]:
        return {}

    def open(self, threads: str, settings: str, positions: str, path: str) -> dict[str, Any]:
        start = time.perf_counter()
        self._engine = self._module.Engine(path, int(threads), int(positions), **json.loads(settings))
        load_ms = 1e3 * (time.perf_counter() - start)
        return {"load_ms": load_ms, "version": self._engine.version, **self._engine.facts}

    def fill(self, count: str) -> dict[str, Any]:
        wanted = int(count)
        if self._position > wanted:
            self._engine.truncate(wanted)
            self._position = wanted
        if self._position < wanted:
            self._engine.append(self._ids(wanted - self._position))
            self._position = wanted
        return {}

    def measure(self, prompt: str, decode: str) -> dict[str, Any]:
        ids, count = self._ids(int(prompt)), int(decode)
        start = time.perf_counter()
        tokens = self._engine.generate(ids, count + 1)
        next(tokens)
        first = time.perf_counter()
        decoded = sum(1 for _ in islice(tokens, count))
        last = time.perf_counter()
        next(tokens, None)  # what an engine does after the last token is not a part of it
        self._position += len(ids) + decoded
        return {"ttft_ms": 1e3 * (first - start), "decode_ms": 1e3 * (last - first), "decoded": decoded}

    def _ids(self, count: int) -> list[int]:
        return [self._random.randrange(self._engine.vocab_size) for _ in range(count)]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints does not mix with the answers
    module = peers.load(sys.argv[1])
    importlib.import_module(module.MODULE)  # not a part of the time to open a model
    if hasattr(module, "prepare"):
        module.prepare()
    worker = Worker(module)
    for line in sys.stdin:
        command, *arguments = line.rstrip("\n").split(" ", 4 if line.startswith("open") else -1)
        try:
            answer = getattr(worker, command)(*arguments)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
