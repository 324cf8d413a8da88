"""A browser: a page plays the plan through the web SDK, shows how far it is, and sends the recording back or
saves it as a file.
"""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Any

from edgekit.bench.devices import Progress
from edgekit.bench.devices.server import Exchange
from edgekit.bench.plan import Plan
from edgekit.errors import UsageError
from edgekit.package import web

PAGE = Path(__file__).with_suffix(".html")


def record(model: Path, plan: Plan, address: str, progress: Progress) -> dict[str, Any]:
    """`address` is "", a port, or HOST:PORT to listen at for other devices: threads need https there, or a
    port that is forwarded to the device's own localhost (`adb reverse tcp:PORT tcp:PORT`).
    """
    host, port = listening(address or "0", "127.0.0.1")
    exchange = Exchange(host, port, plan, model, {"": PAGE, "edgekit/": web.built()}, progress)
    url = exchange.address("localhost" if host == "0.0.0.0" else host)
    print(f"open {url} in the browser that is to be measured, and leave its tab in front", file=sys.stderr)
    if sys.stderr.isatty():
        webbrowser.open(url)
    return exchange.wait()


def listening(address: str, host: str) -> tuple[str, int]:
    """Of "8000", or "0.0.0.0:8000". Raises UsageError."""
    name, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{address} is no port to listen at: PORT, or HOST:PORT, from 0 to 65535")
    return name or host, int(port)
