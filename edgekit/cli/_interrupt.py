"""Ctrl-C while the engine computes.

Python runs a signal's handler only between bytecodes, so a long prefill would finish first. The wake-up
descriptor is written by the signal itself: a thread that waits for it cancels the session, and
KeyboardInterrupt follows.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.engine import Session


@contextmanager
def cancels(session: Session) -> Iterator[None]:
    """In the main thread: Ctrl-C cancels what `session` computes."""
    reader, writer = socket.socketpair()

    def watch() -> None:
        while signals := reader.recv(64):
            if signal.SIGINT in signals:
                session.cancel()

    writer.setblocking(False)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()
