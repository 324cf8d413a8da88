"""ChatSession and generate: a model that is talked with.

with edgekit.ChatSession("m.edge", system="Be brief.") as chat:
    for event in chat.say("Why is the sky blue?"):
        print(event.text, end="", flush=True)
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgekit import arguments
from edgekit.arguments import Message, TokenIds
from edgekit.errors import InvalidFile, UnsupportedModel, UsageError
from edgekit.events import DoneEvent, Event
from edgekit.in_place_of import in_place_of
from edgekit.model import Model, Session

if TYPE_CHECKING:
    from typing_extensions import Self

SEEDS = 2**64 - 1  # the last number means a random one


@dataclass
class _Turn:
    """A reply that is being said: to what, and its text so far."""

    asked: Sequence[Message]
    text: str = ""

    @property
    def messages(self) -> list[Message]:
        return [*self.asked, {"role": "assistant", "content": self.text}]


def generate(
    model: Model | str | os.PathLike[str], prompt: str | TokenIds | Sequence[Message], **options: Any
) -> str:
    """What `model` (or the model of that name) answers to messages, or goes on with after a text.

    `options` and errors are those of `Session.generate`.
    """
    with ExitStack() as stack:
        opened = model if isinstance(model, Model) else stack.enter_context(Model(model))
        session = stack.enter_context(opened.session())
        return "".join(event.text for event in session.generate(prompt, **options))


class ChatSession:
    """A conversation: its messages, and the session that knows them.

    `model` is a Model or the name of one, which is then closed with the conversation. `messages` are dicts of
    `role` and `content`, and may be changed between turns: of what the session knows already, nothing is
    computed again. `tools` go to the chat template; `thinking` switches the reasoning of models that have it
    on or off, None leaves it to the template. `options` are `Model.session`'s; a `seed` among them is the
    first reply's, and each further reply takes the next number.

    Raises UnsupportedModel when the model has no chat template, else as `Model.session`.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
        **options: Any,
    ) -> None:
        said = arguments.messages(messages)
        with ExitStack() as opening:
            opened = model if isinstance(model, Model) else opening.enter_context(Model(model))
            if not opened.has_chat_template:
                raise UnsupportedModel(
                    f"{opened.path} has no chat template, so it cannot chat; Session.generate continues text"
                )
            self.session: Session = opening.enter_context(opened.session(**options))
            self._owned = opening.pop_all()
        self.messages: list[Message] = said
        self.tools = tools
        self.thinking = thinking
        self._replies = 0
        self._turn: _Turn | None = None  # whose reply has not joined yet
        if system is not None:
            self.system = system

    @property
    def system(self) -> str | None:
        """The system message, or None. What is set counts from the next turn on; None removes it."""
        first = self.messages[0] if self.messages else {}
        return str(first.get("content", "")) if first.get("role") == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        rest = self.messages if self.system is None else self.messages[1:]
        self.messages = [*([] if text is None else [{"role": "system", "content": text}]), *rest]

    def say(self, message: str | Message, **options: Any) -> Generator[Event, None, None]:
        """Says something, as the user unless it is a whole message; iterate for the reply.

        When the iterator is exhausted or closed, or another turn begins, both have joined `messages`, the
        reply as far as it came; a turn that was stopped before its first word never was. `options` and errors
        are those of `Session.generate`; after an error nothing has changed.
        """
        said = {"role": "user", "content": message} if isinstance(message, str) else message
        return self._reply([*self._so_far(), said], options)

    def reply(self, **options: Any) -> Generator[Event, None, None]:
        """As `say`, to the messages as they stand: after a tool's results were added, for example."""
        asked = arguments.messages(self._so_far())
        if not asked or asked[-1]["role"] in ("system", "assistant"):
            raise UsageError("the last message is nobody's question; say something first")
        return self._reply(asked, options)

    def regenerate(self, **options: Any) -> Generator[Event, None, None]:
        """Another reply in the place of the last; that one stays until the new one ends."""
        asked = arguments.messages(self._so_far())
        if not asked or asked[-1]["role"] != "assistant":
            raise UsageError("there is no reply to generate again; say something first")
        while asked and asked[-1]["role"] == "assistant":
            asked.pop()
        return self._reply(asked, options)

    def undo(self) -> Message:
        """Takes the last user's message and all that followed back; gives it. Raises UsageError when there is
        none.
        """
        messages = arguments.messages(self._so_far())
        users = [at for at, message in enumerate(messages) if message["role"] == "user"]
        if not users:
            raise UsageError("there is no turn to take back")
        self.messages, self._turn = messages[: users[-1]], None
        return messages[users[-1]]

    def reset(self) -> None:
        """Forgets the conversation, all but its system message."""
        self.session.reset()
        self.messages, self._turn = self.messages[: self.system is not None], None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the messages as JSON. Raises IoFailure; a file that was there is then as it was."""
        target = Path(arguments.path(path))
        text = json.dumps(self.messages, ensure_ascii=False, indent=2)
        with in_place_of(target) as temporary:
            temporary.write_text(text + "\n", "utf-8")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Goes on with written messages. Raises InvalidFile, and keeps those it had."""
        source = Path(arguments.path(path))
        try:
            self.messages, self._turn = arguments.messages(json.loads(source.read_bytes())), None
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidFile(f"{source}: cannot read it: {error}") from None
        except UsageError as error:
            raise InvalidFile(f"{source} holds no conversation: {error}") from None

    def close(self) -> None:
        """Closes the session and the model, if they were opened here."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reply(self, messages: Sequence[Message], options: Mapping[str, Any]) -> Generator[Event, None, None]:
        messages = arguments.messages(messages)
        settings = {"tools": self.tools, **options}
        if self.session.seed is not None:
            settings.setdefault("seed", (self.session.seed + self._replies) % SEEDS)
        if self.thinking is not None:
            variables = settings.get("template_variables") or {}
            settings["template_variables"] = {**variables, "enable_thinking": self.thinking}
        events = self.session.generate(messages, **settings)
        self.messages = self._so_far()  # a turn that still ran has ended
        self._turn = _Turn(messages)
        self._replies += 1
        return self._events(self._turn, events)

    def _so_far(self) -> list[Message]:
        """The messages, with what a reply that is being said has said."""
        return self._turn.messages if self._turn and self._turn.text else self.messages

    def _events(self, turn: _Turn, events: Generator[Event, None, None]) -> Generator[Event, None, None]:
        try:
            for event in events:
                turn.text += event.text
                if isinstance(event, DoneEvent) and event.finish != "cancelled":
                    self._join(turn)  # before the last event, which says that all of it is true
                yield event
        finally:
            events.close()
            if turn.text:
                self._join(turn)

    def _join(self, turn: _Turn) -> None:
        if self._turn is turn:
            self.messages, self._turn = turn.messages, None
