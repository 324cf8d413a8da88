"""Two results side by side: the ratio of each figure, with the interval it lies in 19 times of 20."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

from edgekit.bench import machine
from edgekit.bench.protocol import METRICS
from edgekit.errors import UsageError

RESAMPLES = 2000
SAME_DEVICE = ("kind", "name", "cpu", "architecture", "cpus")


def obstacles(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Why a ratio of these two would say nothing; empty when it says something."""
    reasons = []
    for name in SAME_DEVICE:
        if a["device"][name] != b["device"][name]:
            reasons.append(f"the devices differ: {name} {a['device'][name]!r} and {b['device'][name]!r}")
    if a["options"]["threads"] != b["options"]["threads"]:
        reasons.append(f"threads differ: {a['options']['threads']} and {b['options']['threads']}")
    for which, document in (("first", a), ("second", b)):
        for name, share in document["gate"]["moved"].items():
            reasons.append(f"{name} moved by {share:.0%} during the {which} run")
    if not reasons:
        between = machine.movements([_measured(a), _measured(b)])
        reasons += [f"{name} moved by {share:.0%} between the runs" for name, share in between.items()]
    return reasons


def compare(a: dict[str, Any], b: dict[str, Any], *, force: bool = False) -> list[dict[str, Any]]:
    """For each row that both have and each figure: its value in both, b / a, and the interval of that ratio.
    Raises UsageError when the runs cannot be compared.
    """
    reasons = obstacles(a, b)
    if reasons and not force:
        raise UsageError(
            "these results cannot be compared: " + "; ".join(reasons),
            hint="measure both on one quiet machine, or compare even so with --force",
        )
    theirs = {_key(row): row for row in b["rows"]}
    rows = []
    for row in a["rows"]:
        other = theirs.get(_key(row))
        if other is None:
            continue
        for metric in METRICS:
            for which, document in (("first", row), ("second", other)):
                if min(document["samples"][metric]) <= 0:
                    raise UsageError(
                        f"the {which} result has {metric} 0 at depth {row['depth']}, prompt {row['prompt']}: "
                        "no ratio can be made of that",
                        hint="its clock was too coarse: measure again with a greater --prompt and --decode",
                    )
            low, high = interval(row["samples"][metric], other["samples"][metric])
            rows.append(
                {
                    **dict(zip(("engine", "depth", "prompt", "decode"), _key(row), strict=True)),
                    "metric": metric,
                    "a": row[metric],
                    "b": other[metric],
                    "ratio": other[metric] / row[metric],
                    "low": low,
                    "high": high,
                }
            )
    if not rows:
        raise UsageError(
            "these results have no row in common: engine, depth, prompt and decode must be equal"
        )
    return rows


def interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The ratio median(b) / median(a): the middle 95% of it when both are drawn again from what was seen."""
    draw = random.Random(0)
    ratios = sorted(
        statistics.median(draw.choices(b, k=len(b))) / statistics.median(draw.choices(a, k=len(a)))
        for _ in range(RESAMPLES)
    )
    return ratios[RESAMPLES // 40], ratios[-RESAMPLES // 40 - 1]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["engine"], row["depth"], row["prompt"], row["decode"]


def _measured(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name in machine.MEASURED if (value := document["device"].get(name))}
