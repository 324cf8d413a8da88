"""A result as text for a terminal, and as one HTML page that needs nothing else."""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from typing import Any

from edgekit.bench.protocol import OURS
from edgekit.page import COLOURS, Table, curves, figure, page
from edgekit.units import number, quantity, size

FLAGS = {
    "moved": "the device's clock, memory bandwidth or peak changed by more than a tenth during the run",
    "wrong": "the model did not compute the package's golden vectors: its speed says nothing",
    "throttled": "the end of the long run is more than a tenth slower than its beginning",
    "charging": "the cable was in, which heats the battery and hides what it gives",
    "hot_start": "the device was still warmer than asked when a measurement began",
    "hidden": "the page or app that measured was not in front all the time, where systems slow it down",
}
WORDS = {
    "prefill": "reading a prompt: its tokens over the time to the first token of the answer",
    "decode": "writing an answer: tokens a second after the first, one by one",
    "ttft": "time to the first token, in milliseconds",
    "depth": "tokens that were in the cache before the prompt",
    "of peak": "the multiplications of a prompt a second, of what the processor's dot-product unit could do",
    "of read": "the bytes a token needs (weights, and its part of the cache) times tokens a second, of the "
    "bandwidth at which memory was read; above 100% the model lies in a cache",
    "cold, warm": "whether the model's file had to come from the disk, or was in memory already",
    "in files": "memory that maps files: shared, and given back when memory is short",
    "anonymous": "memory of the process's own; before opening: what it held without a model",
    "moved": "the machine's clock, bandwidth or peak changed by more than a tenth during the run",
    "4.5 (4.1–4.9)": "a median, the least and the greatest; the line across a bar shows them too",
}


def text_tables(result: dict[str, Any]) -> list[tuple[str, Table]]:
    """Title and rows, the first of them headings."""
    tables = [("", _speed(result))]
    if result["loads"]:
        tables.append(("opening, and the first token of a short prompt", _loads(result)))
    memory = _memory(result)
    if len(memory) > 1:
        tables.append(("memory, MiB", memory))
    ratios = _ratios(result)
    if len(ratios) > 1:
        tables.append((f"{OURS} over the best setting of each peer", ratios))
    return tables


def machine_line(result: dict[str, Any]) -> str:
    """The machine in one line: "AMD EPYC, 2 threads, 3.56 GHz, reads 29.4 GB/s, …"."""
    facts = result["device"]
    parts = [facts["name"] or facts["cpu"], f"{result['options']['threads']} threads"]
    if facts["clock_hz"] and facts["read_bytes_s"]:
        parts += [f"{facts['clock_hz'] / 1e9:.2f} GHz", f"reads {facts['read_bytes_s'] / 1e9:.1f} GB/s"]
    if facts["dot_macs_s"]:
        parts.append(f"{facts['dot_macs_s'] / 1e9:.0f} GMAC/s ({facts['dot_instruction']})")
    return ", ".join(parts)


def command(result: dict[str, Any]) -> str:
    """The command that measures the same again."""
    options, words = result["options"], ["edgekit", "bench", result["model"]["name"]]
    for name in ("prompts", "depths"):
        words += [f"--{name.removesuffix('s')}", ",".join(map(str, options[name]))]
    for name in ("decode", "threads", "kv", "repetitions"):
        words += [f"--{name}", str(options[name])]
    if options["sustained_minutes"]:
        words += ["--sustained", f"{options['sustained_minutes']:g}"]
    if result["device"]["kind"] != "host":
        words += ["--device", result["device"]["kind"], "--cool", f"{options['start_celsius']:g}"]
    for peer in {
        f"{e['engine']}={e['model']}": None for e in result["engines"].values() if e["engine"] != OURS
    }:
        words += ["--peer", peer]
    return shlex.join(words)


