"""hub.py: every rule of tests/golden/download.json against a scripted server; how names are told apart."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit import hub
from edgekit.errors import EdgekitError, InvalidFile, IoFailure, UsageError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "download.json").read_text())
SIZE: int = GOLDEN["size"]

ERRORS: dict[str, tuple[type[EdgekitError], str]] = {
    "wrong_hash": (InvalidFile, "SHA-256"),
    "no_space": (IoFailure, "are free"),
    "refused": (IoFailure, "404"),
    "interrupted": (IoFailure, "cannot reach|answered 503"),
}


def body(version: str, first: int = 0, last: int = SIZE) -> bytes:
    if version == "a":
        return bytes((31 * i + 7) % 251 for i in range(first, last))
    return bytes((17 * i + 3) % 241 for i in range(first, last))


class ScriptedServer(ThreadingHTTPServer):
    """Answers `exchanges` in order; `complaints` holds what was not as written."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.exchanges: list[dict[str, Any]] = []
        self.sum_beside: str | None = None
        self.complaints: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/models/m%C3%A9.edge"


class Handler(BaseHTTPRequestHandler):
    server: ScriptedServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        if self.path.endswith(".sha256"):
            return self._sum()
        if not self.server.exchanges:
            self.server.complaints.append(f"a request too many: {dict(self.headers)}")
            return self.send_error(500)
        exchange = self.server.exchanges.pop(0)
        for name, value in exchange["request"].items():
            if self.headers[name] != value:
                self.server.complaints.append(f"{name} is {self.headers[name]!r}, expected {value!r}")
        answer = exchange["response"]
        if answer is None:
            return None
        self.send_response_only(answer["status"])
        for name, value in answer["headers"].items():
            self.send_header(name, value)
        self.end_headers()
        if answer["body"]:
            self.wfile.write(body(**answer["body"]))

    def _sum(self) -> None:
        if self.server.sum_beside is None:
            return self.send_error(404)
        text = f"{GOLDEN['sha256'][self.server.sum_beside]}  m.edge\n".encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def prepare(before: dict[str, Any], url: str, target: Path) -> None:
    if part := before.get("part"):
        Path(f"{target}.part").write_bytes(body(part["version"], 0, part["bytes"]))
        state = {name: part[name] for name in ("etag", "last_modified", "size")} | {
            "url": url,
            "sha256": None,
        }
        Path(f"{target}.part.json").write_text(json.dumps(state))
    if file := before.get("file"):
        target.write_bytes(body(file["version"]))
        state = {"url": url, "etag": file["etag"], "last_modified": None, "size": SIZE}
        Path(f"{target}.json").write_text(json.dumps(state | {"sha256": GOLDEN["sha256"][file["version"]]}))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"].replace(" ", "-"))
def test_download(
    case: dict[str, Any], server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RETRY_SECONDS", 0.0)
    if "free_bytes" in case:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=case["free_bytes"]))
    target = tmp_path / "mé.edge"
    prepare(case.get("before", {}), server.url, target)
    server.exchanges = list(case["exchanges"])
    server.sum_beside = case.get("sum_beside")
    url = server.url + (f"#sha256={GOLDEN['sha256'][case['pin']]}" if "pin" in case else "")

    result = case["result"]
    if "error" in result:
        kind, words = ERRORS[result["error"]]
        with pytest.raises(kind, match=words):
            hub.download(url, tmp_path)
        assert not target.exists()
    else:
        assert hub.download(url, tmp_path) == target
        assert target.read_bytes() == body(result["version"])
    part = Path(f"{target}.part")
    assert (part.stat().st_size if part.exists() else 0) == result["part_bytes"]
    assert server.complaints == []
    assert server.exchanges == []


def test_sums_in_the_vectors_are_those_of_the_bodies() -> None:
    import hashlib

    assert {v: hashlib.sha256(body(v)).hexdigest() for v in "ab"} == GOLDEN["sha256"]


def test_progress_counts_bytes(server: ScriptedServer, tmp_path: Path) -> None:
    server.exchanges = list(GOLDEN["cases"][0]["exchanges"])
    seen: list[tuple[str, int, int]] = []
    hub.download(server.url, tmp_path, lambda *report: seen.append(report))
    assert seen[-1] == ("downloading mé.edge", SIZE, SIZE)


def test_the_cache_is_under_edgekit_home(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    server.exchanges = list(GOLDEN["cases"][0]["exchanges"])
    path = hub.resolve(server.url)
    assert path.is_relative_to(tmp_path / "home") and path.read_bytes() == body("a")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_disk_that_fills_up_is_an_error(server: ScriptedServer, tmp_path: Path) -> None:
    Path(tmp_path / "mé.edge.part").symlink_to("/dev/full")
    server.exchanges = list(GOLDEN["cases"][0]["exchanges"])
    with pytest.raises(IoFailure, match="disk is full"):
        hub.download(server.url, tmp_path)


def test_a_path_is_itself(tmp_path: Path) -> None:
    assert hub.resolve(tmp_path) == tmp_path
    assert hub.resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["missing.edge", "./org/name", "/no/such/dir/m.edge", "a b/c"])
def test_what_is_not_there_is_said(name: str) -> None:
    with pytest.raises(InvalidFile, match="no such file"):
        hub.resolve(name)


def test_a_missing_file_beside_others_is_not_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidFile, match="no such file"):
        hub.resolve("models/typo.edge")


@pytest.mark.parametrize(
    "url", ["ftp://host/m.edge", "https://host/m.edge#sha1=00", "https://host/m.edge#sha256=12"]
)
def test_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        hub.resolve(url)


class TestHuggingFace:
    """With huggingface_hub's two functions replaced: what is asked of it, and what its errors become."""

    def test_a_checkpoint_is_a_snapshot_of_what_conversion_reads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub

        asked: dict[str, Any] = {}

        def snapshot_download(repo: str, **options: Any) -> str:
            asked.update(options, repo=repo)
            return str(tmp_path)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        assert hub.resolve("org/some-model.1@refs/pr/1") == tmp_path
        assert asked["repo"] == "org/some-model.1" and asked["revision"] == "refs/pr/1"
        assert "*.safetensors" in asked["allow_patterns"] and "*.bin" not in asked["allow_patterns"]

    def test_one_file_of_a_repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        monkeypatch.setattr(
            huggingface_hub, "hf_hub_download", lambda repo, file, revision: str(tmp_path / repo / file)
        )
        assert hub.resolve("org/name/q4/m.edge") == tmp_path / "org/name/q4/m.edge"

    def test_offline_without_a_copy_is_an_error_that_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(IoFailure, match="org/name"):
            hub.resolve("org/name")
