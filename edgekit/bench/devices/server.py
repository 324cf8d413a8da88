"""A small HTTP server that gives a plan and its model to whoever plays it, and takes the recording.

All of it lies below /TOKEN/, a word that only the address has which the command prints: who does not know it
gets 403, and so does a page of another origin.

GET  plan.json      the plan; its member `run` is the token, so that a recording is known to be of this run
GET  model.edge     the model; ranges too
POST progress       {"done": 3, "total": 40}
POST recording      the recording: the server's work is done
POST failure        why there will be none, as text
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from edgekit.bench import recording, schema
from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.devices import Progress
from edgekit.bench.plan import Plan
from edgekit.errors import InvalidFile, UsageError

LARGEST = 64 << 20  # bytes of what is posted
DISCARDED = 1 << 20  # bytes of what is refused that are read all the same
STALLED = 300  # seconds that a connection may say nothing
# For a token that can be typed on a phone: no letters that look alike, 50 bits.
LETTERS, LENGTH = "abcdefghjkmnpqrstuvwxyz23456789", 10
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


class Refused(Exception):
    """What a request is answered with, and why."""

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status, self.headers = status, headers


class Exchange:
    """The server and what came of it. `files` are paths below the token, and what is there: a file, or a
    folder (all in it).
    """

    def __init__(
        self, host: str, port: int, plan: Plan, model: Path, files: Mapping[str, Path], progress: Progress
    ) -> None:
        self.token = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
        # As JSON has it: what comes back is compared with this.
        self._plan = json.loads(json.dumps({**plan, "run": self.token}))
        self._progress = progress
        self._turn = threading.Lock()
        self._outcome: dict[str, Any] | BenchmarkFailed | None = None
        self._done = threading.Event()
        handler = partial(
            _Handler, self, json.dumps(self._plan).encode(), dict(_listed({"model.edge": model, **files}))
        )
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise UsageError(f"cannot listen at {host}:{port}: {error.strerror}") from None
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def address(self, host: str) -> str:
        """What the player opens, where this computer is `host`."""
        return f"http://{host}:{self.port}/{self.token}/"

    def wait(self) -> dict[str, Any]:
        """The recording. Raises BenchmarkFailed when the player gave up."""
        try:
            while not self._done.wait(1):  # in seconds, so that Ctrl-C is heard
                pass
        finally:
            self._server.shutdown()
            self._server.server_close()
        assert self._outcome is not None
        if isinstance(self._outcome, BenchmarkFailed):
            raise self._outcome
        return self._outcome

    def take(self, name: str, body: bytes) -> None:
        """What was posted. Raises Refused."""
        match name:
            case "progress":
                self._progress("measuring on the device", *_progress_of(body))
            case "recording":
                self._end(self._recording_of(body))
            case "failure":
                why = body.decode(errors="replace")[:500]
                self._end(BenchmarkFailed(f"the device gave up: {why}"))
            case _:
                raise Refused(404, "nothing is posted here but progress, recording and failure")

    def release(self) -> None:
        """Ends `wait` where there is an outcome; once the player has its answer, since the process ends."""
        if self._outcome is not None:
            self._done.set()

    def _end(self, outcome: dict[str, Any] | BenchmarkFailed) -> None:
        with self._turn:
            if self._outcome is not None:
                raise Refused(409, "this run is over: its end was told before")
            self._outcome = outcome

    def _recording_of(self, body: bytes) -> dict[str, Any]:
        found = _json_of(body)
        if found.get("recording") != 1:
            raise Refused(400, 'this is no recording: it has no "recording": 1')
        if found.get("plan") != self._plan:
            raise Refused(409, "this is the recording of another run: its plan is not the one given here")
        try:
            faults = schema.faults(recording.result_of(found))
        except InvalidFile as error:
            raise Refused(400, str(error)) from None
        except BenchmarkFailed:
            return found  # a true recording, of a device that failed: whoever waits is told
        if faults:
            raise Refused(400, f"this recording makes no result: {faults[0]}")
        return found


def _listed(files: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for name, path in files.items():
        if path.is_dir():
            inside = (found for found in path.rglob("*") if found.is_file())
            yield from ((name + found.relative_to(path).as_posix(), found) for found in inside)
        else:
            yield name, path


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"this is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, f"this is no object of JSON, but a {type(found).__name__}")
    return found


def _progress_of(body: bytes) -> tuple[int, int]:
    found = _json_of(body)
    done, total = found.get("done"), found.get("total")
    if not (type(done) is int and type(total) is int and 0 <= done <= total):
        raise Refused(400, 'progress is {"done": 3, "total": 40}, whole numbers, done at most total')
    return done, total


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a player that hangs up is no fault of ours
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = STALLED

    def __init__(self, exchange: Exchange, plan: bytes, files: Mapping[str, Path], *arguments: Any) -> None:
        self._exchange, self._plan, self._files = exchange, plan, files
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        try:
            name = self._name()
            if name == "plan.json":
                return self._answer(200, self._plan, TYPES[".json"])
            try:
                path = self._files[name]
                file = path.open("rb")
            except (KeyError, OSError):
                raise Refused(404, "not here") from None
            with file:
                self._send(file, path.stat().st_size, TYPES.get(path.suffix, "application/octet-stream"))
        except Refused as refused:
            self._refuse(refused)

    def do_POST(self) -> None:
        try:
            length = self._length()
            name = self._name(length)
            body = self.rfile.read(length)
            if len(body) < length:
                self.close_connection = True
                raise Refused(400, f"{len(body)} of {length} bytes came")
            self._exchange.take(name, body)
            self._answer(200, b"thank you")
        except Refused as refused:
            self._refuse(refused)
        finally:
            self._exchange.release()

    def _name(self, length: int = 0) -> str:
        """Of what is asked for, below the token. Raises Refused for who does not know it, and for pages of
        other origins; those that send no Origin are no pages. `length` bytes follow.
        """
        try:
            return self._known()
        except Refused:
            self.close_connection = True
            self.rfile.read(min(length, DISCARDED))  # a connection closed before that loses the answer
            raise

    def _known(self) -> str:
        token, slash, name = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not (slash and secrets.compare_digest(token.encode(), self._exchange.token.encode())):
            raise Refused(403, "no run has this address: open the whole one that edgekit bench printed")
        origin, host = (self.headers.get(header) for header in ("Origin", "Host"))
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise Refused(403, f"a page of {origin} may not ask here")
        return name

    def _length(self) -> int:
        given = self.headers.get("Content-Length")
        if given is None:
            self.close_connection = True
            raise Refused(411, "say how long it is: Content-Length is missing")
        if not re.fullmatch(r"[0-9]+", given):
            self.close_connection = True
            raise Refused(400, f"Content-Length is {given!r}, no number of bytes")
        # Digits are counted first: Python refuses to read very many of them.
        if len(given.lstrip("0")) > len(str(LARGEST)) or int(given) > LARGEST:
            self.close_connection = True
            raise Refused(413, f"at most {LARGEST} bytes are taken")
        return int(given)

    def _send(self, file: BinaryIO, total: int, kind: str) -> None:
        asked = _part(self.headers.get("Range"), total)
        first, end = asked or (0, total)
        headers = {"Content-Range": f"bytes {first}-{end - 1}/{total}"} if asked else {}
        self._begin(206 if asked else 200, end - first, kind, headers)
        file.seek(first)
        left = end - first
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            self.wfile.write(piece)
            left -= len(piece)

    def _refuse(self, refused: Refused) -> None:
        self._answer(refused.status, f"{refused}\n".encode(), headers=refused.headers)

    def _answer(
        self,
        status: int,
        body: bytes,
        kind: str = "text/plain; charset=utf-8",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._begin(status, len(body), kind, headers or {})
        self.wfile.write(body)

    def _begin(self, status: int, length: int, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        always = {**ISOLATED, "Content-Type": kind, "Content-Length": str(length)}
        if self.close_connection:
            always["Connection"] = "close"
        for name, value in {**always, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _part(header: str | None, total: int) -> tuple[int, int] | None:
    """The bytes that a Range asks for, None for all of them: where none is asked for, or several parts, or
    other units. Raises Refused.
    """
    unit, _, ranges = (header or "").partition("=")
    if unit.strip().lower() != "bytes" or "," in ranges:
        return None
    asked = re.fullmatch(r"([0-9]{0,99})-([0-9]{0,99})", ranges.strip())
    if not asked or not (asked[1] or asked[2]) or (asked[1] and asked[2] and int(asked[2]) < int(asked[1])):
        raise Refused(400, f"Range is {header!r}: bytes=FIRST-LAST, bytes=FIRST- or bytes=-COUNT")
    if asked[1]:
        first, end = int(asked[1]), min(total, int(asked[2] or total) + 1)
    else:
        first, end = max(0, total - int(asked[2])), total
    if first >= end:
        raise Refused(416, f"there are {total} bytes", **{"Content-Range": f"bytes */{total}"})
    return first, end
