from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import _options, _output

if TYPE_CHECKING:
    from edgekit.conversion import ConvertReport


class _Convert(click.Command):
    """Its help ends with the formats there are, which are found when it is asked for."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from edgekit.conversion import schemes

        with formatter.section("Formats, and their schemes (the first is the default; of edge see above)"):
            formatter.write_dl([(name, ", ".join(known)) for name, known in schemes().items()])


@click.command(cls=_Convert)
@click.argument("checkpoint")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Output [default: NAME-SCHEME.edge here].",
)
@click.option(
    "--format",
    "format_name",
    default="edge",
    show_default=True,
    metavar="NAME",
    help="One of the formats below.",
)
@click.option("--scheme", metavar="NAME", help="One of the schemes below [default: see above].")
@click.option(
    "--target-size",
    type=_options.Size(),
    metavar="SIZE",
    help="A mix of schemes that fills so many bytes, such as 90MB.",
)
@click.option(
    "--target-bpw",
    type=click.FloatRange(0, min_open=True),
    metavar="BITS",
    help="The same in bits of the file for each weight.",
)
@click.option(
    "--opset-only",
    is_flag=True,
    help="ONNX of standard operators alone (opset 24), in constant memory: sinks and a ring.",
)
@click.option(
    "--exporter",
    metavar="NAME",
    help="optimum: ONNX of architectures that edgekit does not know, written by Hugging Face's exporter.",
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Compare the result with the checkpoint."
)
@click.option(
    "--calibrate",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="TEXT",
    help="Choose codes by what the model does with this text, plain or JSONL; may be repeated.",
)
@click.option(
    "--no-calibration", is_flag=True, help="Take the codes nearest to the weights, and run nothing."
)
@click.option(
    "--seed", default=0, show_default=True, metavar="S", help="Says which parts of long texts are read."
)
@click.option(
    "--tune",
    type=click.IntRange(0),
    default=0,
    metavar="TOKENS",
    help="Then train scales on so many tokens of that text, by torch (edgekit[train]).",
)
@click.option(
    "--companion",
    metavar="FORMAT[:SCHEME]",
    help="OUT is a folder: an .edge package and the same model in coreml or coreai beside it.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, or why it cannot be, and stop.")
@_options.threads_option
@_options.json_option
def command(
    checkpoint: str,
    out: Path | None,
    format_name: str,
    scheme: str | None,
    target_size: int | None,
    target_bpw: float | None,
    opset_only: bool,
    exporter: str | None,
    verify: bool,
    calibrate: tuple[Path, ...],
    no_calibration: bool,
    seed: int,
    tune: int,
    companion: str | None,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Turn a checkpoint into a verified package.

    CHECKPOINT is a directory with config.json and safetensors files, a .gguf file, or a Hugging Face id
    (org/name, org/name@revision). It may be quantized already: MLX, GGUF, AWQ, GPTQ and compressed-tensors
    are read, and their codes kept where the output can hold them.

    q8 keeps nearly all of a model's first choices; q4 halves its size and is the faster, and costs a small
    model more than a large one (docs/quality.md): an .edge package has q5 below a billion weights, else q4,
    and q8 where the checkpoint is quantized, whose codes it keeps. Embedding and output have 6 bits at least;
    q4_block32 and its like are that layout everywhere.

    Codes of less than 8 bits are chosen by what the model does with a text: of a short built-in one, which
    columns of its weights matter; of thousands of tokens of yours (--calibrate, minutes), how each code makes
    up for the errors of those before it. --tune trains scales on more of it, which takes torch and longer. A
    calibration that was interrupted goes on where it was.

    What is not supported is refused before any work (exit 3). The result is compared with the checkpoint in
    the engine that will run it; the figures go into the package, and a broken one is never left behind (exit
    5).

    \b
    edgekit convert HuggingFaceTB/SmolLM2-360M-Instruct
    edgekit convert ./checkpoint -o model.edge --scheme q8
    edgekit convert model-Q4_0.gguf --format mlx
    edgekit convert ./checkpoint --calibrate novel.txt --calibrate chats.jsonl
    edgekit convert ./checkpoint -o folder --companion coreml:neural_engine_q4
    edgekit convert ./checkpoint --dry-run --json
    """
    from edgekit.companion import convert_pair
    from edgekit.conversion import convert

    if calibrate and no_calibration:
        raise click.UsageError("--calibrate and --no-calibration exclude each other; give one")
    if companion and (format_name != "edge" or out is None or dry_run):
        raise click.UsageError("--companion fills a folder: give -o, and neither --format nor --dry-run")
    warned: list[str] = []

    def warn(text: str) -> None:
        warned.append(text)
        _output.warning(text)

    with _output.progress() as progress:
        options: dict[str, Any] = {
            "scheme": scheme,
            "target_bytes": target_size,
            "target_bpw": target_bpw,
            "opset_only": opset_only,
            "exporter": exporter,
            "verify": verify,
            "dry_run": dry_run,
            "calibrate": None if no_calibration else calibrate,
            "seed": seed,
            "tune": tune,
            "threads": threads,
            "progress": progress,
            "warn": warn,
        }
        if companion and out:
            kind, _, its_scheme = companion.partition(":")
            reports = [*convert_pair(checkpoint, out, kind, its_scheme or None, **options)]
        else:
            reports = [convert(checkpoint, out, format=format_name, **options)]
    for report in reports:
        for text in report.warnings:
            if text not in warned:
                _output.warning(text)
    if as_json:
        found = reports[0].to_json()
        _output.emit_json(found | {"companion": reports[1].to_json()} if companion else found)
        return
    for report in reports:
        _tell(report)
    if not dry_run and format_name == "edge":
        _output.note(f'\nhint: edgekit run {reports[0].path} "Once upon a time"')


def _tell(report: ConvertReport) -> None:
    parameters = f" {_output.quantity(report.n_parameters)} parameters," if report.n_parameters else ""
    line = f"{report.path}: {report.model_type},{parameters} {report.scheme}"
    if report.bytes is not None and report.bits_per_weight is not None:
        line += f", {_output.size(report.bytes)}, {report.bits_per_weight:.2f} bits per weight"
    click.echo(f"{line} (would be written)" if report.dry_run else line)
    if len(set((report.grids or {}).values())) > 1:
        click.echo(_mix(report.grids or {}))
    if estimate := report.preflight:
        click.echo(
            f"memory: {_output.size(estimate.memory_bytes)} with a cache of {estimate.tokens} tokens\n"
            f"time: about {max(estimate.seconds, 1):.0f} s of quantizing on this machine, and "
            f"{max(estimate.verify_seconds, 1):.0f} s of verifying\n"
            f"weights: changed by {estimate.weight_error:.2%} (RMS)"
        )
    if report.calibration:
        click.echo(f"codes: {_output.calibration(report.calibration)}")
    if report.engine:
        click.echo(_output.engine(report.engine))
    if report.quality:
        click.echo(f"quality: {_output.quality(asdict(report.quality))} against the checkpoint")
        if report.quality.is_poor:
            _output.warning(_output.poor_quality(report.better))


def _mix(grids: dict[str, str]) -> str:
    """Which matrices lie on which grid: "q6_block32  embed, 30 v, 12 down"."""
    parts: dict[str, Counter[str]] = {}
    for name, grid in grids.items():
        parts.setdefault(grid, Counter())[name.rpartition(".")[2]] += 1
    rows = [
        (f"  {grid}", ", ".join(part if count == 1 else f"{count} {part}" for part, count in counts.items()))
        for grid, counts in parts.items()
    ]
    return _output.table(rows)
