"""What is written appears whole or not at all, and what a killed process left behind goes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import IoFailure, UsageError
from edgekit.in_place_of import in_place_of


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_target_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "m.edge"
    with in_place_of(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new" and [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_failure_leaves_what_was_there(tmp_path: Path, number: int) -> None:
    target = tmp_path / "m.edge"
    target.write_text("old")
    with pytest.raises(IoFailure, match=r"disk is full|cannot write it"), in_place_of(target) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert target.read_text() == "old" and [*tmp_path.iterdir()] == [target]


def test_a_device_or_a_pipe_keeps_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a device or a pipe"), in_place_of(tmp_path / "pipe"):
        raise AssertionError("nothing is begun")
    assert (tmp_path / "pipe").is_fifo() and len([*tmp_path.iterdir()]) == 1


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = tmp_path / f".m.edge.{dead_process()}.part"
    dead.write_bytes(bytes(100))
    folder = tmp_path / f".m.edge.{dead_process()}.part"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(100))
    living = tmp_path / f".m.edge.{os.getppid()}.part"
    another = tmp_path / f".other.edge.{dead_process()}.part"
    ours = tmp_path / f".m.edge.{os.getpid()}.part"
    for file in (living, another, ours):
        file.write_bytes(b"")
    with in_place_of(tmp_path / "m.edge") as temporary:
        assert sorted(tmp_path.iterdir()) == sorted([living, another])
        temporary.write_text("new")
    assert sorted(tmp_path.iterdir()) == sorted([living, another, tmp_path / "m.edge"])