def warnings(result: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    found = [
        f"{name} moved by {share:.0%} during the run: the machine was busy or slowed down; measure again"
        for name, share in result["gate"]["moved"].items()
    ]
    found += [f"{flag}: {FLAGS[flag]}" for flag in result["flags"] if flag != "moved"]
    ours = quantity(result["model"]["n_parameters"])
    for label, engine in result["engines"].items():
        if engine.get("other_model"):
            count = engine.get("n_parameters")
            theirs = f"{quantity(count)} parameters" if count else f"{engine['file_bytes']:,} bytes"
            found.append(
                f"{label} ran ANOTHER MODEL: {engine['model']} has {theirs}, ours {ours} parameters; these "
                "figures say nothing about the engines: give --peer the same checkpoint"
            )
    if result["device"]["kind"] == "host" and not result["gate"]["samples"]:
        found.append(
            "clock, read bandwidth and dot-product peak were not measured: build edgekit_bench (make bench)"
        )
    if result["options"]["repetitions"] < 5:
        found.append(f"{result['options']['repetitions']} repetitions say little; take 5 or more")
    return found


def html_page(result: dict[str, Any]) -> str:
    """The whole report, plots inline, no scripts, nothing fetched."""
    rows = result["rows"]
    engines = list(result["engines"])
    plots = [
        _bars(f"decode, tokens/s, at depth {depth}", _select(rows, depth), "decode_tok_s", engines)
        + _bars(f"prefill, tokens/s, at depth {depth}", _select(rows, depth), "prefill_tok_s", engines)
        for depth in result["options"]["depths"]
    ]
    if result["sustained"]:
        minutes = {
            name: [(point["minute"], point["decode_tok_s"]) for point in result["sustained"].get(name, [])]
            for name in engines
        }
        plots.append(curves("sustained decode, tokens/s over minutes", minutes, "tokens/s", "minutes"))
    return page(
        f"{result['model']['name']}: edgekit bench",
        facts=_facts(result),
        command=command(result),
        warnings=warnings(result),
        figures=plots,
        tables=[
            *((title or "speed", rows) for title, rows in text_tables(result)),
            ("engines", _engines(result)),
        ],
        words=WORDS,
    )


# ---- tables ------------------------------------------------------------------------------------------------


def _speed(result: dict[str, Any]) -> Table:
    table = [["engine", "depth", "prompt", "prefill tok/s", "of peak", "ttft ms", "decode tok/s", "of read"]]
    for row in result["rows"]:
        table.append(
            [
                row["engine"] + _marked(row),
                str(row["depth"]),
                str(row["prompt"]),
                _spread(row, "prefill_tok_s"),
                _percent(row["dot_peak_fraction"]),
                _spread(row, "ttft_ms"),
                _spread(row, "decode_tok_s"),
                _percent(row["bandwidth_fraction"]),
            ]
        )
    return _told(table)


def _told(table: Table) -> Table:
    """Without the columns that nothing is known for."""
    kept = [i for i in range(len(table[0])) if len(table) == 1 or any(row[i] for row in table[1:])]
    return [[row[column] for column in kept] for row in table]


def _marked(row: dict[str, Any]) -> str:
    return " (ANOTHER MODEL)" if row.get("other_model") else ""


def _facts(result: dict[str, Any]) -> Table:
    """What was measured, on what, how often."""
    model, device, options = result["model"], result["device"], result["options"]
    scheme = f", {model['scheme']}" if "scheme" in model else ""
    cache = "chosen by the engine" if options["kv"] == "auto" else options["kv"]
    return [
        [
            "model",
            f"{model['name']}: {model['model_type']}, {quantity(model['n_parameters'])} parameters{scheme}",
        ],
        ["machine", machine_line(result)],
        [
            "system",
            f"{device['system']}, {device['architecture']}, "
            + (f"{size(device['memory_bytes'])} of memory" if device["memory_bytes"] else "memory not told"),
        ],
        ["repetitions", f"{options['repetitions']}, of all engines in turn, in random order"],
        ["keys and values", cache],
        ["golden vectors", _golden(result["gate"]["golden"])],
        ["energy", _energy(result["energy"])],
        ["measured", result["created"]],
    ]


def _golden(golden: dict[str, Any] | None) -> str:
    if golden is None:
        return "none in the package"
    return f"{golden['positions']} positions " + ("agree" if golden["passed"] else "DO NOT agree")


def _energy(energy: dict[str, Any]) -> str:
    if energy["joules_per_token"] is None:
        return f"not known: {energy['reason']}"
    return f"{energy['joules_per_token']:.3f} J a token ({energy['method']})"


def _loads(result: dict[str, Any]) -> Table:
    table = [["engine", "files", "open ms", "open + first token ms"]]
    return table + [
        [row["engine"], row["cache"], _spread(row, "load_ms"), _spread(row, "open_to_first_token_ms")]
        for row in result["loads"]
    ]


def _memory(result: dict[str, Any]) -> Table:
    table = [["engine", "in files", "anonymous", "of them before opening", "keys and values", "peak"]]
    for label, engine in result["engines"].items():
        memory, before = engine.get("memory"), engine.get("memory_before") or {}
        if memory:
            cells = (
                memory["file_bytes"],
                memory["anonymous_bytes"],
                before.get("anonymous_bytes"),
                engine.get("cache_bytes"),
                memory["peak_bytes"],
            )
            table.append([label, *("" if cell is None else f"{cell / 2**20:.1f}" for cell in cells)])
    return _told(table)


def _ratios(result: dict[str, Any]) -> Table:
    table = [["peer", "depth", "prompt", "prefill", "decode"]]
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        engine = result["engines"][row["engine"]]["engine"]
        groups.setdefault((engine, row["depth"], row["prompt"]), []).append(row)
    for (engine, depth, prompt), rows in groups.items():
        ours = groups.get((OURS, depth, prompt))
        if engine == OURS or not ours:
            continue
        # Several models may be one peer's: those of another size are no measure for ours.
        rows = [row for row in rows if not row.get("other_model")]
        cells = [
            f"{ours[0][name] / max(row[name] for row in rows):.2f}×" if rows else "another model"
            for name in ("prefill_tok_s", "decode_tok_s")
        ]
        table.append([engine, str(depth), str(prompt), *cells])
    return table


def _engines(result: dict[str, Any]) -> Table:
    table = [["engine", "version", "model", "parameters", "bits per weight", "instructions", "driver"]]
    for label, engine in result["engines"].items():
        count = engine.get("n_parameters")
        cells = [engine["version"], engine["model"], quantity(count) if count else "not told"]
        cells += [f"{engine['bits_per_weight']:.2f}", engine.get("isa", ""), engine["driver"]]
        table.append([label, *cells])
    return table


def _spread(row: dict[str, Any], name: str) -> str:
    return f"{number(row[name])} ({number(row['min'][name])}–{number(row['max'][name])})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


# ---- HTML --------------------------------------------------------------------------------------------------


def _select(rows: Sequence[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["depth"] == depth]


def _bars(title: str, rows: Sequence[dict[str, Any]], metric: str, engines: Sequence[str]) -> str:
    """Medians, with a line from least to greatest: boxes as wide as the page lets them be."""
    greatest = max((row["max"][metric] for row in rows), default=1.0) or 1.0
    parts = []
    for row in rows:
        colour = COLOURS[engines.index(row["engine"]) % len(COLOURS)]
        length, low, high = (
            100 * value / greatest for value in (row[metric], row["min"][metric], row["max"][metric])
        )
        label = html.escape(f"{row['engine']}, prompt {row['prompt']}{_marked(row)}")
        parts.append(
            f"<div class=label>{label}<strong>{number(row[metric])}</strong></div>"
            f'<div class=bar><i style="width:{length:.1f}%;background:{colour}"></i>'
            f'<s style="left:{low:.1f}%;width:{high - low:.1f}%"></s></div>'
        )
    return figure(title, "".join(parts))
