from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edgekit.cli import _options, _output
from edgekit.in_place_of import in_place_of


@click.command()
@click.argument("teacher", required=False)
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="DIR", help="Directory to write.")
@click.option("--config", type=click.Path(path_type=Path), metavar="F.yaml", help="Options, by their names.")
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
@click.option("--layers", type=click.IntRange(1), metavar="N", help="Keep N layers.")
@click.option("--ffn", type=click.IntRange(1), metavar="N", help="Keep N channels of each feed-forward part.")
@click.option("--kv-heads", type=click.IntRange(1), metavar="N", help="Keep N key/value heads of a layer.")
@click.option("--width", type=click.IntRange(1), metavar="N", help="Keep N channels of the hidden states.")
@click.option(
    "--target-params",
    type=click.IntRange(1),
    metavar="N",
    help="At most N parameters, by a smaller --ffn.",
)
@click.option(
    "--student", metavar="CHECKPOINT", help="Train this one; or config.json: random weights of its shape."
)
@click.option("--tokens", type=click.IntRange(0), metavar="N", help="To train with; 0, the default: none.")
@click.option("--batch-tokens", type=click.IntRange(2), metavar="N", help="In a step  [default: 1024].")
@click.option("--context", type=click.IntRange(2), metavar="N", help="Of a text  [default: 256].")
@click.option("--learning-rate", type=float, metavar="X", help="Before it falls  [default: 3e-4].")
@click.option(
    "--loss",
    metavar="NAME",
    help="kl (the default), reverse_kl, jsd, skew_kl, or next_token: without a teacher.",
)
@click.option("--beta", type=float, metavar="X", help="Of jsd and skew_kl  [default: 0.1].")
@click.option("--temperature", type=float, metavar="T", help="Of both distributions  [default: 1].")
@click.option(
    "--hidden-weight", type=float, metavar="X", help="Of the last hidden states' distance  [default: 0]."
)
@click.option("--validation", metavar="FILE", help="Keep the weights that are best on it, and stop in time.")
@click.option("--patience", type=click.IntRange(1), metavar="N", help="Judgements of no use  [default: 3].")
@click.option("--cache", metavar="DIR", help="Keep the teacher's answers here, and take them from there.")
@click.option("--scheme", metavar="NAME", help="Train weights for an .edge package of this scheme (q4).")
@click.option("--on-policy", type=float, metavar="X", help="Share of text that the student writes, by TRL.")
@click.option("--track", metavar="NAME", help="Tell tensorboard, or wandb, of every step.")
@click.option("--seed", type=click.IntRange(0), metavar="S", help="Same seed, same student  [default: 0].")
@click.option(
    "--html", "page", type=click.Path(path_type=Path), metavar="F.html", help="Write a report with a plot."
)
@click.option("--print-config", is_flag=True, help="Print all options as YAML, and stop.")
@click.option("--dry-run", is_flag=True, help="Say how large the student, its memory and time are, and stop.")
@_options.json_option
def command(
    teacher: str | None,
    out: Path | None,
    config: Path | None,
    page: Path | None,
    print_config: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a smaller checkpoint that behaves like a larger one.

    TEACHER is a directory with config.json and safetensors files, a .gguf file, or a Hugging Face id. The
    student is an ordinary Hugging Face checkpoint: `edgekit convert` packs it. An interrupted run goes on
    when the same command is given again.

    \b
    edgekit distill google/gemma-3-270m-it -o gemma-latin --vocabulary latin
    edgekit distill ./checkpoint -o small --layers 24 --text corpus.txt --tokens 1000000
    edgekit distill ./checkpoint -o small --target-params 90000000 --text chats.jsonl --tokens 1000000
    edgekit distill --config small.yaml -o small --dry-run
    """
    from edgekit.converters.distill.recipe import Recipe, read_yaml
    from edgekit.distillation import distill, is_main
    from edgekit.distillation import report as reports

    members = read_yaml(config) if config else {}
    members |= {name: value for name, value in options.items() if value not in (None, ())}
    members |= {"teacher": teacher} if teacher else {}
    recipe = Recipe.of(members, str(config or "distill"))
    if print_config:
        click.echo(recipe.to_yaml(), nl=False)
        return
    if out is None:
        raise click.UsageError("Missing option '-o': the directory to write.")
    with _output.progress() as progress:
        report = distill(**members, out=out, dry_run=dry_run, pack=page is not None, progress=progress)
    if not is_main():
        return
    if page is not None and not dry_run:
        with in_place_of(page) as temporary:
            words = ["edgekit", *sys.argv[1:]]
            temporary.write_text(reports.html_page(report, shlex.join(words)), encoding="utf-8")
    if as_json:
        _output.emit_json(report.to_json())
        return
    less = 1 - report.n_parameters / report.n_parameters_teacher
    click.echo(
        f"{report.path}: {report.model_type}, {_output.quantity(report.n_parameters)} parameters "
        f"({less:.1%} fewer), {report.n_layers} layers, {report.vocab_size} tokens"
        + (" (would be written)" if dry_run else "")
    )
    if report.memory_bytes is not None and report.training_seconds is not None:
        click.echo(
            f"training: {_output.size(report.memory_bytes)} of memory, {report.operations:.2g} operations, "
            f"about {report.training_seconds / 60:.0f} min on this machine"
        )
    if scores := report.scores:
        change = scores.bits_per_byte / scores.bits_per_byte_teacher - 1
        before = report.scores_before
        click.echo(
            f"{scores.n_bytes} bytes of held-out text: {scores.bits_per_byte:.4f} bits per byte, "
            f"the teacher {scores.bits_per_byte_teacher:.4f} ({change:+.2%}); "
            f"KL {scores.kl_mean:.4f}{f', {before.kl_mean:.4f} before training' if before else ''}, "
            f"same first choice {scores.top1_agreement:.1%}"
        )
    if not dry_run:
        _output.note(f"\nhint: edgekit convert {report.path}")
