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

    Checks every hash, replays the golden vectors the package carries, and with --reference runs the
    checkpoint through the numpy reference again. Exit 5 when something differs.

    \b
    edgekit verify model.edge
    edgekit verify model.edge --reference ./checkpoint --json
    """
    from edgekit import hub
    from edgekit.verification import verify

    with _output.progress() as progress:
        package = hub.resolve(model, progress)
        checkpoint = None if reference is None else hub.resolve(reference, progress)
        report = verify(package, checkpoint, threads)
    if report.same_source is False:
        _output.warning("the package was made from another checkpoint than the one given")
    if as_json:
        _output.emit_json(report.to_json())
        return
    click.echo(f"{report.path}: hashes right")
    if report.golden:
        greedy = (
            "the same greedy text" if report.golden.greedy_matches else "another greedy text, within rounding"
        )
        click.echo(
            f"golden vectors on {report.isa}: {report.golden.positions} positions agree, "
            f"largest error {report.golden.largest_error:.2g}, {greedy}"
        )
    if report.quality:
        click.echo(f"against the checkpoint: {_output.quality(asdict(report.quality))}")
