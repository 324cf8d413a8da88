"""An Android device for the real `adb`: what adbd says over TCP, its shell run here on a folder.

It knows the transport (CNXN, OPEN, OKAY, WRTE, CLSE), services `shell,v2,raw:` and `sync:` with STAT and
SEND. What goes wrong with devices can be asked of it: a connection that breaks, a command that hangs, a full
disk, bytes that arrive damaged.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

HOME = "/data/local/tmp"
HEADER = struct.Struct("<4s5I")
VERSION, MOST = 0x01000000, 256 << 10
BANNER = b"device::ro.product.name=fake;ro.product.model=Fake;ro.product.device=fake;features=shell_v2"
STDOUT, STDERR, EXIT = 1, 2, 3
FULL = b"couldn't write: No space left on device"


class FakeDevice:
    """Listens at `serial`. Its files of /data/local/tmp are in `folder`, `tools` come first on its PATH."""

    def __init__(self, folder: Path, tools: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.room: int | None = None  # bytes that still fit; None: any number
        self.damaged = 0  # so many files will arrive with a wrong byte
        self.break_at: str | None = None  # the connection breaks once, when a command has this in it
        self.hang_at: str | None = None  # nothing more is heard of commands with this in them, or of "push"
        self.gone = False  # and is refused until this is False again
        self.received: list[str] = []  # the files that were sent, by name
        self.commands: list[str] = []
        self._environment = {**os.environ, **environment, "PATH": f"{tools}:{os.environ['PATH']}"}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def path(self, name: str) -> Path:
        return Path(name.replace(HOME, str(self.folder)))

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            if self.gone and self.break_at is None:
                link.close()
                continue
            self.connections += 1
            threading.Thread(target=_Connection(self, link).serve, daemon=True).start()

    def run(self, command: str) -> subprocess.Popen[bytes]:
        self.commands.append(command)
        return subprocess.Popen(
            ["sh", "-c", command.replace(HOME, str(self.folder))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
        )

    def store(self, name: str, data: bytes) -> bytes:
        """b"" when it went well, else why not."""
        if self.room is not None:
            if len(data) > self.room:
                return FULL
            self.room -= len(data)
        if self.damaged:
            self.damaged -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        self.received.append(Path(name).name)
        self.path(name).write_bytes(data)
        return b""


class _Connection:
    def __init__(self, device: FakeDevice, link: socket.socket) -> None:
        self._device = device
        self._link = link
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while header := self._read(HEADER.size):
                command, first, second, length, _, _ = HEADER.unpack(header)
                self._take(command, first, second, self._read(length))
        self.cut()

    def cut(self) -> None:
        for stream in self._streams.values():
            stream.acknowledged.release()
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        with self._sending:
            self._link.sendall(HEADER.pack(command, first, second, len(data), sum(data), magic) + data)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            if not (piece := self._link.recv(count - len(data))):
                raise OSError("closed")
            data += piece
        return data

    def _take(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == b"CNXN":
            self.send(b"CNXN", VERSION, MOST, BANNER)
        elif command == b"OPEN":
            self._open(first, data.rstrip(b"\0").decode())
        elif second in self._streams:
            self._streams[second].take(command, data)

    def _open(self, remote: int, service: str) -> None:
        local = len(self._streams) + 1
        name, _, words = service.partition(":")
        if name.startswith("shell"):
            stream: _Stream = _Shell(self, self._device, local, remote, words)
        elif name == "sync":
            stream = _Sync(self, self._device, local, remote)
        else:
            return self.send(b"CLSE", 0, remote)
        self._streams[local] = stream
        self.send(b"OKAY", local, remote)
        stream.begin()


class _Stream:
    def __init__(self, connection: _Connection, device: FakeDevice, local: int, remote: int) -> None:
        self.connection, self.device = connection, device
        self._local, self._remote = local, remote
        self.acknowledged = threading.Semaphore(0)

    def begin(self) -> None: ...

    def received(self, data: bytes) -> None: ...

    def take(self, command: bytes, data: bytes) -> None:
        if command == b"OKAY":
            self.acknowledged.release()
        elif command == b"WRTE":
            self.connection.send(b"OKAY", self._local, self._remote)
            self.received(data)

    def write(self, data: bytes) -> None:
        for at in range(0, len(data), MOST // 2):
            self.connection.send(b"WRTE", self._local, self._remote, data[at : at + MOST // 2])
            self.acknowledged.acquire()

    def end(self) -> None:
        self.connection.send(b"CLSE", self._local, self._remote)


class _Shell(_Stream):
    def __init__(
        self, connection: _Connection, device: FakeDevice, local: int, remote: int, command: str
    ) -> None:
        super().__init__(connection, device, local, remote)
        self._command = command

    def begin(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        if self.device.hang_at and self.device.hang_at in self._command:
            return
        process = self.device.run(self._command)
        if self.device.break_at and self.device.break_at in self._command:
            self.device.break_at = None
            process.wait()
            return self.connection.cut()
        out, err = process.communicate()
        with contextlib.suppress(OSError):
            for kind, data in ((STDOUT, out), (STDERR, err), (EXIT, bytes([process.returncode & 255]))):
                if data:
                    self.write(struct.pack("<BI", kind, len(data)) + data)
            self.end()


class _Sync(_Stream):
    """One request after the other, from bytes that come in pieces."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._pending = b""
        self._name = ""
        self._content = b""

    def received(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= 8:
            word, length = struct.unpack_from("<4sI", self._pending)
            size = 0 if word in (b"DONE", b"QUIT") else length
            if len(self._pending) < 8 + size:
                return
            body, self._pending = self._pending[8 : 8 + size], self._pending[8 + size :]
            self._answer(word, body)

    def _answer(self, word: bytes, body: bytes) -> None:
        if word == b"STAT":
            path = self.device.path(body.decode())
            mode, size = (path.stat().st_mode, path.stat().st_size) if path.exists() else (0, 0)
            self._reply(b"STAT" + struct.pack("<III", mode, size, 0))
        elif word == b"SEND":
            self._name, self._content = body.decode().rpartition(",")[0], b""
        elif word == b"DATA":
            self._content += body
        elif word == b"DONE" and self.device.hang_at != "push":
            fault = self.device.store(self._name, self._content)
            self._reply(struct.pack("<4sI", b"FAIL" if fault else b"OKAY", len(fault)) + fault)
        elif word == b"QUIT":
            self.end()

    def _reply(self, data: bytes) -> None:
        threading.Thread(target=self.write, args=(data,), daemon=True).start()
