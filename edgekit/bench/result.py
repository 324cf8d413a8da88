"""A result: what `bench --out` writes, wherever it was measured. results-schema.json says what is in it."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.bench import machine, rows, schema
from edgekit.bench.cost import Cost
from edgekit.converters.formats import edge
from edgekit.errors import EdgekitError, InvalidFile
from edgekit.verification import GOLDEN_TOLERANCE

VERSION = 2
SLOWED = 0.9  # a curve whose end is below this share of its beginning was throttled
FEWEST_POINTS = 5  # of a curve that can tell
NO_METER = {
    "host": "this computer's power is not measured",
    "browser": "a browser does not tell a page what the device draws",
    "ios": "iOS does not tell an app what the device draws",
}
MOVED_POWER = (50.0, 50_000.0)  # milliwatts: outside of this no phone computes

Document = dict[str, Any]


def complete(document: Mapping[str, Any]) -> Document:
    """With what follows from the rest: flags, and the signature over all of it."""
    found = {"version": VERSION, **document}
    found["flags"] = flags(found)
    return sign(found)


def model_facts(path: Path, cost: Cost) -> dict[str, Any]:
    """What a result says of the model: `sha256` is the whole file's."""
    return {
        "name": path.name,
        "model_type": cost.spec.model_type,
        "scheme": cost.scheme,
        "n_parameters": cost.n_parameters,
        "weight_bytes": cost.weight_bytes,
        "file_bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "quality": metadata_of(path).get("quality"),
    }


def metadata_of(path: Path) -> dict[str, Any]:
    return edge.decode_metadata(edge.read_header(path)[0]["__metadata__"])


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def limits(probes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best that the device was seen to do; None where it was not measured."""
    return {
        **{name: rows.best(probes, name) for name in machine.MEASURED},
        "dot_instruction": probes[0].get("dot_instruction") if probes else None,
    }


def gate(probes: Sequence[Mapping[str, Any]], golden: Mapping[str, Any] | None) -> dict[str, Any]:
    """What must hold for the figures to count: the device did not move, the model computed what it should.
    `golden` is None where the package has no golden vectors.
    """
    return {"samples": list(probes), "moved": machine.movements(probes), "golden": golden}


def golden(positions: int, mismatches: int, largest_error: float) -> dict[str, Any]:
    return {
        "positions": positions,
        "mismatches": mismatches,
        "largest_error": largest_error,
        "passed": mismatches == 0 and largest_error <= GOLDEN_TOLERANCE,
    }


def energy(kind: str, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Joules for a decoded token, from the points of a sustained run; or why there are none."""
    reason = NO_METER.get(kind)
    powers = [point.get("milliwatts") for point in points]
    if reason is None and not points:
        reason = "there was no sustained run"
    if reason is None and any(point.get("charging") for point in points):
        reason = "the cable was in: what leaves the battery is not what the device draws"
    if reason is None and None in powers:
        reason = "the system does not show the battery's current"
    if reason is None and not all(MOVED_POWER[0] <= power <= MOVED_POWER[1] for power in powers if power):
        reason = (
            f"the battery says {powers[0]:.3g} mW, which is not in the units of the kernel's documentation"
        )
    if reason is not None:
        return {"joules_per_token": None, "method": None, "reason": reason}
    joules = sum(point["milliwatts"] / 1e3 * point["seconds"] for point in points)
    method = "battery: current_now × voltage_now while decoding, of the whole device, cable out"
    return {
        "joules_per_token": joules / sum(point["tokens"] for point in points),
        "method": method,
        "reason": None,
    }


def flags(document: Mapping[str, Any]) -> list[str]:
    """moved, wrong, throttled, charging, hot_start, hidden: what a reader must know before comparing."""
    device, found = document["device"], []
    if document["gate"]["moved"]:
        found.append("moved")
    if (document["gate"]["golden"] or {}).get("passed") is False:
        found.append("wrong")
    if any(throttled(points) for points in document["sustained"].values()):
        found.append("throttled")
    found += [name for name in ("charging", "hot_start", "hidden") if device.get(name)]
    return found


def throttled(points: Sequence[Mapping[str, Any]]) -> bool:
    if len(points) < FEWEST_POINTS:
        return False
    share = -(-len(points) // 5)
    speeds = [point["decode_tok_s"] for point in points]
    return statistics.median(speeds[-share:]) < SLOWED * statistics.median(speeds[:share])


def sign(document: Mapping[str, Any]) -> Document:
    """With the SHA-256 of everything else in it, which shows that nothing changed since. It does not show who
    measured: whoever changes a result can sign it again.
    """
    body = {name: value for name, value in document.items() if name != "signature"}
    return {**body, "signature": {"method": "sha256", "value": _hash(body)}}


def read(path: Path) -> Document:
    """A result, of this version or one before; or what a device recorded, made one. Raises InvalidFile, and
    BenchmarkFailed for what a device recorded that failed; both name the file.
    """
    from edgekit.bench import recording

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not document.keys() & {"version", "recording"}:
        raise InvalidFile(f"{path}: not a result of edgekit bench --out")
    if "recording" in document:
        try:
            document = recording.result_of(document)
        except EdgekitError as error:
            raise type(error)(f"{path}: {error}", hint=error.hint) from None
    elif document["version"] == 1:
        document = _from_1(document, path)
    elif document["version"] != VERSION:
        raise InvalidFile(f"{path}: a result of version {document['version']}; this is edgekit for {VERSION}")
    if faults := schema.faults(document):
        raise InvalidFile(f"{path}: not a result of edgekit bench: {faults[0]}")
    measured = [row["engine"] for row in document["rows"]]
    if unknown := {*measured, *document["sustained"]} - document["engines"].keys():
        raise InvalidFile(
            f"{path}: not a result of edgekit bench: it has figures of {min(unknown)!r}, no engine of it: "
            f"{', '.join(document['engines']) or 'none'}"
        )
    signature = document["signature"]
    if signature is not None and sign(document)["signature"] != signature:
        raise InvalidFile(f"{path}: changed after it was measured: its signature is of other content")
    return document


def _from_1(document: Document, path: Path) -> Document:
    """Version 1 had the machine and what it did in one, and nothing of hashes, energy and flags."""
    try:
        found = {name: value for name, value in document.items() if name != "machine"}
        facts = document["machine"]
        measured = {name: facts.pop(name) for name in ("samples", "moved")}
        ours = next(engine for engine in found["engines"].values() if engine["engine"] == "edgekit")
        model = {"file_bytes": ours["file_bytes"], "sha256": None, "quality": None}
        found |= {
            "version": VERSION,
            "device": {"kind": "host", "name": None, "page_bytes": None, **facts},
            "build": {name: ours.get(name) for name in ("version", "isa", "driver")},
            "gate": {**measured, "golden": None},
            "model": {**found["model"], **model},
            "energy": energy("host", []),
            "signature": None,
        }
        return {**found, "flags": flags(found)}
    except (KeyError, TypeError, AttributeError, StopIteration):
        raise InvalidFile(f"{path}: not a result of edgekit bench --out") from None


def _hash(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
