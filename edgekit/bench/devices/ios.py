"""An iPhone or iPad: the app of samples/apple/Bench fetches plan and model from here over the local network,
plays the plan with the same program, and sends the recording back. Its share sheet gives the same file.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from edgekit.bench.devices import Progress
from edgekit.bench.devices.browser import listening
from edgekit.bench.devices.server import Exchange
from edgekit.bench.plan import Plan

PORT = "8765"


def record(model: Path, plan: Plan, address: str, progress: Progress) -> dict[str, Any]:
    host, port = listening(address or PORT, "0.0.0.0")
    exchange = Exchange(host, port, plan, model, {}, progress)
    print(f"type {exchange.address(_own_address())} into the app Bench, and leave it open", file=sys.stderr)
    return exchange.wait()


def _own_address() -> str:
    """By which others on the local network reach this computer; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that is nobody's
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
