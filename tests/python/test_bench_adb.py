"""`bench --device adb`: the real adb, a device that is a folder, whose shell runs the program for 64-bit ARM
under qemu where EDGEKIT_BENCH_DEVICE names one (tools/build-arm.sh makes it), else this computer's.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_adbd import FakeDevice

from edgekit.bench import machine, plan, protocol
from edgekit.bench import result as results
from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.devices import adb, bridge
from edgekit.errors import IoFailure, UsageError
from edgekit.units import size

MODEL = Path(__file__).parents[1] / "golden" / "engine" / "text.edge"
SHORT = [["ready"], ["state", "cool 35 0.01", "open 1 int8 64 MODEL", "measure 5 3"]]
ARM = os.environ.get("EDGEKIT_BENCH_DEVICE")
TOOLS = {
    "getprop": """case $1 in
    ro.product.cpu.abi) echo ABI;; ro.product.manufacturer) echo Google;; ro.product.model) echo Pixel 8;;
    ro.build.version.release) echo 16;; ro.soc.model) echo Tensor G3;; esac""",
    "dumpsys": """echo 'Current Battery Service state:'
echo '  AC powered: false'; echo '  USB powered: '$(cat BATTERY/cable)
echo '  level: 83'; echo '  temperature: '$(cat BATTERY/temperature)""",
}
# What stands for a processor that executes the program.
EMULATOR = {
    "chmod": """[ -e $2.arm ] || mv $2 $2.arm
