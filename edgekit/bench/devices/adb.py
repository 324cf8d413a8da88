"""An Android device: edgekit_bench and the model are put there, a shell script plays the plan, and its
answers are fetched. The script needs no connection while it runs: a cable may be pulled out, and for energy
it must.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from edgekit.bench import recording
from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.devices import Progress, program
from edgekit.bench.devices.bridge import Bridge
from edgekit.bench.plan import MODEL, Plan
from edgekit.bench.result import sha256_of
from edgekit.errors import InvalidFile

HOME = "/data/local/tmp/edgekit"
PROPERTIES = {"soc": "ro.soc.model"}
PASS = """../{program} > answers.{number:04} 2>> log <<'END' || {{ echo $? > status; exit; }}
{commands}
END
"""
SLOWEST_POLL = 5.0  # seconds
# What a run ended with; nothing, for a shell's ||, while it has not.
ENDED = "{ [ -s status ] && cat status; }"


def record(model: Path, plan: Plan, address: str, progress: Progress) -> dict[str, Any]:
    bridge = Bridge(address)
    abi = bridge.property("ro.product.cpu.abi") or "unknown"
    binary = program.find(abi, progress)
    names = binary_name, model_name = f"edgekit_bench-{sha256_of(binary)[:12]}", f"{sha256_of(model)}.edge"
    bridge.shell(f"mkdir -p {HOME}")
    for source, name in zip((binary, model), names, strict=True):
        bridge.push(source, f"{HOME}/{name}", progress)
    bridge.shell(f"chmod 755 {HOME}/{binary_name}")

    text = json.dumps(plan, sort_keys=True)
    run = f"{HOME}/run-{hashlib.sha256((text + binary_name).encode()).hexdigest()[:12]}"
    if not _was_begun(bridge, run):
        _start(bridge, run, plan, binary_name, model_name, progress)
    _wait(bridge, run, plan, progress)
    answers = _answers(bridge.shell(f"cd {run} && for pass in answers.*; do cat $pass; echo; done"))
    device, created = _device(bridge), bridge.shell(f"cat {run}/created")
    bridge.shell(f"rm -rf {run}")
    return recording.make(plan, device, created, answers)


def _device(bridge: Bridge) -> dict[str, Any]:
    maker, model = (bridge.property(f"ro.product.{name}") for name in ("manufacturer", "model"))
    version = bridge.property("ro.build.version.release")
    return {
        "kind": "adb",
        "name": " ".join(filter(None, (maker, model))) or bridge.serial,
        "system": f"Android {version}" if version else None,
        **{name: bridge.property(key) for name, key in PROPERTIES.items()},
    }


def _was_begun(bridge: Bridge, run: str) -> bool:
    """Whether this very run goes on, or has ended, and its computer was lost on the way."""
    found = f"cd {run} 2>/dev/null && {{ [ -s status ] || kill -0 $(cat pid) 2>/dev/null; }}"
    return bridge.shell(f"{found} && echo yes || true") == "yes"


def _start(
    bridge: Bridge, run: str, plan: Plan, binary_name: str, model_name: str, progress: Progress
) -> None:
    bridge.shell(f"rm -rf {run} && mkdir {run} && ln -s ../{model_name} {run}/{MODEL}")
    passes = [
        PASS.format(program=binary_name, number=number, commands="\n".join(commands))
        for number, commands in enumerate(plan["passes"])
    ]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "play.sh"
        script.write_text("".join([*passes, "echo 0 > status\n"]))
        bridge.push(script, f"{run}/play.sh", progress)
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    # Once: when the connection breaks right then, the pid says that it was begun.
    begin = "[ -e pid ] || { setsid nohup sh play.sh </dev/null >/dev/null 2>&1 & echo $! > pid; }"
    bridge.shell(f"cd {run} && echo {created} > created && {begin}")


def _wait(bridge: Bridge, run: str, plan: Plan, progress: Progress) -> None:
    total, pause = sum(map(len, plan["passes"])), 0.2
    while True:
        state = bridge.shell(
            f"cd {run} && cat answers.* 2>/dev/null | wc -l; {ENDED} || "
            f"{{ kill -0 $(cat pid) 2>/dev/null && echo runs || {ENDED} || echo gone; }}"
        ).split()
        progress("measuring on the device", int(state[0]), total)
        match state[1]:
            case "0":
                return
            case "runs":
                time.sleep(pause)
                pause = min(1.5 * pause, SLOWEST_POLL)
            case ended:
                words = bridge.shell(f"tail -n 1 {run}/log 2>/dev/null || true")
                bridge.shell(f"rm -rf {run}")
                how = "disappeared (was the device restarted?)"
                if ended != "gone":
                    how = f"ended with status {ended}"
                raise BenchmarkFailed(
                    f"{bridge.serial}: edgekit_bench {how} after {state[0]} of {total} answers: {words}"
                )


def _answers(text: str) -> list[list[dict[str, Any]]]:
    """Of each pass."""
    try:
        return [[json.loads(line) for line in answers.splitlines()] for answers in text.split("\n\n")]
    except ValueError:
        raise InvalidFile(f"the device answered what is no JSON: {text[:200]!r}") from None
