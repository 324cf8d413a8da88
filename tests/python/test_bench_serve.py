"""What phones and browsers fetch a plan from, and give their recording to."""

from __future__ import annotations

import json
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.bench import plan, protocol, recording
from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.devices import browser, find, ios
from edgekit.bench.devices.server import Exchange
from edgekit.errors import UsageError

MODEL = Path(__file__).parents[1] / "golden" / "engine" / "text.edge"
OPTIONS = protocol.Options(prompts=(5,), decode=3, threads=1, repetitions=1)
ANSWERS: dict[str, dict[str, Any]] = {
    "facts": {"cpu": "a", "architecture": "wasm32", "cpus": 1, "memory_bytes": None, "system": "b"},
    "open": {"load_ms": 1.5, "version": "1", "isa": "simd", "threads": 1, "cache_bytes": 9, "slots": 9},
    "measure": {"ttft_ms": 2.5, "decode_ms": 1.5, "decoded": 3},
}


class Served:
    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[int, int]] = []
        self.exchange = Exchange(
            "127.0.0.1",
            0,
            plan.make(MODEL, OPTIONS, 35, 1),
            MODEL,
            {"": browser.PAGE, "sdk/": folder},
            lambda _, *n: self.told.append(n),
        )
        self.address = self.exchange.address("127.0.0.1")
        self.origin = self.address.rpartition(f"/{self.exchange.token}/")[0]

    def get(self, name: str, **headers: str) -> Any:
        return urllib.request.urlopen(urllib.request.Request(self.address + name, headers=headers))

    def post(self, name: str, body: bytes, **headers: str) -> tuple[int, str]:
        """To a name below the token, or a whole address."""
        url = name if ":" in name else self.address + name
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers)) as done:
                return done.status, done.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def say(self, request: str, body: bytes = b"") -> tuple[int, str]:
        """Status and answer to a request that no client would make; `NAME` in it is the path of the token."""
        text = request.replace("NAME", f"/{self.exchange.token}").replace("\n", "\r\n")
        with socket.create_connection(("127.0.0.1", self.exchange.port), timeout=5) as link:
            link.sendall(f"{text}\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1") + body)
            link.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := link.recv(1 << 16):
                answer += piece
        return int(answer.split()[1]), answer.decode("latin-1")

    def recorded(self) -> dict[str, Any]:
        """What a player makes of the plan that is given here."""
        given = json.load(self.get("plan.json"))
        answers = [[ANSWERS.get(line.split()[0], {}) for line in lines] for lines in given["passes"]]
        device = {"kind": "browser", "name": "b", "hidden": True}
        return recording.make(given, device, "2026-12-01T00:00:00Z", answers)

    @property
    def waits(self) -> bool:
        return not self.exchange._done.is_set()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server that still waits at the end, and answers."""
    folder = tmp_path / "sdk"
    folder.mkdir()
    (folder / "index.js").write_text("1")
    (tmp_path / "secret").write_text("2")
    found = Served(folder)
    yield found
    assert found.waits and found.get("sdk/index.js").read() == b"1"
    assert found.post("failure", b"over")[0] == 200
    with pytest.raises(BenchmarkFailed, match="gave up: over"):
        found.exchange.wait()


def test_a_plan_and_its_model_are_given(served: Served) -> None:
    given = json.load(served.get("plan.json"))
    assert given.pop("run") == served.exchange.token
    assert given == json.loads(json.dumps(plan.make(MODEL, OPTIONS, 35, 1)))
    assert served.get("model.edge").read() == MODEL.read_bytes()
    assert b"edgekit bench" in served.get("?variant=simd").read()
    script = served.get("sdk/index.js")
    assert script.headers["Content-Type"] == "text/javascript"
    assert script.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize(
    "name", ["none", "sdk/none.js", "sdk/../secret", "sdk/..%2fsecret", "sdk/", "sdk", "sdk/%00"]
)
def test_nothing_else_is_given(served: Served, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        served.get(name)


def test_who_does_not_know_the_token_is_refused(served: Served) -> None:
    body = json.dumps(served.recorded()).encode()
    token = served.exchange.token
    for path in ("", "plan.json", "recording", token, f"{token[:-1]}/recording", f"{token}x/recording", "/"):
        status, why = served.post(f"{served.origin}/{path}", body)
        assert status == 403 and "open the whole one that edgekit bench printed" in why
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{served.origin}/{path}")
    assert len({Served(MODEL.parent).exchange.token for _ in range(3)} | {token}) == 4


@pytest.mark.parametrize("origin", ["http://example.com", "null", "http://127.0.0.1", "http://[", ""])
def test_pages_of_another_origin_are_refused(served: Served, origin: str) -> None:
    for name in ("recording", "failure", "progress"):
        status, why = served.post(name, json.dumps(served.recorded()).encode(), Origin=origin)
        assert status == 403 and "may not ask here" in why
    with pytest.raises(urllib.error.HTTPError, match="403"):
        served.get("model.edge", Origin=origin)
    assert served.post("progress", b'{"done": 1, "total": 2}', Origin=served.origin)[0] == 200


def test_progress_is_told_and_nonsense_refused(served: Served) -> None:
    assert served.post("progress", b'{"done": 3, "total": 40}')[0] == 200 and served.told == [(3, 40)]
    for body in (
        b"{}",
        b'{"done": 1e999, "total": 1}',
        b'{"done": 2, "total": 1}',
        b'{"done": -1, "total": 1}',
    ):
        assert served.post("progress", body)[0] == 400
    assert served.post("other", b"{}")[0] == 404
    assert served.told == [(3, 40)]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"3", "no object of JSON, but a int"),
        (b"{}", 'no "recording": 1'),
    ],
)
def test_what_is_no_recording_is_refused(served: Served, body: bytes, why: str) -> None:
    status, said = served.post("recording", body)
    assert status == 400 and why in said


def test_the_recording_of_another_plan_is_refused(served: Served) -> None:
    other = Served(MODEL.parent)
    recordings = [other.recorded(), served.recorded(), served.recorded(), served.recorded()]
    recordings[1]["plan"]["passes"].pop()
    recordings[2]["plan"]["model"]["sha256"] = "0" * 64
    del recordings[3]["plan"]
    for found in recordings:
        status, why = served.post("recording", json.dumps(found).encode())
        assert status == 409 and "another run" in why


def test_a_recording_that_makes_no_result_is_refused(served: Served) -> None:
    for change, fault in [
        ({"answers": 3}, "not a recording"),
        ({"device": {"kind": "toaster", "name": "b"}}, "none of"),
        ({"created": 7}, "created: is 7, no string"),
    ]:
        status, why = served.post("recording", json.dumps(served.recorded() | change).encode())
        assert status == 400 and fault in why


def test_a_recording_ends_it_and_nothing_after_it_counts(tmp_path: Path) -> None:
    served = Served(tmp_path)
    found = served.recorded()
    assert served.post("recording", json.dumps(found).encode(), Origin=served.origin)[0] == 200
    assert served.post("failure", b"late") == (409, "this run is over: its end was told before\n")
    assert served.exchange.wait() == found
    assert recording.result_of(found)["flags"] == ["hidden"]


def test_a_device_that_failed_ends_it_too(tmp_path: Path) -> None:
    served = Served(tmp_path)
    found = served.recorded()
    found["answers"][0][0] = {"error": "no memory"}
    assert served.post("recording", json.dumps(found).encode())[0] == 200
    with pytest.raises(BenchmarkFailed, match="browser: facts: no memory"):
        recording.result_of(served.exchange.wait())


def test_a_player_that_gives_up(tmp_path: Path) -> None:
    served = Served(tmp_path)
    assert served.post("failure", b"no memory")[0] == 200
    with pytest.raises(BenchmarkFailed, match="the device gave up: no memory"):
        served.exchange.wait()


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("", 411),
        ("Content-Length: -1", 400),
        ("Content-Length: ²", 400),
        ("Content-Length: 1e3", 400),
        ("Content-Length: +5", 400),
        (f"Content-Length: {(64 << 20) + 1}", 413),
        (f"Content-Length: {'9' * 5000}", 413),
        ("Content-Length: 99", 400),
        ("Transfer-Encoding: chunked", 411),
    ],
)
def test_lengths_that_are_none(
    served: Served, length: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    said, answer = served.say(f"POST NAME/failure HTTP/1.1\nX: y\n{length}".rstrip(), b"why")
    assert said == status and "Connection: close" in answer
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=0-99999999999999999999", 206, slice(None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=99999999999999999999-", 416, None),
        ("bytes=SIZE-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-3", 400, None),
        ("bytes=²-", 400, None),
        ("bytes=-", 400, None),
        ("bytes=a-b", 400, None),
        (f"bytes={'9' * 5000}-", 400, None),
    ],
)
def test_ranges(
    served: Served, asked: str, status: int, part: slice | None, capfd: pytest.CaptureFixture[str]
) -> None:
    content = MODEL.read_bytes()
    said, answer = served.say(
        f"GET NAME/model.edge HTTP/1.1\nRange: {asked.replace('SIZE', str(len(content)))}"
    )
    assert said == status
    head, _, body = answer.partition("\r\n\r\n")
    if part is not None:
        assert body.encode("latin-1") == content[part]
    if status == 416:
        assert f"Content-Range: bytes */{len(content)}" in head
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("path", "status"), [("NAME/sdk/\0", 404), (f"NAME/{'a' * 5000}", 404), ("\0", 403), ("NAME/²", 404)]
)
def test_paths_that_are_none(
    served: Served, path: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert served.say(f"GET {path} HTTP/1.1")[0] == status
    assert capfd.readouterr().err == ""


def test_a_player_that_hangs_up(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", served.exchange.port)) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that it is noticed
        link.sendall(f"GET /{served.exchange.token}/model.edge HTTP/1.1\r\n\r\n".encode())
    assert served.get("sdk/index.js").read() == b"1" and capfd.readouterr().err == ""


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
