"""A thousand sessions, created and ended in every way there is: memory stays.

In a process of their own: in that of the other tests torch and onnxruntime allocate too.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import tiny_chat_model

import edgekit

CYCLES = 1000
WARM_UP = 200
GROWTH_BYTES = 2 << 20  # of allocators and the interpreter; a session of this model takes 200 KB


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("soak")
    tiny_chat_model.write(directory / "tiny")
    edgekit.convert(directory / "tiny", directory / "tiny.edge", scheme="q4", verify=False)
    return directory / "tiny.edge"


def cycle(model: edgekit.Model, number: int) -> None:
    session = model.session(window=128)
    events = session.generate(
        "The quick brown fox", max_tokens=8, temperature=0.8, seed=number, ignore_eos=True
    )
    if number % 4 == 0:  # to the end
        assert [event.kind for event in events][-1] == "done"
        session.close()
    elif number % 4 == 1:  # cancelled while it generates
        next(iter(events))
        session.cancel()
        assert [event.finish for event in events if event.kind == "done"] == ["cancelled"]
        session.close()
    elif number % 4 == 2:  # closed while it generates
        next(iter(events))
        session.close()
    else:  # dropped while it generates
        next(iter(events))


def sessions(package: Path) -> None:
    process = psutil.Process()
    with edgekit.Model(package, threads=2) as model:
        for number in range(WARM_UP):
            cycle(model, number)
        gc.collect()
        before = process.memory_info().rss
        for number in range(CYCLES):
            cycle(model, number)
        gc.collect()
        assert process.memory_info().rss - before < GROWTH_BYTES


def models(package: Path) -> None:
    process = psutil.Process()

    def open_and_close() -> None:
        with edgekit.Model(package, threads=2) as model:
            cycle(model, 3)
        gc.collect()

    for _ in range(20):
        open_and_close()
    before = process.memory_info().rss, process.num_threads(), process.num_fds()
    for _ in range(100):
        open_and_close()
    assert process.memory_info().rss - before[0] < GROWTH_BYTES
    assert (process.num_threads(), process.num_fds()) == before[1:]


@pytest.mark.parametrize("soak", [sessions, models])
def test_nothing_is_left(soak: Callable[[Path], None], package: Path) -> None:
    program = f"import sys, pathlib, {__name__} as here; here.{soak.__name__}(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, package],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
