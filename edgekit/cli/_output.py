"""What verbs say, and where: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from edgekit.errors import EdgekitError
from edgekit.units import quantity as quantity
from edgekit.units import size as size

if TYPE_CHECKING:
    from edgekit.verification import BetterScheme, EngineCheck

Progress = Callable[[str, int, int], None]


def emit_json(document: Mapping[str, Any]) -> None:
    """The one document of `--json`: a line in a pipe, indented on a terminal; no number JSON lacks."""
    click.echo(json.dumps(_finite(document), indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def note(text: str) -> None:
    click.echo(text, err=True)


def warning(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def error(error: EdgekitError) -> None:
    click.echo(f"error: {error}", err=True)
    if error.hint:
        click.echo(f"\nhint: {error.hint}", err=True)


def error_json(error: EdgekitError) -> dict[str, Any]:
    document = {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    extra = {"hint": error.hint, "needed_bytes": getattr(error, "needed_bytes", None)}
    return document | {name: value for name, value in extra.items() if value is not None}


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns aligned by spaces, those in `right` to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def engine(check: EngineCheck) -> str:
    """What an engine was found to compute, in one line."""
    if check.error is None or check.limit is None:
        return f"not verified in its engine: {check.not_run}"
    return (
        f"verified: {check.engine} computes what the file says "
        f"(error {check.error:.2g} of at most {check.limit:.2g}, on {check.tokens} tokens)"
    )


def poor_quality(better: BetterScheme | None) -> str:
    """What to do about a package whose answers are noticeably other ones."""
    if better is None:
        return "its answers will often differ from the checkpoint's; no scheme of this format is nearer"
    return (
        f"its answers will often differ from the checkpoint's; --scheme {better.scheme} is nearer "
        f"({size(better.bytes)})"
    )


def quality(card: Mapping[str, Any]) -> str:
    """A quality card in one line."""
    return (
        f"same first choice {card['top1_agreement']:.1%}, "
        f"KL {card['kl_mean']:.2g} (99%: {card['kl_p99']:.2g}), "
        f"perplexity × {card['ppl_ratio']:.4f} on {card['tokens']} tokens"
    )


def calibration(record: Mapping[str, Any]) -> str:
    """By which text codes were chosen, and how, in one line."""
    line = f"by {record['algorithm']} on {record['tokens']} tokens of {', '.join(record['texts'])}"
    if tuned := record.get("tuned"):
        line += (
            f"; scales tuned on {tuned['tokens']}: KL {tuned['kl_before']:.2g} -> {tuned['kl_after']:.2g} "
            "on parts held out"
        )
    return line


@contextmanager
def progress() -> Iterator[Progress]:
    """A bar for each task, on a terminal, with a wheel and a clock that turn while nothing else moves;
    elsewhere nothing. A task whose size is not known (0) is over when the next one begins. What follows ": "
    in a task's name is how it stands.
    """
    if not sys.stderr.isatty():
        yield lambda task, done, total: None
        return
    with ExitStack() as stack:
        bars: Any = None
        tasks: dict[str, Any] = {}

        def report(task: str, done: int, total: int) -> None:
            nonlocal bars
            if bars is None:  # nothing is shown, or imported, before there is something to show
                bars = stack.enter_context(_bars())
            name = task.partition(": ")[0]
            if name not in tasks:
                for past in bars.tasks:
                    bars.update(past.id, visible=past.total is not None)
                tasks[name] = bars.add_task(task, total=None)
            bars.update(tasks[name], description=task, completed=done, total=total or None)

        yield report


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return value
