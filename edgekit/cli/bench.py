from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from edgekit.cli import _options, _output
from edgekit.errors import UsageError
from edgekit.in_place_of import check, in_place_of
from edgekit.units import number

METRIC_NAMES = {"prefill_tok_s": "prefill tok/s", "decode_tok_s": "decode tok/s", "ttft_ms": "ttft ms"}


class _Counts(click.ParamType[tuple[int, ...]]):
    """ "128,512"."""

    name = "counts"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(dict.fromkeys(int(part) for part in value.split(",")))
        except ValueError:
            counts = ()
        if not counts or min(counts) < self._least:
            self.fail(f"{value!r}: give numbers from {self._least}, separated by commas", param, ctx)
        return counts


class _Bench(click.Command):
    """`bench diff` and `bench report` are commands of their own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and (other := {"diff": diff, "report": report}.get(args[0])):
            return other.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_Bench)
@click.argument("model")
@click.option(
    "--prompt",
    "prompts",
    type=_Counts(1),
    default="128,512",
    show_default=True,
    metavar="N,…",
    help="Tokens of a prompt.",
)
@click.option(
    "--decode",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="N",
    help="Tokens decoded after the first.",
)
@click.option(
    "--depth",
    "depths",
    type=_Counts(0),
    default="0",
    show_default=True,
    metavar="N,…",
    help="Tokens in the cache before the prompt.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Of every engine; default: the processors there are, on a device what its engine chooses.",
)
@click.option(
    "--kv",
    type=click.Choice(["auto", "f32", "f16", "int8", "int4"]),
    default="auto",
    show_default=True,
    help="How we store keys and values; peers try their own ways.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="Of every measurement, interleaved.",
)
@click.option(
    "--peer",
    "wanted_peers",
    multiple=True,
    metavar="NAME[=MODEL]",
    help="Measure another engine beside; may be repeated.",
)
@click.option(
    "--sustained",
    "sustained_minutes",
    type=click.FloatRange(0),
    default=0,
    metavar="MINUTES",
    help="Then let each engine decode for so long.",
)
@click.option(
    "--device",
    metavar="KIND[:ADDRESS]",
    help="Measure elsewhere: adb[:SERIAL], browser[:[HOST:]PORT] or ios[:[HOST:]PORT].",
)
@click.option(
    "--cool",
    "start_celsius",
    type=click.FloatRange(0),
    default=35,
    show_default=True,
    metavar="CELSIUS",
    help="With --device: wait before each repetition until it is no warmer.",
)
@click.option(
    "--wait",
    "wait_minutes",
    type=click.FloatRange(0),
    default=15,
    show_default=True,
    metavar="MINUTES",
    help="With --device: how long to wait for that at most.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="F.json", help="Write the result.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path), metavar="F.html", help="Write a report with plots."
)
@_options.json_option
def command(
    model: str,
    wanted_peers: tuple[str, ...],
    device: str | None,
    start_celsius: float,
    wait_minutes: float,
    out: Path | None,
    page: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure speed and memory, beside other engines and beside what the machine can do.

    MODEL is a .edge file. Each engine runs in a process of its own; repetitions of all of them alternate in
    random order, and what is printed is their median, with the least and the greatest. A peer's MODEL is the
    same checkpoint in its format, by default beside MODEL (m.edge: m.gguf, m.pte, m.litertlm,
    m-onnx, m-mlx).

    `edgekit bench diff A.json B.json` compares two results of --out, `edgekit bench report *.json -o
    page.html` makes one page of many; each has a --help of its own.

    With --device another device measures our engine: an Android phone through adb, which is sent the
    program and the model once; a browser, or the app of samples/apple/Bench, which fetch the model from
    here. What they show of heat, battery and power is in the result; so is why a figure is missing.

    \b
    edgekit bench model.edge
    edgekit bench model.edge --device adb --sustained 10 --out phone.json
    edgekit bench model.edge --kv int8 --depth 0,4096 --out result.json --html report.html
    edgekit bench model.edge --peer llama_cpp=model.gguf --peer onnxruntime_genai=model-onnx
    """
    from edgekit import hub
    from edgekit.bench import devices, plan, protocol, recording
    from edgekit.bench import report as reports

    for target in filter(None, (out, page)):
        check(target)
    if given["threads"] is None:
        del given["threads"]
    if device is not None and wanted_peers:
        raise UsageError("--peer runs here alone; with --device our own engine is measured")
    with _output.progress() as progress:
        path = hub.resolve(model, progress)
        if device is None:
            result = protocol.run(path, protocol.Options(**given), wanted_peers, progress)
        else:
            record, address = devices.find(device)
            options = protocol.Options(**{"threads": 0, **given})
            wanted = plan.make(path, options, start_celsius, wait_minutes)
            result = recording.result_of(record(path, wanted, address, progress))
    if out is not None:
        _write(out, json.dumps(result, indent=1))
    if page is not None:
        _write(page, reports.html_page(result))
    for text in reports.warnings(result):
        _output.warning(text)
    if as_json:
        _output.emit_json(result)
        return
    click.echo(reports.machine_line(result))
    for title, rows in reports.text_tables(result):
        click.echo(f"\n{title}".rstrip())
        click.echo(_output.table(rows, right=range(1, len(rows[0]))))


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Compare even though the devices differ, or moved during a run.")
@_options.json_option
def diff(a: Path, b: Path, force: bool, as_json: bool) -> None:
    """Compare two results of `edgekit bench --out`: B over A, and the interval that holds the ratio in 95 of
    100 cases.

    Refused (exit 2) when the devices differ, or when clock or bandwidth moved by more than a tenth during a
    run or between them.
    """
    from edgekit.bench import comparison, result

    before, after = result.read(a), result.read(b)
    rows = comparison.compare(before, after, force=force)
    if force:
        for text in comparison.obstacles(before, after):
            _output.warning(text)
    if as_json:
        _output.emit_json({"rows": rows})
        return
    table = [["engine", "depth", "prompt", "figure", "A", "B", "B / A", "95%"]]
    for row in rows:
        table.append(
            [
                row["engine"],
                str(row["depth"]),
                str(row["prompt"]),
                METRIC_NAMES[row["metric"]],
                number(row["a"]),
                number(row["b"]),
                f"{row['ratio']:.3f}",
                f"{row['low']:.3f}–{row['high']:.3f}",
            ]
        )
    click.echo(_output.table(table, right=(1, 2, 4, 5, 6, 7)))


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="F.json …")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="F.html", help="The page to write."
)
def report(results: tuple[Path, ...], out: Path) -> None:
    """One page of many results: devices and models, every measurement to filter and sort, curves.

    Results are those of `edgekit bench --out`, and files that a phone or a browser saved. The page is one
    file, and needs no server.
    """
    from edgekit.bench import board, result

    check(out)
    read = [(path.name, result.read(path)) for path in results]
    names = shlex.join(path.name for path in results)
    _write(out, board.html_page(read, f"edgekit bench report {names} -o {shlex.quote(out.name)}"))
    _output.note(f"{out}: {len(read)} result{'s' if len(read) > 1 else ''}")


def _write(path: Path, text: str) -> None:
    with in_place_of(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
