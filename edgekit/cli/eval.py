from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgekit.cli import _options, _output
from edgekit.in_place_of import in_place_of

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--reference", metavar="CHECKPOINT", help="The checkpoint, or a package of floats made of it.")
@click.option(
    "--text",
    "text_file",
    type=_FILE,
    metavar="FILE",
    help="A text that neither training nor calibration has seen, in UTF-8.",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=8192,
    show_default=True,
    metavar="N",
    help="Of the text, at most, in pieces spread over it; the second half of each is scored.",
)
@click.option(
    "--tasks", "tasks_file", type=_FILE, metavar="FILE.jsonl", help="Tasks to solve (docs/quality.md)."
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the reference's logits there, for the next evaluation on this text.",
)
@click.option(
    "--html", "page", type=click.Path(path_type=Path), metavar="F.html", help="Write a report with a plot."
)
@_options.threads_option
@_options.json_option
def command(
    models: tuple[str, ...],
    reference: str | None,
    text_file: Path | None,
    tokens: int,
    tasks_file: Path | None,
    cache: Path | None,
    page: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure what quantization cost: KL divergence, perplexity, first choices; tasks solved.

    Each MODEL is scored in the engine that runs it: .edge files in edgekit's, ONNX directories in ONNX
    Runtime, .gguf files in llama.cpp, quantized MLX directories in mlx-lm, Core ML packages in Core ML or,
    where there is none, their program in numpy. A checkpoint as reference is computed in numpy; for a large
    model convert it with --scheme f16 and give that package instead.

    \b
    edgekit eval model.edge --reference ./checkpoint --text held-out.txt
    edgekit eval q4.edge q8.edge q4_0.gguf --reference f16.edge --text held-out.txt --html quality.html
    edgekit eval q4.edge --reference f16.edge --tasks completions.jsonl
    """
    from edgekit import evaluation, hub
    from edgekit.evaluation import report

    if text_file is None and tasks_file is None:
        raise click.UsageError("nothing to evaluate on: give --text, --tasks or both")
    if text_file is not None and reference is None:
        raise click.UsageError("what a text cost is told beside a --reference: give one")
    try:
        text = None if text_file is None else text_file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{text_file} is not UTF-8: {error}") from None
    tasks = None if tasks_file is None else evaluation.read_tasks(tasks_file)
    with _output.progress() as progress:
        packages = [hub.resolve(model, progress) for model in models]
        truth = None if reference is None else hub.resolve(reference, progress)
        found = (
            []
            if text is None or truth is None
            else evaluation.evaluate(
                packages, truth, text, tokens=tokens, threads=threads, cache=cache, progress=progress
            )
        )
        solved = (
            []
            if tasks is None
            else evaluation.solve(packages, tasks, truth, threads=threads, progress=progress)
        )
    if page is not None:
        words = ["edgekit", "eval", *models, "--tokens", str(tokens)]
        for name, value in {"reference": reference, "text": text_file, "tasks": tasks_file}.items():
            words += [f"--{name}", str(value)] if value else []
        with in_place_of(page) as temporary:
            temporary.write_text(
                report.html_page(reference, found, solved, shlex.join(words)), encoding="utf-8"
            )
    if as_json:
        _output.emit_json(
            {
                "reference": reference,
                "models": [each.to_json() for each in report.by_bytes(found)],
                "tasks": [each.to_json() for each in report.by_bytes(solved)],
            }
        )
        return
    if found:
        click.echo(_output.table(report.divergence_table(found, report.NARROW), right=range(1, 8)))
        click.echo(
            f"\n{found[0].tokens} positions; reference perplexity {found[0].ppl_reference:.3f}; 95% intervals"
        )
    if solved:
        click.echo(_output.table(report.task_table(solved), right=range(2, 7)))
