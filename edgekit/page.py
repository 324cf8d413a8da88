"""A report as one HTML page that needs nothing else: nothing is fetched."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")
TEMPLATE = Path(__file__).with_suffix(".html")

Table = list[list[str]]


def page(
    title: str,
    *,
    facts: Table,
    command: str,
    warnings: Sequence[str] = (),
    content: str = "",
    figures: Sequence[str] = (),
    tables: Sequence[tuple[str, Table]] = (),
    words: Mapping[str, str],
) -> str:
    """`facts` are rows that begin with their heading, `tables` have titles and begin with a row of headings,
    `content` and `figures` are HTML, `words` what the tables' words mean; `command` is what makes the page
    again.
    """
    parts = {
        "TITLE": html.escape(title),
        "COMMAND": html.escape(command),
        "FACTS": _table(facts, head=False),
        "WARNINGS": "".join(f"<p class=warning>{html.escape(text)}</p>" for text in warnings),
        "CONTENT": content,
        "FIGURES": "".join(figures),
        "TABLES": "".join(
            f"<h2>{html.escape(heading)}</h2><div class=scroll>{_table(rows)}</div>"
            for heading, rows in tables
        ),
        "WORDS": "".join(f"<dt>{word}</dt><dd>{meaning}</dd>" for word, meaning in words.items()),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace(f"@{name}@", value)
    return text


def figure(title: str, content: str) -> str:
    """A drawing, HTML, with its title above."""
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{content}</figure>"


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], y: str, x: str) -> str:
    """Lines over x in a drawing that stretches with the page; the words stand outside, so that they do not.
    Both axes begin at 0; `y` and `x` are units. Colours go by the place in `lines`; empty ones are left out.
    """
    points = [point for line in lines.values() for point in line]
    last = max((at for at, _ in points), default=1.0) or 1.0
    greatest = max((value for _, value in points), default=1.0) or 1.0
    drawn, names = [], []
    for (name, line), colour in zip(lines.items(), itertools.cycle(COLOURS), strict=False):
        if not line:
            continue
        path = " ".join(f"{100 * at / last:.2f},{100 * (1 - value / greatest):.2f}" for at, value in line)
        drawn.append(f'<polyline points="{path}" stroke="{colour}"/>')
        names.append(f'<span style="color:{colour}">{html.escape(name)}</span>')
    grid = "".join(f'<line x1="0" x2="100" y1="{at}" y2="{at}"/>' for at in (0, 25, 50, 75, 100))
    return figure(
        title,
        f"<div class=label>{' '.join(names)}<strong>{greatest:.4g}</strong></div>"
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img">{grid}{"".join(drawn)}</svg>'
        f"<div class=label>0 {y}, 0 {x}<strong>{last:.4g} {x}</strong></div>",
    )


def _table(rows: Table, *, head: bool = True) -> str:
    """The first row, or without `head` the first column, are headings."""
    lines = []
    for y, row in enumerate(rows):
        tags = ["th" if (y == 0 if head else x == 0) else "td" for x in range(len(row))]
        cells = (f"<{tag}>{html.escape(cell)}</{tag}>" for tag, cell in zip(tags, row, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"
