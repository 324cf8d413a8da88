"""Many results as one HTML page: a table of devices and models, every measurement to filter and sort, curves.

One file that needs no server and fetches nothing: what a public list of results would be.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.bench.report import FLAGS
from edgekit.bench.result import Document
from edgekit.page import curves, page
from edgekit.units import number, quantity, size

TEMPLATE = Path(__file__).with_suffix(".html")

COLUMNS = {
    "device": "what was measured on: a phone (ios; adb is Android), a browser, or a computer's processor",
    "model": "the file, its parameters, and how its weights are quantized",
    "engine": "what ran the model, and how it stores keys and values (kv)",
    "decode": "tokens a second when an answer is written one by one; more is better",
    "prefill": "tokens a second when a prompt is read; more is better",
    "first token": "milliseconds from a prompt to the first token of its answer",
    "of bandwidth": "the bytes that tokens needed, of what the device's memory can deliver in that time; "
    "above 100% the model lies in a cache",
    "KL": "what quantization cost: how far the model's distribution of the next token is from the "
    "checkpoint's, in nats; 0 is the same",
    "memory": "the most that the process held, the model's file included",
    "J/token": "energy of a decoded token, in joules, of the whole device; empty where nothing tells it",
    "last/first": "decoding at the end of the minutes-long run, of its beginning; less than 90% is throttled",
    "flags": "what to know before comparing, explained below; no flag is good",
}
WORDS = COLUMNS | {
    **FLAGS,
    "depth, prompt": "tokens in the cache before the prompt, and of the prompt",
    "a curve": "decoding without a pause: how fast the device is when it has become warm",
}


def html_page(results: Sequence[tuple[str, Document]], command: str) -> str:
    """Of (the file's name, its result); `command` makes the page again."""
    lines = [line for name, result in results for line in _lines(name, result)]
    cases = Counter(line["case"] for line in lines)
    content = TEMPLATE.read_text(encoding="utf-8")
    parts = {
        "CASES": "".join(f"<option>{html.escape(case)}</option>" for case, _ in cases.most_common()),
        "SORTS": "".join(f'<option value="{i}">{name}</option>' for i, name in enumerate(COLUMNS)),
        "MATRIX": _matrix(lines, cases),
        "HEAD": "".join(
            f'<th><button type="button" data-column="{i}">{name}</button></th>'
            for i, name in enumerate(COLUMNS)
        ),
        "ROWS": "".join(map(_row, lines)),
    }
    for name, value in parts.items():
        content = content.replace(f"@{name}@", value)
    devices = {line["device"][0] for line in lines}
    models = {line["model"][0] for line in lines}
    return page(
        "edgekit bench: results",
        facts=[["results", f"{len(results)}, of {len(devices)} devices and {len(models)} models"]],
        command=command,
        content=content,
        figures=_curves(results),
        words=WORDS,
    )


def device_name(result: Document) -> str:
    """ "Pixel 8 (adb)"; of a computer its processor."""
    device = result["device"]
    if device["kind"] == "host":
        return f"{device['cpu']}, {device['cpus']} processors"
    return f"{device['name'] or device['cpu']} ({device['kind']})"


def model_name(result: Document) -> str:
    model = result["model"]
    return f"{model['name']}, {quantity(model['n_parameters'])}, {model.get('scheme', 'scheme unknown')}"


def _lines(name: str, result: Document) -> list[dict[str, Any]]:
    """Of each measured row that ran this model: for each column (what is shown, what it sorts by)."""
    found = []
    quality, energy = result["model"]["quality"] or {}, result["energy"]["joules_per_token"]
    for row in result["rows"]:
        if row["other_model"]:
            continue
        engine = result["engines"][row["engine"]]
        memory = (engine.get("memory") or {}).get("peak_bytes")
        points = result["sustained"].get(row["engine"], [])
        first = points[0]["decode_tok_s"] if len(points) > 1 else 0
        kept = points[-1]["decode_tok_s"] / first if first else None
        ours = engine["engine"] == "edgekit"
        found.append(
            {
                "file": name,
                "case": f"depth {row['depth']}, prompt {row['prompt']}",
                "device": (device_name(result), None),
                "model": (model_name(result), None),
                "engine": (row["engine"], None),
                "decode": _cell(row["decode_tok_s"], number, row, "decode_tok_s"),
                "prefill": _cell(row["prefill_tok_s"], number, row, "prefill_tok_s"),
                "first token": _cell(row["ttft_ms"], number, row, "ttft_ms"),
                "of bandwidth": _cell(row["bandwidth_fraction"], "{:.0%}".format),
                "KL": _cell(quality.get("kl_mean") if ours else None, "{:.4f}".format),
                "memory": _cell(memory, size),
                "J/token": _cell(energy if ours else None, "{:.3f}".format),
                "last/first": _cell(kept, "{:.0%}".format),
                "flags": (", ".join(result["flags"]), None),
            }
        )
    return found


def _cell(
    value: float | None, shown: Any, row: dict[str, Any] | None = None, metric: str = ""
) -> tuple[str, float | None]:
    if value is None:
        return "", None
    text = shown(value)
    if row is not None:
        text += f" ({number(row['min'][metric])}–{number(row['max'][metric])})"
    return text, value


def _row(line: dict[str, Any]) -> str:
    cells = []
    for name in COLUMNS:
        text, value = line[name]
        sorts = "" if value is None else f' data-value="{value:.6g}"'
        cells.append(f'<td data-label="{name}"{sorts}>{html.escape(text)}</td>')
    flagged = " data-flagged" if line["flags"][0] else ""
    case, file = html.escape(line["case"]), html.escape(line["file"])
    return f'<tr data-case="{case}" title="{file}"{flagged}>{"".join(cells)}</tr>'


def _matrix(lines: Sequence[dict[str, Any]], cases: Counter[str]) -> str:
    """Devices by models: the fastest decode of each case."""
    tables = []
    for case in cases:
        best: dict[tuple[str, str], float] = {}
        for line in lines:
            if line["case"] == case and line["engine"][0].startswith("edgekit"):
                at = line["device"][0], line["model"][0]
                best[at] = max(best.get(at, 0.0), line["decode"][1])
        devices, models = (list(dict.fromkeys(at[i] for at in best)) for i in (0, 1))
        head = "".join(f"<th>{html.escape(model)}</th>" for model in models)
        body = ""
        for device in devices:
            cells = (
                f'<td data-label="{html.escape(model)}">{number(best[device, model])}</td>'
                if (device, model) in best
                else f'<td data-label="{html.escape(model)}">not measured</td>'
                for model in models
            )
            body += f"<tr><th>{html.escape(device)}</th>{''.join(cells)}</tr>"
        tables.append(
            f'<table class="cards" data-case="{html.escape(case)}"><thead><tr><th>device</th>{head}</tr>'
            f"</thead><tbody>{body}</tbody></table>"
        )
    return "".join(tables)


def _curves(results: Sequence[tuple[str, Document]]) -> list[str]:
    """Speed, and where devices tell it heat, over minutes."""
    drawn = []
    for title, member, unit in (
        ("decoding without a pause, tokens/s", "decode_tok_s", "tokens/s"),
        ("temperature meanwhile, °C", "temperature_c", "°C"),
    ):
        lines = {}
        for name, result in results:
            for engine, points in result["sustained"].items():
                line = [(point["minute"], point[member]) for point in points if point[member] is not None]
                label = f"{device_name(result)}: {result['model']['name']}, {engine}"
                lines[label if label not in lines else f"{label} ({name})"] = line
        if any(lines.values()):
            drawn.append(curves(title, lines, unit, "minutes"))
    return drawn
