"""A small HTTP server that gives a plan and its model to whoever plays it, and takes the recording.

GET  /plan.json      the plan
GET  /model.edge     the model; ranges too
POST /progress       {"done": 3, "total": 40}
POST /recording      the recording of this plan: the server's work is done
POST /failure        why there will be none, as text

What pages of other origins send is refused: any page that is open in a browser may post to a local port.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.devices import Progress
from edgekit.bench.plan import Plan
from edgekit.errors import UsageError

LARGEST = 64 << 20  # bytes of what is posted
NUMBER = re.compile(r"[0-9]{1,19}")
RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")  # any other is given the whole file
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript"} | {
    ".wasm": "application/wasm",
    ".json": "application/json",
}
# So that a page may have threads.
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}


class Exchange:
    """The server and what came of it. `files` are paths of URLs and what is there: a file, a folder (all in
    it), or bytes of JSON.
    """

    def __init__(
        self, host: str, port: int, plan: Plan, model: Path, files: Mapping[str, Path], progress: Progress
    ) -> None:
        self._plan, self._progress = plan, progress
        self._done = threading.Event()
        self._recording: dict[str, Any] = {}
        self._failure: str | None = None
        handler = partial(_Handler, self, json.dumps(plan).encode(), {"/model.edge": model, **files})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise UsageError(f"cannot listen at {host}:{port}: {error.strerror}") from None
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait(self) -> dict[str, Any]:
        """The recording. Raises BenchmarkFailed when the player gave up."""
        try:
            while not self._done.wait(1):  # in seconds, so that Ctrl-C is heard
                pass
        finally:
            self._server.shutdown()
            self._server.server_close()
        if self._failure is not None:
            raise BenchmarkFailed(f"the device gave up: {self._failure}")
        return self._recording

    def take(self, path: str, body: bytes) -> bool:
        """Whether it is anything that is expected."""
        try:
            if path == "/failure":
                self._failure = body.decode(errors="replace")[:500]
            elif path == "/recording":
                recording = dict(json.loads(body))
                if recording["plan"] != self._plan:
                    return False
                self._recording = recording
            elif path == "/progress":
                done = json.loads(body)
                self._progress("measuring on the device", int(done["done"]), int(done["total"]))
                return True
            else:
                return False
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return False
        self._done.set()
        return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, exchange: Exchange, plan: bytes, files: Mapping[str, Path], *arguments: Any) -> None:
        self._exchange, self._plan, self._files = exchange, plan, files
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        url = self.path.partition("?")[0]
        if url == "/plan.json":
            return self._answer(200, self._plan, TYPES[".json"])
        path = self._find(url)
        if path is None:
            return self._answer(404, b"not here")
        with path.open("rb") as file:
            self._send(file, path.stat().st_size, TYPES.get(path.suffix, "application/octet-stream"))

    def do_POST(self) -> None:
        said = self.headers.get("Content-Length")
        origin = self.headers.get("Origin")
        if said is None:
            return self._refuse(411, b"Content-Length is missing")
        if not NUMBER.fullmatch(said):
            return self._refuse(400, b"Content-Length is no number")
        if not 0 < int(said) <= LARGEST:
            return self._refuse(413, b"too large, or empty")
        if origin not in (None, f"http://{self.headers.get('Host')}"):
            return self._refuse(403, b"a page of another origin")
        body = self.rfile.read(int(said))
        if len(body) < int(said):
            return self._refuse(400, b"ends early")
        taken = self._exchange.take(self.path, body)
        self._answer(200 if taken else 400, b"thank you" if taken else b"not understood, or of another plan")

    def _refuse(self, status: int, why: bytes) -> None:
        """Without having read what was posted."""
        self.close_connection = True
        self._answer(status, why)

    def _find(self, url: str) -> Path | None:
        try:
            for name, path in self._files.items():
                if url == name and path.is_file():
                    return path
                if path.is_dir() and url.startswith(name):
                    found = (path / url[len(name) :]).resolve()
                    if found.is_relative_to(path.resolve()) and found.is_file():
                        return found
        except (OSError, ValueError):  # what can be no file's name
            pass
        return None

    def _send(self, file: BinaryIO, total: int, kind: str) -> None:
        asked = RANGE.fullmatch(self.headers.get("Range") or "")
        first, last = 0, total - 1
        if asked:
            first, last = int(asked[1]), min(last, int(asked[2] or last))
            if first > last:
                return self._answer(416, b"no such range")
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        self._headers(last - first + 1, kind)
        file.seek(first)
        left = last - first + 1
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            self.wfile.write(piece)
            left -= len(piece)

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self._headers(len(body), kind)
        self.wfile.write(body)

    def _headers(self, length: int, kind: str) -> None:
        for name, value in {**ISOLATED, "Content-Type": kind, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
