from __future__ import annotations

from dataclasses import asdict

import click

from edgekit.cli import _options, _output


@click.command()
@click.argument("model")
@click.option(
    "--reference",
    metavar="CHECKPOINT",
    help="Measure against the checkpoint too (a path or a Hugging Face id).",
)
@_options.threads_option
@_options.json_option
def command(model: str, reference: str | None, threads: int | None, as_json: bool) -> None:
    """Check that a package still computes what its checkpoint computes.

    MODEL is what `edgekit convert` wrote, in any format. Of an .edge file every hash is checked, and its
    golden vectors are replayed; other outputs are run in their engine beside numpy on their own weights.
    With --reference the weights are compared with the checkpoint's, and its logits too. Exit 5 when
    something differs.

    \b
    edgekit verify model.edge
    edgekit verify model-mlx --reference ./checkpoint --json
    """
    from edgekit.verification import verify

    with _output.progress() as progress:
        report = verify(model, reference, threads, progress)
    if report.same_source is False:
        _output.warning("the package was made from another checkpoint than the one given")
    if as_json:
        _output.emit_json(report.to_json())
        return
    click.echo(f"{report.path}: {report.format}, {report.scheme}" + (", hashes right" if report.isa else ""))
    if report.golden:
        greedy = (
            "the same greedy text" if report.golden.greedy_matches else "another greedy text, within rounding"
        )
        click.echo(
            f"golden vectors on {report.isa}: {report.golden.positions} positions agree, "
            f"largest error {report.golden.largest_error:.2g}, {greedy}"
        )
    if report.engine:
        click.echo(_output.engine(report.engine))
    if report.weights:
        click.echo(
            f"weights: {report.weights.tensors} tensors are the checkpoint's, the worst "
            f"({report.weights.tensor}) to {report.weights.largest_error:.0%} of what its layout allows"
        )
    if report.quality:
        click.echo(f"quality: {_output.quality(asdict(report.quality))} against the checkpoint")
        if report.quality.is_poor:
            _output.warning(_output.poor_quality(report.better))
