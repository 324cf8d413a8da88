"""Where a plan can be played: a file here for each of `KINDS`, which has

record(model, plan, address, progress)   the recording; `address` is what --device says after the colon,
                                         or "". Raises EdgekitError.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.bench.plan import Plan
from edgekit.errors import UsageError

Progress = Callable[[str, int, int], None]
Record = Callable[[Path, Plan, str, Progress], dict[str, Any]]
KINDS = ("adb", "browser", "ios")


def find(device: str) -> tuple[Record, str]:
    """Of "adb:SERIAL", what records there, and "SERIAL". Raises UsageError."""
    kind, _, address = device.partition(":")
    if kind not in KINDS:
        raise UsageError(f"there is no kind of device {kind!r}; there are: {', '.join(KINDS)}")
    record: Record = importlib.import_module(f"{__name__}.{kind}").record
    return record, address
