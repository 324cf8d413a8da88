from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import _options, _output


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--reference", required=True, metavar="CHECKPOINT", help="The checkpoint, or a wider package of it."
)
@click.option(
    "--text",
    "text_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A text that the model was not trained on, in UTF-8.",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=8192,
    show_default=True,
    metavar="N",
    help="Of the text, at most.",
)
@_options.threads_option
@_options.json_option
def command(
    models: tuple[str, ...],
    reference: str,
    text_file: Path,
    tokens: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure what quantization cost: perplexity, KL divergence, first choices.

    Each MODEL is scored in the engine that runs it: .edge files in edgekit's, directories in ONNX format in
    ONNX Runtime, .gguf files in llama.cpp. A checkpoint as reference is computed in numpy, one tensor at a
    time; for a large model convert it with --scheme f16 and give that package instead.

    \b
    edgekit eval model.edge --reference ./checkpoint --text held-out.txt
    edgekit eval q4.edge q8.edge q4_0.gguf --reference f16.edge --text held-out.txt --json
    """
    from edgekit import hub
    from edgekit.evaluation import evaluate

    try:
        text = text_file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{text_file} is not UTF-8: {error}") from None
    with _output.progress() as progress:
        found = evaluate(
            [hub.resolve(model, progress) for model in models],
            hub.resolve(reference, progress),
            text,
            tokens=tokens,
            threads=threads,
            progress=progress,
        )
    if as_json:
        _output.emit_json({"reference": reference, "models": [evaluation.to_json() for evaluation in found]})
        return
    rows = [["model", "bits", "perplexity", "× reference's", "KL", "KL 99.9%", "same first", "Δp RMS"]]
    for each in found:
        low, high = each.ppl_ratio_interval
        kl_low, kl_high = each.kl_mean_interval
        rows.append(
            [
                Path(each.model).name,
                f"{each.bits_per_weight:.2f}",
                f"{each.ppl:.3f}",
                f"{each.ppl_ratio:.4f} ({low:.4f}–{high:.4f})",
                f"{each.kl_mean:.4f} ({kl_low:.4f}–{kl_high:.4f})",
                f"{each.kl_p999:.3f}",
                f"{each.top1_agreement:.1%}",
                f"{each.dp_rms:.2%}",
            ]
        )
    click.echo(_output.table(rows, right=range(1, 8)))
    click.echo(
        f"\n{found[0].tokens} tokens; reference perplexity {found[0].ppl_reference:.3f}; 95% intervals"
    )
