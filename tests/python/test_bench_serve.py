"""What phones and browsers fetch a plan from, and give their recording to."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.devices import browser, find, ios
from edgekit.bench.devices.server import Exchange
from edgekit.errors import UsageError

MODEL = Path(__file__).parents[1] / "golden" / "engine" / "text.edge"
PLAN = {"plan": 1, "passes": [["ready"]]}


class Served:
    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[int, int]] = []
        self.exchange = Exchange(
            "127.0.0.1",
            0,
            PLAN,
            MODEL,
            {"/": browser.PAGE, "/sdk/": folder},
            lambda _, *n: self.told.append(n),
        )

    def get(self, path: str, **headers: str) -> Any:
        url = f"http://127.0.0.1:{self.exchange.port}{path}"
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers))

    def post(self, path: str, body: bytes, **headers: str) -> int:
        url = f"http://127.0.0.1:{self.exchange.port}{path}"
        try:
            return int(urllib.request.urlopen(urllib.request.Request(url, body, headers)).status)
        except urllib.error.HTTPError as error:
            return error.code

    def raw(self, head: str) -> bytes:
        """The status line that answers a request without a body."""
        with socket.create_connection(("127.0.0.1", self.exchange.port), timeout=5) as link:
            link.sendall(f"{head}\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1"))
            return link.makefile("rb").readline()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    folder = tmp_path / "sdk"
    folder.mkdir()
    (folder / "index.js").write_text("1")
    (tmp_path / "secret").write_text("2")
    found = Served(folder)
    yield found
    found.exchange.take("/failure", b"over")
    with pytest.raises(BenchmarkFailed):
        found.exchange.wait()


def test_a_plan_and_its_model_are_given(served: Served) -> None:
    assert json.load(served.get("/plan.json")) == PLAN
    assert served.get("/model.edge").read() == MODEL.read_bytes()
    part = served.get("/model.edge", Range="bytes=10-19")
    assert part.status == 206 and part.read() == MODEL.read_bytes()[10:20]
    assert b"edgekit bench" in served.get("/?variant=simd").read()
    script = served.get("/sdk/index.js")
    assert script.headers["Content-Type"] == "text/javascript"
    assert script.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize(
    "path",
    [
        "/none",
        "/sdk/none.js",
        "/sdk/../secret",
        "/sdk/..%2fsecret",
        "/sdk/",
        "/sdk/%00",
        "/sdk/" + "x" * 5000,
    ],
)
def test_nothing_else_is_given(served: Served, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        served.get(path)


def test_progress_is_told_and_nonsense_refused(served: Served) -> None:
    assert served.post("/progress", b'{"done": 3, "total": 40}') == 200 and served.told == [(3, 40)]
    for path, body in [
        ("/recording", b"no JSON"),
        ("/recording", b"3"),
        ("/recording", b'{"recording": 1}'),
        ("/recording", b'{"recording": 1, "plan": {"plan": 1, "passes": []}}'),
        ("/recording", b"[" * 100_000),
        ("/progress", b'{"done": 1e999, "total": 3}'),
        ("/progress", b"{}"),
        ("/other", b"{}"),
    ]:
        assert served.post(path, body) == 400


def test_requests_that_make_no_sense_are_answered(served: Served) -> None:
    for head, status in [
        ("POST /progress HTTP/1.1", b"411"),
        ("POST /progress HTTP/1.1\r\nContent-Length: \xb2", b"400"),
        ("POST /progress HTTP/1.1\r\nContent-Length: -1", b"400"),
        ("POST /progress HTTP/1.1\r\nContent-Length: 99999999999", b"413"),
        ("GET /sdk/\0 HTTP/1.1", b"404"),
        ("GET /model.edge HTTP/1.1\r\nRange: bytes=99999999999-", b"416"),
        ("GET /model.edge HTTP/1.1\r\nRange: bytes=9-3", b"416"),
        ("GET /model.edge HTTP/1.1\r\nRange: bytes=\xb2-", b"200"),
    ]:
        assert status in served.raw(head), head


def test_pages_of_other_origins_are_not_heard(served: Served) -> None:
    assert served.post("/failure", b"made up", Origin="http://elsewhere.example") == 403
    own = f"http://127.0.0.1:{served.exchange.port}"
    assert served.post("/progress", b'{"done": 3, "total": 40}', Origin=own) == 200


def test_a_recording_ends_it(tmp_path: Path) -> None:
    served, recorded = Served(tmp_path), {"recording": 1, "plan": PLAN}
    threading.Timer(0, served.post, ("/recording", json.dumps(recorded).encode())).start()
    assert served.exchange.wait() == recorded


def test_a_player_that_gives_up(tmp_path: Path) -> None:
    served = Served(tmp_path)
    threading.Timer(0, served.post, ("/failure", b"no memory")).start()
    with pytest.raises(BenchmarkFailed, match="the device gave up: no memory"):
        served.exchange.wait()


def test_addresses() -> None:
    assert browser.listening("80", "h") == ("h", 80) and browser.listening("0.0.0.0:80", "h") == (
        "0.0.0.0",
        80,
    )
    for wrong in ("", "x", "h:", "70000"):
        with pytest.raises(UsageError, match="no port to listen at"):
            browser.listening(wrong, "h")
    assert find("ios:99") == (ios.record, "99")
    with pytest.raises(UsageError, match="no kind of device 'toaster'; there are: adb, browser, ios"):
        find("toaster")
