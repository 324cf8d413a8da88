"""Where checkpoints and packages come from: a local path, a Hugging Face id, or a URL.

    resolve("models/m.edge")                        as it is
    resolve("org/name"), resolve("org/name@rev")    a checkpoint, in huggingface_hub's own cache
    resolve("org/name/file.edge")                   one file of a repository
    resolve("https://…/m.edge#sha256=…")            one file, in $EDGEKIT_HOME (default ~/.cache/edgekit)

A download is resumable, checked and atomic. `tests/golden/download.json` states the rules as exchanges that
every binding replays:

 1. Bytes go to `NAME.part`; `NAME.part.json` holds the validator (strong ETag, else Last-Modified) and the
    size they belong to.
 2. A part with a validator is continued with `Range` and `If-Range`. 206 from the asked byte appends; 200
    (the file changed, or ranges are not supported) starts again from zero; any other part, and 416, drop what
    is here and ask for the whole. A part without validator is not continued.
 3. Before the first byte is written the disk must have room for what is to come.
 4. A connection that breaks is taken up again, at most `ATTEMPTS` times in a row without a new byte; the part
    stays for the next run.
 5. The SHA-256 comes from the URL's fragment, else from a `Repr-Digest` header, else from `URL.sha256` beside
    the file. A wrong sum deletes the part and is an error.
 6. A finished file appears by rename. One whose URL carries its sum is never asked for again; any other is
    asked for with `If-None-Match`, and used as it is when the server cannot be reached.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from edgekit import arguments
from edgekit.errors import EdgekitError, InvalidFile, IoFailure, UsageError

# (what is being done, bytes done, bytes in all or 0 when unknown)
Progress = Callable[[str, int, int], None]

ATTEMPTS = 5
RETRY_SECONDS = 0.5  # before the second attempt; doubled each time
TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 2 << 20  # written at once, at multiples of it: converters/formats/_large_blocks.py says why

CHECKPOINT_FILES = [
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "README.md",
    "LICENSE*",
]
NOT_NEEDED = ["original/*", "consolidated*", "onnx/*", "openvino/*", "coreml/*", "gguf/*"]

_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?(?:/(?P<file>[^@]+))?")


def resolve(name: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """The local path of a checkpoint or package, fetched when it is not here.

    Raises InvalidFile (no such thing, or a wrong sum), IoFailure (network, disk), UsageError (a malformed
    URL).
    """
    text = arguments.name(name)
    path = Path(text).expanduser()
    if path.exists():
        if not (path.is_file() or path.is_dir()):
            raise InvalidFile(
                f"{path} is {_special(path)}, and a model is read in any order",
                hint="write it into a file first, and give that",
            )
        return path
    if re.match(r"https?://", text):
        return download(text, progress=progress)
    if "://" in text:
        raise UsageError(f"{text}: edgekit fetches http and https only")
    hub_id = _HUB_ID.fullmatch(text)
    if hub_id is None or text.startswith((".", "~")) or path.parent.is_dir():
        raise InvalidFile(f"{text}: no such file or directory")
    return _from_hugging_face(hub_id["repo"], hub_id["revision"], hub_id["file"])


def _special(path: Path) -> str:
    """Something that is neither file nor folder, in words: opening it could wait for ever."""
    return "a pipe" if path.is_fifo() else "a socket" if path.is_socket() else "a device"


def home() -> Path:
    """The cache: $EDGEKIT_HOME, else ~/.cache/edgekit (under $XDG_CACHE_HOME when that is set)."""
    if own := os.environ.get("EDGEKIT_HOME"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"


# ---- one file by URL ---------------------------------------------------------------------------------------


@dataclass
class _State:
    """What the bytes in a `.part`, or in a finished file, belong to."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def validator(self) -> str | None:
        """A weak ETag does not promise equal bytes, so it cannot join two halves."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class _Interrupted(Exception):
    """The connection broke; the part may be continued."""


def download(url: str, directory: Path | None = None, progress: Progress | None = None) -> Path:
    """The file at `url`, in `directory` (default: the cache). Raises IoFailure, InvalidFile, UsageError."""
    url, pinned = _split_pin(url)
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "download"
    directory = directory or home() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / name
    with only_one(directory / f"{name}.lock"):
        have = _read_state(_beside(target), url) if target.exists() else None
        if have and pinned and have.sha256 == pinned:
            return target
        failures = 0
        while True:
            before = _part_bytes(target)
            try:
                return _fetch(url, target, have, pinned, progress)
            except _Interrupted as error:
                if have and not pinned:
                    return target  # the server cannot be reached: what is here will do
                failures = failures + 1 if _part_bytes(target) <= before else 1
                if failures >= ATTEMPTS:
                    raise IoFailure(
                        f"{url}: {error}",
                        hint="run the command again: the download continues where it stopped",
                    ) from None
                time.sleep(RETRY_SECONDS * 2 ** (failures - 1))


def _fetch(
    url: str, target: Path, have: _State | None, pinned: str | None, progress: Progress | None
) -> Path:
    """One request, from the first missing byte to the rename."""
    part = _part(target)
    state = _read_state(_beside(part), url)
    offset = _part_bytes(target) if state and state.validator else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "edgekit"}
    if offset and state and state.validator:
        headers |= {"Range": f"bytes={offset}-", "If-Range": state.validator}
    elif have and have.etag and not (pinned and pinned != have.sha256):
        headers["If-None-Match"] = have.etag
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return target
        if (
            error.code == 416 and offset
        ):  # the file is shorter now, or the part is all of it: find out from zero
            part.unlink()
            return _fetch(url, target, None, pinned, progress)
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from None
        raise IoFailure(
            f"{url}: the server answered {error.code} {error.reason}", hint=_hint(error.code)
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"cannot reach the server: {getattr(error, 'reason', error)}") from None

    with response:
        first, total = _extent(response)
        if (
            offset
            and response.status == 206
            and (first != offset or (state and state.size not in (None, total)))
        ):
            part.unlink()  # not the bytes that were asked for: nothing here can be joined to them
            return _fetch(url, target, have, pinned, progress)
        if first not in (0, offset):
            raise IoFailure(f"{url}: asked for the whole file, the server sent bytes from {first}")
        offset = first
        expected = (
            pinned or _digest(response) or (state.sha256 if offset and state else None) or _sum_beside(url)
        )
        state = _State(url, response.headers["ETag"], response.headers["Last-Modified"], total, expected)
        _check_space(target, (total or 0) - offset)
        _write_json(_beside(part), asdict(state))
        try:
            with part.open("r+b" if offset else "wb") as file:
                digest = _hash_of(file, offset)
                _copy(response, file, digest, offset, total, f"downloading {target.name}", progress)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise IoFailure(
                f"{target}: cannot write it: {'the disk is full' if full else error.strerror or error}",
                hint="make room and run the command again" if full else None,
            ) from None
    found = digest.hexdigest()
    if expected and found != expected:
        part.unlink()
        _beside(part).unlink()
        raise InvalidFile(
            f"{url}: the downloaded bytes have SHA-256 {found}, expected {expected}; they were deleted",
            hint="the file on the server changed or the transfer was damaged: check the sum, try again",
        )
    state.sha256 = found
    _write_json(_beside(target), asdict(state))
    part.replace(target)
    _beside(part).unlink()
    return target


def _copy(
    response: http.client.HTTPResponse,
    file: IO[bytes],
    digest: Any,
    done: int,
    total: int | None,
    task: str,
    progress: Progress | None,
) -> None:
    while block := _read(response, done):
        file.write(block)
        digest.update(block)
        done += len(block)
        if progress:
            progress(task, done, total or 0)
    if total is not None and done < total:
        raise _Interrupted(f"the connection broke after {done} of {total} bytes")
    if total is not None and done > total:
        raise InvalidFile(f"the server sent {done} bytes and had announced {total}")


def _read(response: http.client.HTTPResponse, done: int) -> bytes:
    try:
        return response.read(BLOCK_BYTES - done % BLOCK_BYTES)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke after {done} bytes: {error}") from None


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """(first byte sent, size of the whole file or None when the server does not say)."""
    length = response.headers["Content-Length"]
    if response.status != 206:
        return 0, int(length) if length and length.isdecimal() else None
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers["Content-Range"] or "")
    if match is None:
        raise IoFailure(f"the server sent a part with Content-Range {response.headers['Content-Range']!r}")
    return int(match[1]), None if match[3] == "*" else int(match[3])


def _split_pin(url: str) -> tuple[str, str | None]:
    url, _, fragment = url.partition("#")
    if not fragment:
        return url, None
    match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if match is None:
        raise UsageError(
            f"the URL ends with #{fragment}; a pinned sum reads #sha256= and 64 hexadecimal digits"
        )
    return url, match[1].lower()


def _digest(response: http.client.HTTPResponse) -> str | None:
    """RFC 9530: `Repr-Digest: sha-256=:BASE64:` is the sum of the whole file."""
    match = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", response.headers["Repr-Digest"] or "")
    return base64.b64decode(match[1]).hex() if match else None


def _sum_beside(url: str) -> str | None:
    parts = urllib.parse.urlsplit(url)
    beside = urllib.parse.urlunsplit(parts._replace(path=parts.path + ".sha256"))
    try:
        with urllib.request.urlopen(beside, timeout=TIMEOUT_SECONDS) as response:
            match = re.match(r"([0-9a-fA-F]{64})\b", response.read(4096).decode("ascii", "replace").strip())
    except (OSError, http.client.HTTPException):
        return None
    return match[1].lower() if match else None


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise IoFailure(
            f"{target.parent}: {needed} bytes are needed, {free} are free",
            hint="make room, or set EDGEKIT_HOME to a directory on a larger disk",
        )


def _hash_of(file: IO[bytes], size: int) -> Any:
    """SHA-256 of the first `size` bytes; leaves the file there, with nothing behind."""
    digest = hashlib.sha256()
    left = size
    while left and (block := file.read(min(left, BLOCK_BYTES))):
        digest.update(block)
        left -= len(block)
    if size:
        file.seek(size)
        file.truncate()
    return digest


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Two threads or processes that write one part would mix it; the second waits for the first."""
    with lock.open("w") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _beside(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _part_bytes(target: Path) -> int:
    part = _part(target)
    return part.stat().st_size if part.exists() else 0


def _read_state(path: Path, url: str) -> _State | None:
    try:
        state = _State(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.url == url else None


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def _hint(code: int) -> str | None:
    return {401: "the server wants a login", 403: "the server refuses access", 404: "check the address"}.get(
        code
    )


# ---- Hugging Face ------------------------------------------------------------------------------------------


def _from_hugging_face(repo: str, revision: str | None, file: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        if file is not None:
            return Path(huggingface_hub.hf_hub_download(repo, file, revision=revision))
        return Path(
            huggingface_hub.snapshot_download(
                repo, revision=revision, allow_patterns=CHECKPOINT_FILES, ignore_patterns=NOT_NEEDED
            )
        )
    except errors.GatedRepoError:
        raise InvalidFile(
            f"{repo}: its owner asks you to accept a licence first",
            hint=f"accept it on the model's page, then `hf auth login`, then try {repo} again",
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise _not_on_the_hub(repo, revision, file, error) from None
    except (OSError, errors.HfHubHTTPError) as error:
        raise IoFailure(
            f"{repo}: cannot fetch it: {_first_line(error)}", hint="check the network, or give a path"
        ) from None


def _not_on_the_hub(repo: str, revision: str | None, file: str | None, error: Exception) -> EdgekitError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        return IoFailure(
            f"{repo}: not in the cache, and the hub cannot be reached",
            hint="check the network, or give a path",
        )
    what = "/".join(filter(None, (repo + (f"@{revision}" if revision else ""), file)))
    return InvalidFile(
        f"{what}: no such file here, and no such model on Hugging Face", hint="check the spelling"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