printf '#!/bin/sh\\nexec qemu-aarch64-static -cpu max %s "$@"\\n' $2.arm > $2; /bin/chmod 755 $2 $2.arm""",
    "sha256sum": """[ -e $1.arm ] && set -- $1.arm; exec /usr/bin/sha256sum $1""",
}

pytestmark = pytest.mark.skipif(shutil.which("adb") is None, reason="no adb on the PATH (apt install adb)")


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An adb server of our own, which knows no other device."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # adb makes a key there
        patch.delenv("ANDROID_SERIAL", raising=False)
        yield
        subprocess.run(["adb", "kill-server"], check=False, capture_output=True)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDevice]:
    program = ARM or machine.native_program()
    if program is None:
        pytest.skip("edgekit_bench is not built (make bench)")
    monkeypatch.setenv("EDGEKIT_BENCH_DEVICE", program)
    monkeypatch.setattr(bridge, "PIECE", 1 << 20)
    folder, tools, battery = (tmp_path / name for name in ("device", "tools", "battery"))
    for path in (folder, tools, battery):
        path.mkdir()
    (battery / "temperature").write_text("311")
    (battery / "cable").write_text("false")
    for name, text in (TOOLS | (EMULATOR if ARM else {})).items():
        abi = "arm64-v8a" if ARM else "x86_64"
        script = tools / name
        script.write_text("#!/bin/sh\n" + text.replace("ABI", abi).replace("BATTERY", str(battery)) + "\n")
        script.chmod(0o755)
    # qemu looks there first for what a program opens.
    supply = tmp_path / "root" / "sys" / "class" / "power_supply" / "battery"
    supply.mkdir(parents=True)
    for name, value in {"type": "Battery", "current_now": "-900000", "voltage_now": "4000000"}.items():
        (supply / name).write_text(f"{value}\n")
    found = FakeDevice(folder, tools, {"QEMU_LD_PREFIX": str(tmp_path / "root")})
    yield found
    subprocess.run(["adb", "disconnect", found.serial], check=False, capture_output=True)
    found.close()


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PIECE", 60_000)


def record(device: FakeDevice) -> dict[str, Any]:
    """Of a few commands."""
    wanted = {**plan.make(MODEL, protocol.Options(), 35, 0.001), "passes": SHORT}
    return adb.record(MODEL, wanted, device.serial, lambda *_: None)


def complete(recorded: dict[str, Any]) -> bool:
    """Whether all of `SHORT` was answered."""
    return [len(answers) for answers in recorded["answers"]] == [1, 4] and recorded["answers"][1][3][
        "decoded"
    ] == 3


def test_a_whole_run(device: FakeDevice, tmp_path: Path) -> None:
    out = tmp_path / "phone.json"
    words = f"--device adb:{device.serial} --prompt 5 --decode 3 --repetitions 1 --threads 1 --kv int8 "
    words += f"--sustained 0.001 --wait 0.001 --out {out}"
    command = [sys.executable, "-m", "edgekit", "bench", str(MODEL), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "decode tok/s" in done.stdout
    result = results.read(out)
    known = {"kind": "adb", "name": "Google Pixel 8", "soc": "Tensor G3", "system": "Android 16"}
    assert result["device"] | known == result["device"]
    assert result["rows"][0]["decode_tok_s"] > 0 and result["flags"] in ([], ["moved"])
    (curve,) = result["sustained"].values()
    assert curve[0]["temperature_c"] == 31.1 and curve[0]["level"] == 0.83 and curve[0]["charging"] is False
    if ARM:
        assert result["device"]["architecture"] == "aarch64" and result["build"]["isa"].startswith("neon")
        assert curve[0]["milliwatts"] == pytest.approx(3600)
        assert result["energy"]["joules_per_token"] > 0 and "cable out" in result["energy"]["method"]
    else:
        assert "does not show the battery's current" in result["energy"]["reason"]
    left = {path.name for path in (device.folder / "edgekit").iterdir()}
    assert not [name for name in left if name.startswith("run-") or name.endswith((".part", ".piece"))]
    # What is there is not sent again.
    device.received.clear()
    record(device)
    assert not [name for name in device.received if "edge" in name]


def test_a_connection_that_breaks_in_the_middle(device: FakeDevice) -> None:
    device.break_at = "wc -l"  # it is asked how far the run is
    assert complete(record(device))
    assert device.break_at is None and device.connections == 2
    assert sum("setsid" in command for command in device.commands) == 1  # the run was begun once, and went on


def test_a_connection_that_breaks_while_the_model_is_sent(device: FakeDevice) -> None:
    device.break_at = "seek=1 "
    assert complete(record(device))
    assert device.break_at is None and device.connections == 2


def test_a_connection_that_does_not_come_back(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PATIENCE", 1)
    device.break_at = "wc -l"
    device.gone = True
    with pytest.raises(BenchmarkFailed, match="is lost and did not come back") as caught:
        record(device)
    assert "the same command again" in str(caught.value.hint)
    device.gone = False
    assert complete(record(device))
    assert sum("setsid" in command for command in device.commands) == 1


def test_sending_goes_on_where_it_stopped(device: FakeDevice, small_pieces: None) -> None:
    device.folder.joinpath("edgekit").mkdir()
    found = bridge.Bridge(device.serial)
    target = f"{adb.HOME}/m.edge"
    device.path(f"{target}.part").write_bytes(MODEL.read_bytes()[:130_000])
    assert found.push(MODEL, target, lambda *_: None)
    assert device.path(target).read_bytes() == MODEL.read_bytes()
    assert device.received == ["m.edge.piece"]  # of three pieces two were there
    assert not found.push(MODEL, target, lambda *_: None)


def test_bytes_that_arrive_damaged(device: FakeDevice) -> None:
    device.damaged = 1
    assert complete(record(device))
    device.path(f"{adb.HOME}/other").write_text("x")
    device.damaged = bridge.TRIES
    with pytest.raises(BenchmarkFailed, match="arrived damaged 3 times"):
        bridge.Bridge(device.serial).push(MODEL, f"{adb.HOME}/other", lambda *_: None)


def test_a_wrong_hash_at_the_end(device: FakeDevice, small_pieces: None) -> None:
    """What an earlier run left of another file, with as many bytes."""
    device.folder.joinpath("edgekit").mkdir()
    target = f"{adb.HOME}/m.edge"
    device.path(f"{target}.part").write_bytes(bytes(60_000))
    found = bridge.Bridge(device.serial)
    with pytest.raises(BenchmarkFailed, match=r"text\.edge has SHA-256 \w+, and arrived with"):
        found.push(MODEL, target, lambda *_: None)
    assert not list(device.folder.joinpath("edgekit").iterdir())
    assert found.push(MODEL, target, lambda *_: None)


def test_a_full_disk(device: FakeDevice, small_pieces: None) -> None:
    device.room = 100_000
    with pytest.raises(IoFailure, match=r"the device is full: \S+ takes .* [KM]iB") as caught:
        record(device)
    assert "make room" in str(caught.value.hint)
    assert not list(device.folder.joinpath("edgekit").iterdir())


def tool(device: FakeDevice, name: str, text: str) -> None:
    path = device.folder.parent / "tools" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_disk_that_will_be_full(device: FakeDevice, small_pieces: None) -> None:
    """Before anything is sent."""
    device.folder.joinpath("edgekit").mkdir()
    tool(
        device,
        "df",
        "echo Filesystem 1K-blocks Used Available Use% Mounted; echo /dev/x 9 9 100 99% /data",
    )
    takes = MODEL.stat().st_size + 60_000
    with pytest.raises(IoFailure) as caught:
        bridge.Bridge(device.serial).push(MODEL, f"{adb.HOME}/m.edge", lambda *_: None)
    expected = f"takes {size(takes)} while it is sent, {size(takes - (100 << 10))} more than is free"
    assert f"the device is full: text.edge {expected}" in str(caught.value)
    assert not device.received


@pytest.mark.parametrize("words", ["dd: x: No space left on device", "dd: write error: Disk quota exceeded"])
def test_a_disk_that_is_full_when_pieces_are_joined(
    device: FakeDevice, small_pieces: None, words: str
) -> None:
    device.folder.joinpath("edgekit").mkdir()
    tool(device, "df", "echo df: unknown option >&2; exit 1")
    tool(device, "dd", f"echo '{words}' >&2; exit 1")
    with pytest.raises(IoFailure, match=r"the device is full: text\.edge takes \S+ \S+ while it is sent$"):
        bridge.Bridge(device.serial).push(MODEL, f"{adb.HOME}/m.edge", lambda *_: None)
    assert device.received == ["m.edge.piece"] and not list(device.folder.joinpath("edgekit").iterdir())


def test_what_fails_otherwise_is_not_called_damaged(device: FakeDevice) -> None:
    device.folder.joinpath("edgekit").mkdir()
    tool(device, "dd", "echo 'dd: Operation not permitted' >&2; exit 1")
    with pytest.raises(BenchmarkFailed, match="dd: dd: Operation not permitted"):
        bridge.Bridge(device.serial).push(MODEL, f"{adb.HOME}/m.edge", lambda *_: None)


@pytest.mark.parametrize(("at", "command"), [("wc -l", "shell"), ("push", "push")])
def test_a_device_that_hangs(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, at: str, command: str
) -> None:
    monkeypatch.setattr(bridge, "PATIENCE", 0)
    monkeypatch.setattr(bridge, "CALL", 1)
    monkeypatch.setattr(bridge, "SLOWEST_LINK", 1 << 40)
    device.hang_at = at
    with pytest.raises(
        BenchmarkFailed, match=rf"the device hangs and .*: adb {command} had no answer in 1 s"
    ):
        record(device)
    device.hang_at = None
    monkeypatch.setattr(bridge, "CALL", 60)
    assert complete(record(device))
    assert sum("setsid" in command for command in device.commands) == 1


def test_a_device_that_hangs_for_a_moment(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "CALL", 2)
    device.hang_at = "wc -l"
    threading.Timer(4, setattr, (device, "hang_at", None)).start()
    assert complete(record(device))


def test_an_adb_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended although what it started holds on to its output."""
    program = tmp_path / "adb"
    program.write_text("#!/bin/sh\nsleep 20\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(bridge, "CALL", 0.2)
    start = time.monotonic()
    for serial in ("", "127.0.0.1:1"):
        with pytest.raises(BenchmarkFailed, match=r"adb does not work: adb \S+ had no answer") as caught:
            bridge.Bridge(serial)
        assert "kill-server" in str(caught.value.hint)
    assert time.monotonic() - start < 10


def test_a_device_that_stays_hot(device: FakeDevice) -> None:
    (device.folder.parent / "battery" / "temperature").write_text("420")
    _, (state, cool, *_) = record(device)["answers"]
    assert state["temperature_c"] == cool["temperature_c"] == 42 and cool["waited_s"] >= 0.01


def test_a_cable_is_seen(device: FakeDevice, tmp_path: Path) -> None:
    (tmp_path / "battery" / "cable").write_text("true")
    assert record(device)["answers"][1][0]["charging"] is True


def test_a_program_that_ends(device: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad"
    bad.write_text("#!/bin/sh\necho killed >&2; exit 137\n")
    (tmp_path / "tools" / "chmod").unlink(missing_ok=True)
    monkeypatch.setenv("EDGEKIT_BENCH_DEVICE", str(bad))
    with pytest.raises(BenchmarkFailed, match=r"ended with status 137 after 0 of 5 answers: killed"):
        record(device)


def test_a_device_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = tmp_path / "adb"
    stuck.write_text('#!/bin/sh\n[ "$3" = get-state ] && echo device || exec sleep 60\n')
    stuck.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(bridge, "CALL", 0.5)
    monkeypatch.setattr(bridge, "PATIENCE", 0.1)
    with pytest.raises(BenchmarkFailed, match=r"phone: the device hangs .* adb shell had no answer"):
        bridge.Bridge("phone").shell("true")


def test_no_such_device() -> None:
    with pytest.raises(UsageError, match="adb sees no device 127"):
        bridge.Bridge("127.0.0.1:1")
    with pytest.raises(UsageError, match="adb sees 0 devices that are ready: none") as caught:
        bridge.Bridge()
    assert "plug one in" in str(caught.value.hint)
