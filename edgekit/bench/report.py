"""A result as text for a terminal, and as one HTML page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.bench.protocol import OURS

COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")
TEMPLATE = Path(__file__).with_name("report.html")

Table = list[list[str]]


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
    facts = result["machine"]
    parts = [facts["cpu"], f"{result['options']['threads']} threads"]
    if facts["clock_hz"]:
        parts += [f"{facts['clock_hz'] / 1e9:.2f} GHz", f"reads {facts['read_bytes_s'] / 1e9:.1f} GB/s"]
    if facts["dot_macs_s"]:
        parts.append(f"{facts['dot_macs_s'] / 1e9:.0f} GMAC/s ({facts['dot_instruction']})")
    return ", ".join(parts)


def warnings(result: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    found = [
        f"{name} moved by {share:.0%} during the run: the machine was busy or slowed down; measure again"
        for name, share in result["machine"]["moved"].items()
    ]
    if not result["machine"]["samples"]:
        found.append(
            "clock, read bandwidth and dot-product peak were not measured: build edgekit_bench (make bench)"
        )
    if result["options"]["repetitions"] < 5:
        found.append(f"{result['options']['repetitions']} repetitions say little; take 5 or more")
    return found


def number(value: float) -> str:
    """Four digits, and no exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


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
        curves = {
            name: [(point["minute"], point["decode_tok_s"]) for point in points]
            for name, points in result["sustained"].items()
        }
        plots.append(_curves("sustained decode, tokens/s over minutes", curves, engines))
    parts = {
        "TITLE": html.escape(f"{result['model']['name']}: edgekit bench"),
        "MACHINE": html.escape(machine_line(result)),
        "CREATED": html.escape(result["created"]),
        "WARNINGS": "".join(f"<p class=warning>{html.escape(text)}</p>" for text in warnings(result)),
        "PLOTS": "".join(plots),
        "TABLES": "".join(
            f"<h2>{html.escape(title)}</h2>{_html_table(rows)}" for title, rows in text_tables(result)
        ),
        "ENGINES": _html_table(_engines(result)),
    }
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, value in parts.items():
        page = page.replace(f"@{name}@", value)
    return page


# ---- tables ------------------------------------------------------------------------------------------------


def _speed(result: dict[str, Any]) -> Table:
    table = [["engine", "depth", "prompt", "prefill tok/s", "of peak", "ttft ms", "decode tok/s", "of read"]]
    for row in result["rows"]:
        table.append(
            [
                row["engine"],
                str(row["depth"]),
                str(row["prompt"]),
                _spread(row, "prefill_tok_s"),
                _percent(row["dot_peak_fraction"]),
                _spread(row, "ttft_ms"),
                _spread(row, "decode_tok_s"),
                _percent(row["bandwidth_fraction"]),
            ]
        )
    return table


def _loads(result: dict[str, Any]) -> Table:
    table = [["engine", "files", "open ms", "open + first token ms"]]
    return table + [
        [row["engine"], row["cache"], _spread(row, "load_ms"), _spread(row, "open_to_first_token_ms")]
        for row in result["loads"]
    ]


def _memory(result: dict[str, Any]) -> Table:
    table = [["engine", "in files", "anonymous", "of them before opening", "keys and values", "peak"]]
    for label, engine in result["engines"].items():
        memory, before = engine.get("memory"), engine.get("memory_before")
        if memory and before:
            cells = (
                memory["file_bytes"],
                memory["anonymous_bytes"],
                before["anonymous_bytes"],
                engine.get("cache_bytes"),
                memory["peak_bytes"],
            )
            table.append([label, *("" if cell is None else f"{cell / 2**20:.1f}" for cell in cells)])
    return table


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
        cells = [
            f"{ours[0][name] / max(row[name] for row in rows):.2f}×"
            for name in ("prefill_tok_s", "decode_tok_s")
        ]
        table.append([engine, str(depth), str(prompt), *cells])
    return table


def _engines(result: dict[str, Any]) -> Table:
    table = [["engine", "version", "model", "bits per weight", "instructions", "driver"]]
    for label, engine in result["engines"].items():
        cells = [engine["version"], engine["model"], f"{engine['bits_per_weight']:.2f}"]
        table.append([label, *cells, engine.get("isa", ""), engine["driver"]])
    return table


def _spread(row: dict[str, Any], name: str) -> str:
    return f"{number(row[name])} ({number(row['min'][name])}–{number(row['max'][name])})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


# ---- HTML --------------------------------------------------------------------------------------------------


def _select(rows: Sequence[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["depth"] == depth]


def _html_table(rows: Table) -> str:
    head, *body = (
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for row, tag in zip(rows, ["th"] + ["td"] * len(rows), strict=False)
    )
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"


def _bars(title: str, rows: Sequence[dict[str, Any]], metric: str, engines: Sequence[str]) -> str:
    """Medians, with a line from least to greatest."""
    left, width, height = 350, 420, 24
    greatest = max((row["max"][metric] for row in rows), default=1.0) or 1.0
    parts = []
    for i, row in enumerate(rows):
        y = i * height + 4
        colour = COLOURS[engines.index(row["engine"]) % len(COLOURS)]
        length, low, high = (
            width * value / greatest for value in (row[metric], row["min"][metric], row["max"][metric])
        )
        label = html.escape(f"{row['engine']}, prompt {row['prompt']}")
        parts.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{label}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="16" fill="{colour}"/>'
            f'<line x1="{left + low:.1f}" x2="{left + high:.1f}" y1="{y + 8}" y2="{y + 8}" class="spread"/>'
            f'<text x="{left + high + 6:.1f}" y="{y + 13}">{number(row[metric])}</text>'
        )
    size = f'width="{left + width + 80}" height="{len(rows) * height + 8}"'
    return f"<h3>{html.escape(title)}</h3><svg {size} role=img>{''.join(parts)}</svg>"


def _curves(title: str, curves: dict[str, list[tuple[float, float]]], engines: Sequence[str]) -> str:
    left, top, width, height = 70, 12, 640, 220
    points = [point for curve in curves.values() for point in curve]
    last = max((x for x, _ in points), default=1.0) or 1.0
    greatest = max((y for _, y in points), default=1.0) or 1.0
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + height * (1 - share)
        parts.append(
            f'<text x="{left - 6}" y="{y:.0f}" text-anchor="end">{number(greatest * share)}</text>'
            f'<line x1="{left}" x2="{left + width}" y1="{y:.0f}" y2="{y:.0f}" class="grid"/>'
        )
    parts.append(
        f'<text x="{left + width}" y="{top + height + 18}" text-anchor="end">{last:.3g} minutes</text>'
    )
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[engines.index(name) % len(COLOURS)]
        path = " ".join(
            f"{left + width * x / last:.1f},{top + height * (1 - y / greatest):.1f}" for x, y in curve
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{left + 8}" y="{top + height - 8 - 16 * i}" fill="{colour}">{html.escape(name)}</text>'
        )
    size = f'width="{left + width + 20}" height="{top + height + 28}"'
    return f"<h3>{html.escape(title)}</h3><svg {size} role=img>{''.join(parts)}</svg>"
