"""What a device is to measure: command lines of edgekit_bench, in passes, each for a process of its own.

Whoever runs them (edgekit_bench itself on Android, an app around it on iOS, a page over the web SDK) answers
each line by one of JSON; recording.py makes a result of the answers. A plan is JSON and knows all that the
result needs of the model, so that a file from a phone can be read where the model is not.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.bench import result
from edgekit.bench.cost import Cost
from edgekit.bench.protocol import FIRST_TOKEN_PROMPT, Options
from edgekit.errors import UsageError

MODEL = "MODEL"  # in the commands; the player knows where its copy is
STRETCH_SECONDS = 10.0  # of a curve, for one point

Plan = dict[str, Any]


def make(model: Path, options: Options, start_celsius: float, wait_minutes: float) -> Plan:
    """For `model`, a .edge file; `options.threads` 0 lets the device choose. Before each repetition the
    device waits until it is no warmer than `start_celsius`, for `wait_minutes` at most. Raises InvalidFile,
    UsageError.
    """
    if not model.is_file():
        raise UsageError(f"{model} is no .edge file, and a device runs nothing else")
    cost = Cost.of(model)
    golden = result.metadata_of(model).get("golden")
    threads, decode = options.threads, options.decode
    cool = f"cool {start_celsius:g} {60 * wait_minutes:g}"

    def opened(kv: str = options.kv, positions: int = options.positions) -> str:
        return f"open {threads} {kv} {positions} {MODEL}"

    passes: list[list[str]] = [["facts", "state", cool, f"machine {threads}"]]
    if golden is not None:
        ids, chosen = golden["ids"], [id for id, _ in golden["logits"]]
        passes.append([opened("f32", len(ids) + 4), f"logits {_listed(chosen)} {_listed(ids)}"])
    passes += [[opened(), f"measure {FIRST_TOKEN_PROMPT} 1"]] * options.repetitions
    for depth in options.depths:
        # The first round is thrown away: code and pages are touched.
        lines = [opened(), f"fill {min(options.prompts)}", f"stretch 0 {min(8, decode)}"]
        for _ in range(options.repetitions):
            lines.append(cool)
            for prompt in options.prompts:
                lines += [f"fill {depth}", f"measure {prompt} {decode}"]
        passes.append([*lines, "state"])
    greatest = [f"fill {max(options.depths)}", f"measure {max(options.prompts)} {decode}", "memory"]
    passes.append(["memory", opened(), *greatest])
    if options.sustained_minutes:
        seconds = 60 * options.sustained_minutes
        each = min(STRETCH_SECONDS, seconds)
        passes.append([cool, opened(), *[f"stretch {each:g} {decode}"] * round(seconds / each)])
    passes.append([f"machine {threads}"])
    return {
        "plan": 1,
        "version": __version__,
        "model": result.model_facts(model, cost),
        "cost": cost.to_json(),
        "golden": golden,
        "options": asdict(options) | {"start_celsius": start_celsius},
        "passes": passes,
    }


def _listed(ids: list[int]) -> str:
    return ",".join(map(str, ids))
