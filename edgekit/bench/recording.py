"""What a device answered to a plan, and the result that it makes.

    {"recording": 1, "created": "2026-…", "device": {"kind": "adb", …}, "plan": {…}, "answers": [[{…}, …], …]}

`answers` has a list for each pass of the plan with one object for each of its lines. `device` is what the
player knows of the device; what its `facts` line answered is added to that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from edgekit.bench import machine, result, rows
from edgekit.bench.child import BenchmarkFailed
from edgekit.bench.cost import Cost
from edgekit.bench.plan import Plan
from edgekit.bench.protocol import FIRST_TOKEN_PROMPT, OURS
from edgekit.errors import InvalidFile
from edgekit.verification import deviation

Answer = dict[str, Any]
POINT = ("temperature_c", "thermal_state", "charging", "level", "milliwatts", "seconds", "tokens")


def make(
    plan: Plan, device: dict[str, Any], created: str, answers: Sequence[Sequence[Answer]]
) -> dict[str, Any]:
    return {"recording": 1, "created": created, "device": device, "plan": plan, "answers": list(answers)}


def result_of(recording: dict[str, Any]) -> result.Document:
    """Raises InvalidFile (no recording), BenchmarkFailed (the device answered with an error, not to
    everything, or with times that are none).
    """
    try:
        return _Reading(recording).document()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise InvalidFile(f"not a recording of edgekit bench: {type(error).__name__}: {error}") from None


class _Reading:
    def __init__(self, recording: dict[str, Any]) -> None:
        self._recording = recording
        self._plan: Plan = recording["plan"]
        self._cost = Cost.from_json(self._plan["cost"])
        self._options = self._plan["options"]
        self._label = f"{OURS} kv={self._options['kv']}"
        self._device: dict[str, Any] = {"name": None, "page_bytes": None, **recording["device"]}
        self._engine: dict[str, Any] = {}
        self._probes: list[Answer] = []
        self._golden: dict[str, Any] | None = None
        self._loads: list[tuple[float, float]] = []
        self._samples: list[dict[str, Any]] = []
        self._curve: list[dict[str, Any]] = []

    def document(self) -> result.Document:
        passes = list(self._passes())
        for exchanges in passes:
            for words, answer in exchanges:
                self._note(words, answer)
        for exchanges in passes:
            self._read(exchanges)
        engines = {self._label: self._engine}
        opened = self._engine
        loads = rows.summary(
            {"load_ms": [a for a, _ in self._loads], "open_to_first_token_ms": [b for _, b in self._loads]}
        )
        return result.complete(
            {
                "created": self._recording["created"],
                "options": {**self._options, "threads": opened["threads"]},
                "device": self._device | result.limits(self._probes),
                "build": {name: opened.get(name) for name in ("version", "isa", "driver")},
                "gate": result.gate(self._probes, self._golden),
                "model": self._plan["model"],
                "engines": engines,
                "loads": [{"engine": self._label, "cache": "warm", "prompt": FIRST_TOKEN_PROMPT, **loads}],
                "rows": rows.rows(self._samples, engines, self._cost, self._probes, self._options["decode"]),
                "sustained": {self._label: self._curve} if self._curve else {},
                "energy": result.energy(self._device["kind"], self._curve),
            }
        )

    def _passes(self) -> Iterator[list[tuple[list[str], Answer]]]:
        wanted, answers = self._plan["passes"], self._recording["answers"]
        done = sum(map(len, answers))
        for commands, given in zip(wanted, [*answers, *[[]] * len(wanted)], strict=False):
            for command, answer in zip(commands, given, strict=False):
                if "error" in answer:
                    raise BenchmarkFailed(f"{self._device['kind']}: {command.split()[0]}: {answer['error']}")
            if len(given) < len(commands):
                total = sum(map(len, wanted))
                raise BenchmarkFailed(
                    f"{self._device['kind']}: the device answered {done} of {total} commands, and not to "
                    f"{commands[len(given)].split()[0]!r}: it ran out of memory, or was stopped"
                )
            yield [(command.split(), answer) for command, answer in zip(commands, given, strict=True)]

    def _note(self, words: list[str], answer: Answer) -> None:
        """What an answer says wherever it stands."""
        match words[0]:
            case "facts":
                told = {name: value for name, value in self._device.items() if value is not None}
                self._device |= answer | told
            case "machine":
                self._hold(words, answer, *(name for name in machine.MEASURED if name in answer))
                self._probes.append(answer)
            case "state" if answer.get("charging"):
                self._device["charging"] = True
            case "cool" if (answer.get("temperature_c") or 0) > float(words[1]) or _held_back(answer):
                self._device["hot_start"] = True

    def _hold(self, words: list[str], answer: Answer, *names: str) -> None:
        """Refuses what no speed can be made of."""
        for name in names:
            if not (answer[name] > 0 and math.isfinite(answer[name])):
                raise BenchmarkFailed(
                    f"{self._device['kind']}: {' '.join(words)}: {name} is {answer[name]}, of which no speed "
                    "can be made",
                    hint="a coarse clock sees no time pass over little work: give more --prompt, --decode",
                )

    def _read(self, exchanges: list[tuple[list[str], Answer]]) -> None:
        kinds = [words[0] for words, _ in exchanges]
        if kinds == ["open", "logits"]:
            self._compare(exchanges[1][1])
        elif kinds == ["open", "measure"]:
            opened, first = exchanges[0][1], exchanges[1][1]
            self._hold(exchanges[1][0], first, "ttft_ms")
            self._loads.append((opened["load_ms"], opened["load_ms"] + first["ttft_ms"]))
            self._engine = self._engine or self._described(opened)
        elif kinds[0] == "memory":
            self._engine |= {"memory_before": exchanges[0][1] or None, "memory": exchanges[-1][1] or None}
        elif kinds.count("stretch") and kinds[-1] == "stretch":
            stretches = [(words, answer) for words, answer in exchanges if words[0] == "stretch"]
            for words, answer in stretches:
                self._hold(words, answer, "seconds", "tokens", "decode_ms", "decoded")
            self._draw([answer for _, answer in stretches])
        else:
            depth = 0
            for words, answer in exchanges:
                if words[0] == "fill":
                    depth = int(words[1])
                elif words[0] == "measure":
                    self._hold(words, answer, "ttft_ms", "decode_ms", "decoded")
                    self._samples.append(
                        {"engine": self._label, "depth": depth, "prompt": int(words[1]), **answer}
                    )

    def _compare(self, answer: Answer) -> None:
        mismatches, error = deviation(self._plan["golden"], answer["top1"], answer["logits"])
        self._golden = result.golden(len(answer["top1"]), mismatches, error)

    def _described(self, opened: Answer) -> dict[str, Any]:
        model = self._plan["model"]
        return {
            "engine": OURS,
            "settings": {"kv": self._options["kv"]},
            "model": model["name"],
            "driver": "web" if self._device["kind"] == "browser" else "native",
            "file_bytes": model["file_bytes"],
            "n_parameters": model["n_parameters"],
            "other_model": False,
            "bits_per_weight": 8 * model["file_bytes"] / model["n_parameters"],
            **{name: value for name, value in opened.items() if name != "load_ms"},
        }

    def _draw(self, stretches: list[Answer]) -> None:
        begin = 0.0
        for stretch in stretches:
            self._curve.append(
                {
                    "minute": begin / 60,
                    "decode_tok_s": rows.rate(stretch["decoded"], stretch["decode_ms"]),
                    "anonymous_bytes": None,
                    **{name: stretch.get(name) for name in POINT},
                }
            )
            begin += stretch["seconds"]


def _held_back(answer: Answer) -> bool:
    """Whether a system that tells no degrees says that the device is too warm."""
    return answer.get("thermal_state") in ("serious", "critical")
