from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli import _options, _output


@click.command()
@click.argument("teacher")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Directory to write."
)
@click.option("--text", multiple=True, metavar="FILE", help="To learn from: text, or JSONL; may be repeated.")
@click.option("--held-out", metavar="FILE", help="A text to measure with, which is not learned from.")
@click.option(
    "--vocabulary",
    metavar="SCRIPT,…",
    help="Keep tokens written in these scripts (latin,cyrillic); or 'text': those that --text has.",
)
@click.option(
    "--vocabulary-size",
    type=click.IntRange(1),
    metavar="N",
    help="Keep the N most frequent tokens of --text.",
)
@_options.json_option
def command(teacher: str, out: Path, as_json: bool, **options: Any) -> None:
    """Make a smaller checkpoint that behaves like a larger one.

    TEACHER is a directory with config.json and safetensors files, a .gguf file, or a Hugging Face id. The
    student is an ordinary Hugging Face checkpoint: `edgekit convert` packs it.

    \b
    edgekit distill google/gemma-3-270m-it -o gemma-latin --vocabulary latin
    edgekit distill ./checkpoint -o small --vocabulary latin --vocabulary-size 64000 --text corpus.txt
    """
    from edgekit.distillation import distill

    given = {name: value for name, value in options.items() if value not in (None, ())}
    with _output.progress() as progress:
        report = distill(teacher, out, progress=progress, **given)
    if as_json:
        _output.emit_json(report.to_json())
        return
    less = 1 - report.n_parameters / report.n_parameters_teacher
    click.echo(
        f"{report.path}: {report.model_type}, {_output.quantity(report.n_parameters)} parameters "
        f"({less:.1%} fewer), {report.n_layers} layers, {report.vocab_size} tokens"
    )
    if scores := report.scores:
        change = scores.bits_per_byte / scores.bits_per_byte_teacher - 1
        click.echo(
            f"{scores.n_bytes} bytes of held-out text: {scores.bits_per_byte:.4f} bits per byte, "
            f"the teacher {scores.bits_per_byte_teacher:.4f} ({change:+.2%}); "
            f"KL {scores.kl_mean:.4f}, same first choice {scores.top1_agreement:.1%}"
        )
    _output.note(f"\nhint: edgekit convert {report.path}")
