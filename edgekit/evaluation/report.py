"""What an evaluation found, as text for a terminal, as one HTML page, and as a drawing of KL over bytes."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from edgekit.evaluation.bootstrap import Interval
from edgekit.evaluation.divergence import Evaluation
from edgekit.evaluation.tasks import TaskResult
from edgekit.page import COLOURS, Table, figure, page

WORDS = {
    "MB": "all bytes of the file or folder, in millions",
    "bits": "those bytes by parameter, times 8",
    "perplexity": "how much the text surprises the package; beside it the reference's",
    "KL": "Kullback–Leibler divergence of the package's distribution from the reference's, in nats, a mean "
    "over positions: 0 when both always expect the same",
    "99%": "the divergence at the 99th hundredth: how bad the bad moments are",
    "same first": "how often both hold the same token for the likeliest",
    "flips": "how often one of them, and not the other, expects the text's own next token first",
    "Δp": "change of the probability of the text's own next token: mean, and root of the mean square",
    "lost, gained": "tasks that the reference solves and the package does not, and the reverse",
    "0.12 (0.10–0.14)": "a figure and its 95% interval: pieces of the text, or tasks, drawn with replacement",
}
_Row = TypeVar("_Row", Evaluation, TaskResult)
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 24, 50
FLOOR = 1e-4  # nothing is told below it


_COLUMNS: dict[str, Callable[[Evaluation], str]] = {
    "model": lambda each: Path(each.model).name,
    "engine": lambda each: each.engine,
    "MB": lambda each: f"{each.size_bytes / 1e6:.1f}",
    "bits": lambda each: f"{each.bits_per_weight:.2f}",
    "perplexity": lambda each: _with(each.ppl, each.ppl_interval, ".2f"),
    "× reference's": lambda each: _with(each.ppl_ratio, each.ppl_ratio_interval, ".4f"),
    "KL": lambda each: _with(each.kl_mean, each.kl_mean_interval, ".4f"),
    "median": lambda each: f"{each.kl_median:.4f}",
    "99%": lambda each: _with(each.kl_p99, each.kl_p99_interval, ".3f"),
    "99.9%": lambda each: f"{each.kl_p999:.3f}",
    "max": lambda each: f"{each.kl_max:.2f}",
    "same first": lambda each: _with(each.same_first, each.same_first_interval, ".1%"),
    "flips": lambda each: f"{each.flips:.1%}",
    "Δp": lambda each: _with(each.dp_mean, each.dp_mean_interval, ".2%"),
    "Δp RMS": lambda each: _with(each.dp_rms, each.dp_rms_interval, ".2%"),
}
NARROW = ("model", "MB", "bits", "× reference's", "KL", "99%", "same first", "flips")


def divergence_table(found: Sequence[Evaluation], columns: Sequence[str] = tuple(_COLUMNS)) -> Table:
    """The smallest first; the first row is of headings."""
    rows = [[_COLUMNS[column](each) for column in columns] for each in by_bytes(found)]
    return [list(columns), *rows]


def task_table(found: Sequence[TaskResult]) -> Table:
    rows = [["model", "engine", "MB", "solved", "accuracy", "lost", "gained"]]
    for each in by_bytes(found):
        rows.append(
            [
                Path(each.model).name,
                each.engine,
                f"{each.size_bytes / 1e6:.1f}",
                f"{sum(each.solved)} of {each.tasks}",
                _with(each.accuracy, each.accuracy_interval, ".1%"),
                str(each.lost),
                str(each.gained),
            ]
        )
    return rows


def html_page(
    reference: str | None, texts: Sequence[Evaluation], tasks: Sequence[TaskResult], command: str
) -> str:
    facts = [["reference", reference or "none"]]
    tables = []
    if texts:
        facts.append(
            ["text", f"{texts[0].tokens} positions; the reference's perplexity {texts[0].ppl_reference:.3f}"]
        )
        tables.append(("text", divergence_table(texts)))
    if tasks:
        facts.append(["tasks", str(tasks[0].tasks)])
        tables.append(("tasks", task_table(tasks)))
    return page(
        f"{Path(reference or tasks[0].model).name}: edgekit eval",
        facts=facts,
        command=command,
        figures=[figure("KL over bytes", kl_over_bytes(texts))] if texts else [],
        tables=tables,
        words=WORDS,
    )


def kl_over_bytes(found: Sequence[Evaluation]) -> str:
    """An SVG: a point for each model, and a line for each engine through those that none of its own beats at
    fewer bytes. Divergences on a logarithmic axis, from `FLOOR` upwards.
    """
    points = {each.model: (each.size_bytes / 1e6, max(each.kl_mean, FLOOR)) for each in found}
    sizes, divergences = zip(*points.values(), strict=True)
    marks = [factor * 10.0**power for power in range(-5, 3) for factor in (1, 2, 5)]
    low = max(mark for mark in marks if mark <= min(divergences))
    high = min(mark for mark in marks if mark > max(divergences))
    least, most = 0.9 * min(sizes), 1.05 * max(sizes)

    def at(size: float, kl: float) -> tuple[float, float]:
        x = LEFT + (size - least) / (most - least) * (WIDTH - LEFT - RIGHT)
        return x, TOP + math.log(high / kl) / math.log(high / low) * (HEIGHT - TOP - BOTTOM)

    parts = ['<rect width="100%" height="100%" fill="white"/>']
    for mark in marks:
        if low <= mark <= high:
            _, y = at(least, mark)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    steps = (factor * 10.0**power for power in range(-2, 6) for factor in (1, 2, 5))
    step = next(step for step in steps if (most - least) / step < 8)
    for i in range(math.ceil(least / step), math.floor(most / step) + 1):
        x, y = at(i * step, low)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{i * step:g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">KL from the reference, nats, over megabytes</text>')
    for row, engine in enumerate(sorted({each.engine for each in found})):
        colour = COLOURS[row % len(COLOURS)]
        parts.append(f'<text x="{WIDTH - RIGHT + 20}" y="{TOP + 16 * row}" fill="{colour}">{engine}</text>')
        line, best = [], math.inf
        for each in by_bytes([each for each in found if each.engine == engine]):
            x, y = at(*points[each.model])
            label = html.escape(Path(each.model).stem)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            parts.append(f'<text x="{x + 7:.1f}" y="{y - 5:.1f}" fill="{colour}">{label}</text>')
            if each.kl_mean < best:
                best = each.kl_mean
                line.append(f"{x:.1f},{y:.1f}")
        parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#222">{"".join(parts)}</svg>\n'
    )


def by_bytes(found: Sequence[_Row]) -> list[_Row]:
    return sorted(found, key=attrgetter("size_bytes"))


def _with(value: float, interval: Interval, form: str) -> str:
    return f"{value:{form}} ({interval[0]:{form}}–{interval[1]:{form}})"
