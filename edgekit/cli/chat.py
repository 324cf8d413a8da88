from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import _interrupt, _options, _output
from edgekit.errors import EdgekitError, UnsupportedModel, UsageError

if TYPE_CHECKING:
    from edgekit.engine import DoneEvent, Session


@click.command()
@click.argument("model")
@click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Longest reply; 0: until it ends.",
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
    /reset        forget the conversation        /save FILE    write the conversation (JSON)
    /system TEXT  set the system message         /load FILE    go on with a written one
    /undo         take the last turn back        /stats        speed and memory
    /help         these lines                    /quit         end

    \b
    edgekit chat model.edge --system "You are a patient teacher."
    printf 'Hi\\nAnd now in French\\n' | edgekit chat model.edge
    """
    with _options.open_model(model, options) as package:
        if not package.has_chat_template:
            raise UnsupportedModel(
                f"{model} has no chat template, so it cannot chat", hint=f"edgekit run {model} PROMPT"
            )
        sampling = _options.sampling(package, options)
        with _options.open_session(package, options) as session:
            conversation = Conversation(session, options["max_tokens"], sampling, quiet=options["as_json"])
            if options["system"]:
                conversation.system(options["system"])
            for line in _lines(sys.stdin.isatty()):
                if line.startswith("/"):
                    if not conversation.obey(line):
                        break
                elif line.strip():
                    conversation.say(line)
            if options["as_json"]:
                _output.emit_json({"messages": conversation.messages, "seed": sampling["seed"]})


class Conversation:
    """The messages so far, and the session that knows them."""

    def __init__(self, session: Session, max_tokens: int, sampling: dict[str, Any], *, quiet: bool) -> None:
        self.session = session
        self.max_tokens = max_tokens
        self.sampling = sampling
        self.quiet = quiet
        self.messages: list[dict[str, str]] = []
        self.last = "nothing was said yet"
        self._in_cache: str | None = None  # the text the session holds, when that is known
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: _output.note(_help()),
            "/load": self.load,
            "/reset": lambda _: self.reset(),
            "/save": self.save,
            "/stats": lambda _: _output.note(self.last),
            "/system": self.system,
            "/undo": lambda _: self.undo(),
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
        """One turn. A reply that Ctrl-C stops stays in the conversation as far as it came.

        As long as the template only adds to what the session holds, only what it adds is computed: also when
        the conversation has outgrown the cache, where its beginning could not be found again.
        """
        from edgekit.engine import RenderedChat

        self.messages.append({"role": "user", "content": text})
        reply: list[str] = []
        in_cache, self._in_cache = self._in_cache, None
        try:
            prompt = self.session.model.render_chat(self.messages)
            follows = in_cache is not None and prompt.startswith(in_cache)
            rest = RenderedChat(prompt.removeprefix(in_cache or "")) if follows else prompt
            with _interrupt.cancels(self.session):
                events = self.session.generate(
                    rest, append=follows, max_tokens=self.max_tokens, **self.sampling
                )
                for event in events:
                    if event.kind == "evicted":
                        _output.note(f"\nnote: the cache is full; {event.count} older tokens are forgotten")
                    elif event.kind == "done":
                        self.last = self._statistics(event)
                    reply.append(event.text)
                    if not self.quiet:
                        sys.stdout.write(event.text)
                        sys.stdout.flush()
            self._in_cache = prompt + "".join(reply)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            _output.note(" [stopped]")
        except EdgekitError as error:
            self.messages.pop()
            _output.error(error)
            return
        self.messages.append({"role": "assistant", "content": "".join(reply)})
        if not self.quiet:
            sys.stdout.write("\n")
            sys.stdout.flush()

    def reset(self) -> None:
        self._in_cache = None
        self.messages = [message for message in self.messages if message["role"] == "system"]
        self.session.reset()

    def system(self, text: str) -> None:
        self.messages = [message for message in self.messages if message["role"] != "system"]
        if text:
            self.messages.insert(0, {"role": "system", "content": text})

    def undo(self) -> None:
        while self.messages and self.messages[-1]["role"] != "user":
            self.messages.pop()
        if self.messages:
            self.messages.pop()

    def save(self, name: str) -> None:
        import json

        path = _path(name)
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_text(json.dumps(self.messages, ensure_ascii=False, indent=2) + "\n", "utf-8")
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UsageError(f"{path}: cannot write it: {error.strerror}") from None
        _output.note(f"{len(self.messages)} messages written to {path}")

    def load(self, name: str) -> None:
        import json

        path = _path(name)
        try:
            messages = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: cannot read it: {error}") from None
        roles = ("system", "user", "assistant")
        if not isinstance(messages, list) or not all(
            isinstance(message, dict)
            and message.get("role") in roles
            and isinstance(message.get("content"), str)
            for message in messages
        ):
            raise UsageError(
                f"{path} holds no conversation: a list of objects with role and content is expected"
            )
        self.messages = messages
        _output.note(f"{len(messages)} messages read from {path}")

    def _statistics(self, done: DoneEvent) -> str:
        stats, plan = done.stats, self.session.plan
        return (
            f"{stats.prompt_tokens} prompt tokens ({stats.cached_tokens} known), "
            f"first after {stats.first_token_ms:.0f} ms; "
            f"{stats.generated_tokens} generated, {stats.decode_tok_s:.1f}/s; ended by {done.finish}; "
            f"{_output.size(plan.total_bytes)} allocated, window {plan.window}, {plan.kv} keys and values"
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


def _path(name: str) -> Path:
    try:
        parts = shlex.split(name)
    except ValueError:
        parts = [name]
    if len(parts) != 1:
        raise UsageError("name one file")
    return Path(parts[0]).expanduser()
