from __future__ import annotations

import json
from pathlib import Path

import click

from edgekit.cli import _options, _output
from edgekit.errors import InvalidFile


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Directory to write."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Same seed, same weights."
)
@_options.json_option
def command(config: Path, out: Path, seed: int, as_json: bool) -> None:
    """Write a checkpoint with a real model's shape and random weights, for benchmarks.

    CONFIG is a Hugging Face config.json.

    \b
    edgekit synth Llama-3.2-1B/config.json -o synthetic-1b
    edgekit convert synthetic-1b -o synthetic-1b.edge
    """
    from edgekit.converters.synth import synth

    try:
        members = json.loads(config.read_bytes())
    except OSError as error:
        raise InvalidFile(
            f"{config}: cannot read it: {error.strerror}", hint="give the config.json of a model"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{config}: not JSON: {error}") from None
    if not isinstance(members, dict):
        raise InvalidFile(f"{config}: a {type(members).__name__} where a config's object belongs")
    with _output.progress() as progress:
        synth(members, out, seed, progress)
    written = sum(file.stat().st_size for file in out.iterdir())
    if as_json:
        _output.emit_json({"path": str(out), "bytes": written, "seed": seed})
    else:
        click.echo(f"{out}: {_output.size(written)} of random weights")
