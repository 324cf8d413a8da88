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
FULL = re.compile(r"No space left on device|Disk quota exceeded|ENOSPC")
PATIENCE = 300.0  # seconds that a lost device may take to come back
CALL = 60.0  # seconds that adb may take for what takes the device no time
SLOWEST_LINK = 256 << 10  # bytes a second: what is sent has so much more time
SLOWEST_STORAGE = 4 << 20  # and what is read and written there
PIECE = 32 << 20  # bytes that are sent again when the connection breaks
HUNG = 124  # the status of what was not waited for any longer
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
        state = self._answered("get-state")
        if state.stdout.strip() != "device":
            self._connect()
            state = self._answered("get-state")
        if state.stdout.strip() != "device":
            raise UsageError(
                f"adb sees no device {self.serial}: {_words(state)}",
                hint="adb devices lists them; a new phone asks on its screen whether to trust this computer",
            )

    def shell(self, command: str, moves: int = 0) -> str:
        """What a command prints; repeated when the connection breaks, so it must bear that. A command that
        reads or writes `moves` bytes there has more time. Raises ShellFailed, BenchmarkFailed when the device
        does not come back or does not answer.
        """
        # Old devices do not tell a command's status: it is printed.
        words = f'{{ {command}\n}} 2>&1; status=$?; echo; echo "<$status>"'
        done = self._persist("shell", words, limit=CALL + moves / SLOWEST_STORAGE, ends=END)
        end = END.search(done)
        assert end
        text = done[: end.start()].strip()
        if FULL.search(text):
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
        there, *_, size_there = self.shell(found, moves=total).split()
        if there == digest:
            return False
        begun = int(size_there) // PIECE * PIECE
        rest = max(0, total - begun)
        needed = rest + min(PIECE, rest)  # each piece lies beside it first
        try:
            if (free := self._free(target)) is not None and free < needed:
                raise self._full()
            with source.open("rb") as file:
                for index in range(begun // PIECE, -(-total // PIECE)):
                    progress(f"sending {source.name}", index * PIECE, total)
                    file.seek(index * PIECE)
                    self._send(file.read(PIECE), piece, f"dd if={piece} of={part} bs={PIECE} seek={index}")
        except IoFailure as error:
            self.shell(f"rm -f {part} {piece}")
            # Asked again, now that what was on its way has made room.
            free, takes = self._free(target), total + min(PIECE, total)
            missing = f", {size(takes - free)} more than is free" if free is not None and free < takes else ""
            raise IoFailure(
                f"{error}: {source.name} takes {size(takes)} while it is sent{missing}", hint=error.hint
            ) from None
        arrived = self.shell(f"rm -f {piece}; sha256sum {part}", moves=total).split()[0]
        if arrived != digest:
            self.shell(f"rm -f {part}")
            raise BenchmarkFailed(
                f"{self.serial}: {source.name} has SHA-256 {digest}, and arrived with {arrived}: try again"
            )
        self.shell(f"[ ! -e {part} ] || mv {part} {target}")
        progress(f"sending {source.name}", total, total)
        return True

    def _free(self, path: str) -> int | None:
        """Bytes that still fit beside `path`; None where df does not tell."""
        # Numbers of KiB, the last of them before a percentage: "… 1000 200 800 20% /data".
        told = re.search(r"\b(\d+)\s+\d+%", self.shell(f"df -k {path.rpartition('/')[0]} 2>&1 || true"))
        return int(told[1]) << 10 if told else None

    def _send(self, data: bytes, piece: str, append: str) -> None:
        digest = hashlib.sha256(data).hexdigest()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "piece"
            path.write_bytes(data)
            for _ in range(TRIES):
                self._persist("push", str(path), piece, limit=CALL + len(data) / SLOWEST_LINK)
                arrived = self.shell(f"sha256sum {piece} 2>/dev/null || echo none", moves=len(data))
                if arrived.split()[0] == digest:
                    self.shell(f"{append} conv=notrunc", moves=len(data))
                    return
        raise BenchmarkFailed(
            f"{self.serial}: bytes arrived damaged {TRIES} times: try another cable or another port"
        )

    # ---- adb -----------------------------------------------------------------------------------------------

    def _persist(self, *arguments: str, limit: float, ends: re.Pattern[str] | None = None) -> str:
        """What `adb` prints, after as many tries as the connection needs; one that takes more than `limit`
        seconds has lost it.
        """
        give_up = time.monotonic() + PATIENCE
        while True:
            done = self._run(*arguments, limit=limit)
            said = done.stderr + ("" if ends else done.stdout)
            if FULL.search(said):
                raise self._full()
            if ends.search(done.stdout) if ends else done.returncode == 0:
                return done.stdout
            if not ends and not LOST.search(said) and self._present():
                raise BenchmarkFailed(f"{self.serial}: adb {arguments[0]}: {said.strip()[-300:]}")
            if time.monotonic() > give_up:
                what = "the device hangs" if done.returncode == HUNG else "the connection is lost"
                raise BenchmarkFailed(
                    f"{self.serial}: {what} and did not come back in {PATIENCE:.0f} s: {said.strip()[-200:]}",
                    hint="what was begun goes on on the device; the same command again finds it there",
                )
            self._connect()
            time.sleep(0.2)

    def _run(self, *arguments: str, limit: float | None = None) -> subprocess.CompletedProcess[str]:
        """With status `HUNG` where there was no answer in `limit` seconds, by default `CALL`."""
        command, limit = [*self._adb, *arguments], CALL if limit is None else limit
        # Files and no pipes: what adb leaves running would hold those open, and be waited for.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            try:
                status = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=error, timeout=limit, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                return subprocess.CompletedProcess(
                    command, HUNG, "", f"adb {arguments[0]} had no answer in {limit:.0f} s"
                )
            out.seek(0)
            error.seek(0)
            texts = (file.read().decode(errors="replace") for file in (out, error))
            return subprocess.CompletedProcess(command, status, *texts)

    def _answered(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Of the part of adb that runs here."""
        done = self._run(*arguments)
        if done.returncode == HUNG:
            raise BenchmarkFailed(
                f"adb does not work: {_words(done)}", hint="adb kill-server, then plug the device in anew"
            )
        return done

    def _only(self) -> str:
        if chosen := os.environ.get("ANDROID_SERIAL"):
            return chosen
        lines = [line.split() for line in self._answered("devices").stdout.splitlines()[1:] if line.strip()]
        ready = [words[0] for words in lines if words[1:2] == ["device"]]
        if len(ready) != 1:
            seen = ", ".join(f"{words[0]} ({words[1]})" for words in lines) or "none"
            hint = "name one of them: --device adb:SERIAL"
            if not ready:
                hint = "plug one in with USB debugging on, and trust this computer on its screen"
            raise UsageError(f"adb sees {len(ready)} devices that are ready: {seen}", hint=hint)
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


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """The last that adb said."""
    return (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
