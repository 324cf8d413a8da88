"""The command line: a verb is the file of its name in this folder, with a `command` in it.

Modules here import the engine and numpy inside their functions, so that `edgekit --help` answers at once.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from edgekit.cli import _output, _streams
from edgekit.errors import EXIT_CODES, EdgekitError, IoFailure, OutOfMemory, UsageError
from edgekit.submodules import submodules

INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143


class Verbs(click.Group):
    """Finds verbs by name, and proposes the nearest when there is none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return submodules(__path__)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN_PIPE)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            near = difflib.get_close_matches(args[0], known, 1, 0.5)
            proposal = f" Did you mean '{near[0]}'?" if near else f" There are: {', '.join(known)}."
            raise click.UsageError(f"There is no verb '{args[0]}'.{proposal}", ctx)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import edgekit

        click.echo(f"edgekit {edgekit.__version__}")
        ctx.exit()


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def cli() -> None:
    """Small language models, packaged, verified, and run in constant memory.

    \b
    edgekit convert meta-llama/Llama-3.2-1B -o llama.edge      a checkpoint becomes a package
    edgekit run llama.edge "Once upon a time"                  text on the screen, streamed
    edgekit chat llama.edge                                    a conversation

    Data goes to stdout, everything else to stderr; --json gives one JSON document for every verb.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that half-written files go
    try:
        _streams.prepare()
        code: Any = cli.main(given, prog_name="edgekit", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except EdgekitError as error:
        sys.exit(_failed(error, given))
    except (click.exceptions.Abort, KeyboardInterrupt):
        _output.note("interrupted")
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        if "--json" in given:
            _output.emit_json({"error": _output.error_json(UsageError(error.format_message()))})
        error.show()
        sys.exit(error.exit_code)
    except MemoryError:
        sys.exit(_failed(OutOfMemory("the system has not enough memory for this"), given))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_failed(IoFailure(f"{where}{error.strerror or error}"), given))


def _failed(error: EdgekitError, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        with contextlib.suppress(OSError):  # which may be the very error
            _output.emit_json({"error": _output.error_json(error)})
    _streams.drop_unwritten()
    _output.error(error)
    return error.exit_code
