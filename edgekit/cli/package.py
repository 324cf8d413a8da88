from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import _options, _output
from edgekit.errors import UsageError


@click.command()
@click.argument("target", metavar="TARGET")
@click.argument("model", required=False)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Directory to write."
)
@_options.json_option
def command(target: str, model: str | None, out: Path, as_json: bool) -> None:
    """Write a folder that an app embeds: the SDK, the model, and a README with the code to paste.

    TARGET is apple, android or web. MODEL is a .edge file, its URL, or a name on Hugging Face; without it the
    folder holds the SDK alone. What a target's toolchain is missing, the error says.

    \b
    edgekit package android model.edge -o edgekit-android
    """
    from edgekit import hub, package
    from edgekit.model import Model

    path = None
    with _output.progress() as progress:
        if model is not None:
            path = hub.resolve(model, progress)
            if path.is_dir():
                raise UsageError(
                    f"{model} is a directory; apps take .edge files", hint=f"edgekit convert {model}"
                )
            Model(path).close()  # that it can be opened is known before the work, not on the phone
        files = package.package(target, path, out, progress)
    if as_json:
        listed = [{"path": str(file), "bytes": file.stat().st_size} for file in files]
        _output.emit_json({"path": str(out), "target": target, "files": listed})
        return
    for file in files:
        click.echo(f"{_output.size(file.stat().st_size):>10}  {file}")
    _output.note(f"\nhint: {out / 'README.md'} says what to paste where")
