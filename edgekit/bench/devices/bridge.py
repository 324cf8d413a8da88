"""An Android device through the program `adb`, which is expected to lose it now and then."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.devices import Progress
from edgekit.bench.result import sha256_of
from edgekit.errors import IoFailure, UsageError
from edgekit.units import size

LOST = re.compile(
    r"device offline|device .*not found|no devices|closed|protocol fault|connection re(set|fused)|"
    r"failed to (read|stat|copy|get feature)|broken pipe|still (connecting|authorizing)|EOF|no answer in",
    re.IGNORECASE,
)
FULL = "No space left on device"
LIMIT = 300.0  # seconds that adb may take for one thing: a piece over a slow network, a hash of gigabytes
PATIENCE = 300.0  # seconds that a lost device may take to come back
PIECE = 32 << 20  # bytes that are sent again when the connection breaks
TRIES = 3  # of a piece that arrives damaged
END = re.compile(r"\n?<(\d+)>\s*\Z")


class ShellFailed(BenchmarkFailed):
    """A command on the device ended with a status other than 0."""


class Bridge:
    """One device; `serial` may be "" where there is one alone. Raises UsageError when there is no adb, or no
    such device.
    """

    def __init__(self, serial: str = "") -> None:
        program = shutil.which("adb")
        if program is None:
            raise UsageError(
                "adb is not on the PATH", hint="install Android's platform-tools (Debian: apt install adb)"
            )
        self._adb = [program]
        self.serial = serial or self._only()
        self._adb += ["-s", self.serial]
        if not self._present():
            self._connect()
        if not self._present():
            raise UsageError(
                f"adb sees no device {self.serial}",
                hint="adb devices lists them; a new phone asks on its screen whether to trust this computer",
            )

    def shell(self, command: str) -> str:
        """What a command prints; repeated when the connection breaks, so it must bear that. Raises
        ShellFailed, BenchmarkFailed when the device does not come back.
        """
        # Old devices do not tell a command's status: it is printed.
        done = self._persist("shell", f'{{ {command}\n}} 2>&1; echo; echo "<$?>"', ends=END)
        end = END.search(done)
        assert end
        text = done[: end.start()].strip()
        if FULL in text:
            raise self._full()
        if end[1] != "0":
            raise ShellFailed(f"{self.serial}: {command.split()[0]}: {text or f'status {end[1]}'}")
        return text

    def property(self, name: str) -> str | None:
        return self.shell(f"getprop {name}") or None

    def push(self, source: Path, target: str, progress: Progress) -> bool:
        """Whether it had to: a file that is there with the same SHA-256 is left alone. What was sent before
        the connection broke, or a run was stopped, is not sent again. Raises IoFailure when the device is
        full, BenchmarkFailed when bytes arrive damaged.
        """
        digest, total = sha256_of(source), source.stat().st_size
        part, piece = f"{target}.part", f"{target}.piece"
        # What is there, and how much of it was on its way.
        found = f"sha256sum {target} 2>/dev/null || echo none; stat -c %s {part} 2>/dev/null || echo 0"
        there, *_, begun = self.shell(found).split()
        if there == digest:
            return False
        try:
            with source.open("rb") as file:
                for index in range(int(begun) // PIECE, -(-total // PIECE)):
                    progress(f"sending {source.name}", index * PIECE, total)
                    file.seek(index * PIECE)
                    self._send(file.read(PIECE), piece, f"dd if={piece} of={part} bs={PIECE} seek={index}")
        except IoFailure as error:
            self.shell(f"rm -f {part} {piece}")
            raise IoFailure(f"{error}: {source.name} takes {size(total)}", hint=error.hint) from None
        arrived = self.shell(f"rm -f {piece}; sha256sum {part}").split()[0]
        if arrived != digest:
            self.shell(f"rm -f {part}")
            raise BenchmarkFailed(
                f"{self.serial}: {source.name} has SHA-256 {digest}, and arrived with {arrived}: try again"
            )
        self.shell(f"[ ! -e {part} ] || mv {part} {target}")
        progress(f"sending {source.name}", total, total)
        return True

    def _send(self, data: bytes, piece: str, append: str) -> None:
        digest = hashlib.sha256(data).hexdigest()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "piece"
            path.write_bytes(data)
            for _ in range(TRIES):
                self._persist("push", str(path), piece)
                equal = f'[ "$(sha256sum {piece})" = "{digest}  {piece}" ]'
                done = self.shell(f"{equal} && {append} conv=notrunc 2>&1 || echo damaged")
                if not done.endswith("damaged"):
                    return
        raise BenchmarkFailed(
            f"{self.serial}: bytes arrived damaged {TRIES} times: try another cable or another port"
        )

    # ---- adb -----------------------------------------------------------------------------------------------

    def _persist(self, *arguments: str, ends: re.Pattern[str] | None = None) -> str:
        """What `adb` prints, after as many tries as the connection needs."""
        give_up = time.monotonic() + PATIENCE
        while True:
            done = self._run(*arguments)
            said = done.stderr + ("" if ends else done.stdout)
            if FULL in said:
                raise self._full()
            if ends.search(done.stdout) if ends else done.returncode == 0:
                return done.stdout
            if not ends and not LOST.search(said) and self._present():
                raise BenchmarkFailed(f"{self.serial}: adb {arguments[0]}: {said.strip()[-300:]}")
            if time.monotonic() > give_up:
                raise BenchmarkFailed(
                    f"{self.serial}: the connection is lost and did not come back in {PATIENCE:.0f} s: "
                    f"{said.strip()[-200:]}",
                    hint="what was begun goes on on the device; the same command again finds it there",
                )
            self._connect()
            time.sleep(0.2)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self._adb, *arguments]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"adb gave no answer in {LIMIT:.0f} s")

    def _only(self) -> str:
        if chosen := os.environ.get("ANDROID_SERIAL"):
            return chosen
        lines = [line.split() for line in self._run("devices").stdout.splitlines()[1:] if line.strip()]
        ready = [words[0] for words in lines if words[1:2] == ["device"]]
        if len(ready) != 1:
            seen = ", ".join(f"{words[0]} ({words[1]})" for words in lines) or "none"
            raise UsageError(
                f"adb sees {len(ready)} devices that are ready: {seen}", hint="--device adb:SERIAL"
            )
        return ready[0]

    def _present(self) -> bool:
        return self._run("get-state").stdout.strip() == "device"

    def _connect(self) -> None:
        """Of a device on the network: anew, since adb keeps what is dead."""
        if ":" in self.serial:
            self._run("disconnect", self.serial)
            self._run("connect", self.serial)

    def _full(self) -> IoFailure:
        return IoFailure(
            f"{self.serial}: the device is full", hint="make room on it, or take a smaller model"
        )
