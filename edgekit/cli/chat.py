from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import _options, _output, _wrap
from edgekit.errors import EdgekitError, UnsupportedModel, UsageError

if TYPE_CHECKING:
    from edgekit.chat import ChatSession
    from edgekit.events import Event
    from edgekit.model import Model


@click.command()
@click.argument("model")
@click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(0),
    metavar="N",
    help="Longest reply; by default what the window holds, 0: until it ends.",
)
@_options.sampling_options
@_options.session_options
@click.option("--system", metavar="TEXT", help="System message.")
@_options.json_option
def command(model: str, **options: Any) -> None:
    """Talk with a model.

    MODEL is a .edge file with a chat template (or what `edgekit run` takes). Each line is a message; a line
    that ends with a backslash goes on in the next. Ctrl-C stops a reply, Ctrl-D or /quit ends. When stdin is
    a pipe, replies alone go to stdout. --json prints the conversation at the end.

    \b
    /reset         forget the conversation       /save FILE    write the conversation (JSON)
    /system TEXT   set the system message        /load FILE    go on with a written one
    /undo          take the last turn back       /stats        speed and memory of the last reply
    /regenerate    another reply to the same     /help         these lines
    /think on|off  reasoning, where there is     /quit         end

    \b
    edgekit chat model.edge --system "You are a patient teacher."
    printf 'Hi\\nAnd now in French\\n' | edgekit chat model.edge
    """
    with _options.open_model(model, options) as package:
        if not package.has_chat_template:
            raise UnsupportedModel(
                f"{model} has no chat template, so it cannot chat", hint=f"edgekit run {model} PROMPT"
            )
        converse(package, options)


def converse(package: Model, options: dict[str, Any]) -> None:
    """A conversation from stdin, until it ends; `options` are the command's."""
    from edgekit.chat import ChatSession

    limit = options["max_tokens"]
    sampling = _options.sampling(options) | {"max_tokens": math.inf if limit == 0 else limit}
    session = _options.session(options) | {"seed": sampling.pop("seed", None)}
    with ChatSession(package, system=options["system"], **session) as chat:
        terminal = Terminal(chat, sampling, quiet=options["as_json"])
        for line in _lines(sys.stdin.isatty()):
            if line.startswith("/"):
                if not terminal.obey(line):
                    break
            elif line.strip():
                terminal.say(line)
        if options["as_json"]:
            _output.emit_json({"messages": chat.messages})


class Terminal:
    """What is typed becomes calls of the conversation, and what these give is shown."""

    def __init__(self, chat: ChatSession, sampling: dict[str, Any], *, quiet: bool) -> None:
        self.chat = chat
        self.sampling = sampling
        self.quiet = quiet
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: _output.note(_help()),
            "/load": self._load,
            "/regenerate": lambda _: self._regenerate(),
            "/reset": lambda _: self._reset(),
            "/save": self._save,
            "/stats": lambda _: _output.note(self._statistics()),
            "/system": self._system,
            "/think": self._think,
            "/undo": lambda _: self._undo(),
        }

    def obey(self, line: str) -> bool:
        """Runs a command; False when it ends the conversation."""
        name, _, rest = line.strip().partition(" ")
        if name in ("/quit", "/exit"):
            return False
        try:
            if name not in self._commands:
                raise UsageError(f"there is no {name}; /help lists the commands")
            self._commands[name](rest.strip())
        except EdgekitError as error:
            _output.error(error)
        return True

    def say(self, text: str) -> None:
        self._show(lambda: self.chat.say(text, **self.sampling))

    def _show(self, turn: Callable[[], Generator[Event, None, None]]) -> None:
        """One turn's reply, as it comes. One that Ctrl-C stops stays as far as it came."""
        writer = _wrap.Writer()
        try:
            for event in turn():
                if event.kind == "evicted":
                    _output.note(f"\nnote: the cache is full; {event.count} older tokens are forgotten")
                    writer = _wrap.Writer()
                if not self.quiet:
                    writer.write(event.text)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            _output.note(" [stopped]")
        except EdgekitError as error:
            _output.error(error)
            return
        if not self.quiet:
            writer.write("\n")

    def _regenerate(self) -> None:
        before = self.chat.messages
        self._show(lambda: self.chat.regenerate(**self.sampling))
        if self.chat.messages is not before and self.chat.messages == before:
            _output.note("note: the same reply; the likeliest tokens have no other: --temperature 0.8")

    def _reset(self) -> None:
        self.chat.reset()
        kept = "" if self.chat.system is None else "; the system message stays"
        _output.note(f"the conversation is forgotten{kept}")

    def _system(self, text: str) -> None:
        self.chat.system = text or None
        _output.note(f"the system message is now: {text}" if text else "there is no system message now")

    def _think(self, switch: str) -> None:
        if switch not in ("on", "off"):
            raise UsageError(f"/think is {switch!r}; write /think on or /think off")
        self.chat.thinking = switch == "on"
        _output.note(f"reasoning is {switch}, if the model's template has a switch for it")

    def _undo(self) -> None:
        _output.note(f"taken back: {self.chat.undo()['content']}")

    def _save(self, name: str) -> None:
        path = _path(name)
        self.chat.save(path)
        _output.note(f"{len(self.chat.messages)} messages written to {path}")

    def _load(self, name: str) -> None:
        path = _path(name)
        self.chat.load(path)
        _output.note(f"{len(self.chat.messages)} messages read from {path}")

    def _statistics(self) -> str:
        done, plan = self.chat.session.last_done, self.chat.session.plan
        if done is None:
            return "nothing was said yet"
        stats = done.stats
        return (
            f"{stats.prompt_tokens} prompt tokens ({stats.cached_tokens} known), "
            f"first after {stats.first_token_ms:.0f} ms; "
            f"{stats.generated_tokens} generated, {stats.decode_tok_s:.1f}/s; "
            f"ended by {done.finish}; seed {done.seed}; "
            f"{_output.size(plan.total_bytes)} allocated, window {plan.window}, {plan.sinks} sinks, "
            f"{plan.kv} keys and values"
        )


def _lines(terminal: bool) -> Iterator[str]:
    """Messages from stdin, continued lines joined."""
    text = ""
    for line in _terminal_lines() if terminal else _piped_lines():
        if line.endswith("\\"):
            text += line[:-1] + "\n"
            continue
        yield text + line
        text = ""
    if text:
        yield text


def _terminal_lines() -> Iterator[str]:
    with suppress(ImportError):
        import readline  # noqa: F401  arrows and history for input()
    _output.note("/help lists the commands; Ctrl-C stops a reply, Ctrl-D ends")
    while True:
        try:
            if not sys.stdout.isatty():  # replies go elsewhere; the prompt stays here
                click.echo("> ", nl=False, err=True)
            yield _options.text_argument(input("> " if sys.stdout.isatty() else ""))
        except EOFError:
            _output.note("")
            return
        except KeyboardInterrupt:
            _output.note("\n/quit or Ctrl-D ends")


def _piped_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        yield _options.decode(line, f"line {number} of stdin").rstrip("\r\n")


def _help() -> str:
    text = command.help or ""
    return "\n".join(line for line in text.splitlines() if line.lstrip().startswith("/"))


def _path(name: str) -> str:
    try:
        parts = shlex.split(name)
    except ValueError:
        parts = [name]
    if len(parts) != 1:
        raise UsageError("name one file")
    return str(Path(parts[0]).expanduser())
