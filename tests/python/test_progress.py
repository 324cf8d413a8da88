"""What a terminal shows while something takes long."""

from __future__ import annotations

import os
import pty
import select
import sys
import threading

import pytest

from edgekit.cli import _output


class Screen:
    """A terminal for stderr, and what was written to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours, theirs = pty.openpty()
        self.seen = b""
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", os.fdopen(theirs, "w"))

    def until(self, *words: str) -> None:
        while not all(word.encode() in self.seen for word in words):
            assert select.select([self.ours], [], [], 20)[0], f"waited for {words}, saw {self.seen!r}"
            self.seen += os.read(self.ours, 4096)


def test_the_wheel_turns_and_the_clock_goes_while_nothing_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen(monkeypatch)
    with _output.progress() as progress:
        progress("reading the checkpoint", 0, 0)
        screen.until("reading the checkpoint", "⠋", "⠙", "⠹", "0:00:01")


def test_a_task_of_unknown_size_ends_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    with _output.progress() as progress:
        progress("reading the checkpoint", 0, 0)
        screen.until("reading the checkpoint")
        progress("writing m.edge", 1, 4)
        screen.until("writing m.edge", "25%")
        screen.seen = screen.seen.rpartition(b"25%")[2]
        progress("writing m.edge", 2, 4)
        screen.until("50%")
        assert b"reading" not in screen.seen


def test_a_task_keeps_its_bar_whoever_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    with _output.progress() as progress:
        progress("writing m.edge", 0, 4)
        thread = threading.Thread(target=progress, args=("writing m.edge", 3, 4))
        thread.start()
        thread.join()
        screen.until("75%")


def test_nothing_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with _output.progress() as progress:
        progress("reading the checkpoint", 0, 0)
    assert capsys.readouterr().err == ""


def test_a_task_says_how_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    with _output.progress() as progress:
        progress("training: loss 0.9", 1, 4)
        screen.until("training: loss 0.9", "25%")
        progress("training: loss 0.5", 2, 4)
        screen.seen = b""
        screen.until("training: loss 0.5", "50%")
        assert b"loss 0.9" not in screen.seen.rpartition(b"loss 0.5")[2]
