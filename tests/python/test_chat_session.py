"""Conversations: edgekit.ChatSession and edgekit.generate, on noise and, where there is one, a real model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tiny_chat_model

import edgekit
from edgekit.arguments import Message

GREEDY: dict[str, Any] = {"temperature": 0.0}
# It says what only a reasoning model's template would, so that the switch is seen.
TEMPLATE = tiny_chat_model.TEMPLATE + "{% if enable_thinking %}<think>{% endif %}{{ tools | length }}"
REAL = Path(os.environ.get("EDGEKIT_MODELS", Path(__file__).parents[2] / "build" / "demo"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edgekit.Model]:
    place = tmp_path_factory.mktemp("chat")
    tiny_chat_model.write(place / "tiny")
    edgekit.convert(place / "tiny", place / "tiny.edge", scheme="f32", verify=False)
    with edgekit.Model(place / "tiny.edge", threads=1) as model:
        yield model


@pytest.fixture
def chat(model: edgekit.Model) -> Iterator[edgekit.ChatSession]:
    with edgekit.ChatSession(model, system="Be brief.", kv="f32") as chat:
        yield chat


def text_of(events: Iterator[edgekit.Event]) -> str:
    return "".join(event.text for event in events)


def whole(model: edgekit.Model, messages: list[Message], limit: int) -> str:
    """The reply to a conversation that no session knows."""
    with model.session(kv="f32") as fresh:
        return text_of(fresh.generate(messages, max_tokens=limit, **GREEDY))


def roles(chat: edgekit.ChatSession) -> list[str]:
    return [message["role"] for message in chat.messages]


def test_turns_are_those_of_the_same_messages_given_whole(
    model: edgekit.Model, chat: edgekit.ChatSession
) -> None:
    for turn in range(4):
        asked = [*chat.messages, {"role": "user", "content": f"Question {turn}"}]
        reply = text_of(chat.say(f"Question {turn}", max_tokens=12, **GREEDY))
        assert reply == whole(model, asked, 12)
        assert chat.messages == [*asked, {"role": "assistant", "content": reply}]
        done = chat.session.last_done
        assert done is not None
        known = done.stats.cached_tokens
        assert known > 0 if turn else known == 0, "only what is new is computed"


def test_ten_turns_outgrow_the_cache_and_keep_the_system_prompt(model: edgekit.Model) -> None:
    with edgekit.ChatSession(model, system="Be Zed.", window=128) as chat:
        evicted = 0
        for turn in range(10):
            for event in chat.say(f"Question {turn}", max_tokens=12, ignore_eos=True, **GREEDY):
                evicted += event.count if isinstance(event, edgekit.EvictedEvent) else 0
            done = chat.session.last_done
            assert done is not None and done.finish == "length"
            if turn:
                assert done.stats.prompt_tokens - done.stats.cached_tokens < 64, "a turn costs what it adds"
        assert evicted > 0
        system = model.encode_chat(chat.messages[:1], add_generation_prompt=False)
        assert len(system) <= chat.session.plan.sinks <= 128 / 4


def test_regenerate_and_undo(chat: edgekit.ChatSession) -> None:
    with pytest.raises(edgekit.UsageError, match="no reply to generate again"):
        chat.regenerate()
    with pytest.raises(edgekit.UsageError, match="no turn to take back"):
        chat.undo()
    first = text_of(chat.say("Hi", max_tokens=12, temperature=1.0))
    again = chat.regenerate(max_tokens=12, temperature=1.0)
    assert chat.messages[-1]["content"] == first  # until the new one has ended
    second = text_of(again)
    assert second != first and roles(chat) == ["system", "user", "assistant"]
    assert chat.messages[-1]["content"] == second
    assert chat.undo() == {"role": "user", "content": "Hi"}
    assert roles(chat) == ["system"] and chat.system == "Be brief."


def test_a_seed_repeats_a_conversation_and_not_a_reply(model: edgekit.Model) -> None:
    def talk() -> list[str]:
        with edgekit.ChatSession(model, seed=5) as chat:
            said = [text_of(chat.say("Hi", max_tokens=12, temperature=1.0))]
            said.append(text_of(chat.regenerate(max_tokens=12, temperature=1.0)))
            return said

    assert talk() == talk()
    assert len(set(talk())) == 2


def test_a_stopped_reply_stays_as_far_as_it_came(model: edgekit.Model, chat: edgekit.ChatSession) -> None:
    events = chat.say("Hi", ignore_eos=True, logit_bias={ord("x"): 1e4}, **GREEDY)
    said = next(events).text + next(events).text
    events.close()
    assert chat.messages[-2:] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": said}]
    assert chat.session.last_done is not None and chat.session.last_done.finish == "cancelled"
    events = chat.say("And?", logit_bias={0xD7: 1e4}, **GREEDY)
    assert next(events).text == ""  # half a letter
    events.close()
    assert roles(chat) == ["system", "user", "assistant"]
    assert text_of(chat.say("And?", max_tokens=8, **GREEDY)) == whole(model, chat.messages[:-1], 8)


def test_a_new_turn_ends_the_one_before_which_keeps_what_it_had_said(chat: edgekit.ChatSession) -> None:
    options: dict[str, Any] = {"logit_bias": {ord("x"): 1e4}, **GREEDY}
    first = chat.say("Hi", **options)
    said = next(first).text + next(first).text
    with pytest.raises(edgekit.UsageError):
        chat.say("And?", temperature=-1.0)
    said += next(first).text
    text_of(chat.say("And?", max_tokens=3, **options))
    first.close()
    whole = [said, "And?", "xxx"]
    assert said and [message["content"] for message in chat.messages[2:]] == whole
    for end in (chat.undo, chat.reset):
        left = chat.say("Left", **options)
        assert next(left).text
        end()
        left.close()
        assert all(message["content"] != "Left" for message in chat.messages)
    assert roles(chat) == ["system"]


def test_a_refused_turn_changes_nothing(chat: edgekit.ChatSession) -> None:
    text_of(chat.say("Hi", max_tokens=4))
    before, position = list(chat.messages), chat.session.position
    for wrong in ({"role": "user"}, {"role": "user", "content": object()}, 5):
        with pytest.raises(edgekit.EdgekitError):
            chat.say(wrong)  # type: ignore[arg-type]
    with pytest.raises(edgekit.UsageError):
        chat.say("And?", temperature=-1.0)
    assert chat.messages == before and chat.session.position == position


def test_what_is_no_conversation_is_refused(model: edgekit.Model) -> None:
    for wrong in (None, 5, "Hi", [5], [{"content": "x"}]):
        with pytest.raises(edgekit.UsageError):
            edgekit.ChatSession(model, messages=wrong)  # type: ignore[arg-type]
    with pytest.raises(edgekit.UsageError, match="seed is 'x'"):
        edgekit.ChatSession(model, seed="x")
    with edgekit.ChatSession(model) as chat:
        for said in (5, None, ["Hi"]):  # a number is no token id either
            with pytest.raises(edgekit.UsageError, match="a message is"):
                chat.say(said)  # type: ignore[arg-type]
        chat.messages = [5]  # type: ignore[list-item]
        for call in (chat.reply, chat.regenerate, chat.undo):
            with pytest.raises(edgekit.UsageError, match="a message is 5"):
                call()  # type: ignore[operator]


def test_the_system_message_and_reset(chat: edgekit.ChatSession) -> None:
    text_of(chat.say("Hi", max_tokens=4))
    chat.system = "Be long."
    assert roles(chat) == ["system", "user", "assistant"] and chat.system == "Be long."
    chat.reset()
    assert roles(chat) == ["system"] and chat.session.position == 0
    chat.system = None
    assert chat.system is None and chat.messages == []
    with pytest.raises(edgekit.UsageError, match="say something first"):
        chat.reply()


def test_tools_and_thinking_reach_the_template(tmp_path: Path) -> None:
    tiny_chat_model.write(tmp_path / "tiny", template=TEMPLATE)
    edgekit.convert(tmp_path / "tiny", tmp_path / "m.edge", scheme="f32", verify=False)
    tools = [{"type": "function", "function": {"name": "clock"}}]
    with (
        edgekit.Model(tmp_path / "m.edge") as model,
        edgekit.ChatSession(model, tools=tools, thinking=True) as chat,
    ):
        text_of(chat.say("Hi", max_tokens=1))
        rendered = model.encode_chat(chat.messages[:1], tools, enable_thinking=True)
        text_of(chat.regenerate(max_tokens=1, template_variables=None, tools=tools))  # as not given
        assert "<think>1" in model.tokenizer.decode(rendered)
        assert chat.session.last_done is not None
        assert chat.session.last_done.stats.prompt_tokens == len(rendered)
        chat.messages.append({"role": "tool", "content": "12:00"})
        text_of(chat.reply(max_tokens=1))
        assert roles(chat)[-2:] == ["tool", "assistant"]


def test_save_and_load(model: edgekit.Model, chat: edgekit.ChatSession, tmp_path: Path) -> None:
    text_of(chat.say("Grüße", max_tokens=4))
    chat.save(tmp_path / "talk.json")
    assert json.loads((tmp_path / "talk.json").read_text("utf-8")) == chat.messages
    with edgekit.ChatSession(model) as other:
        other.load(tmp_path / "talk.json")
        assert other.messages == chat.messages
        for wrong in ("{}", "[1]", '[{"content": "x"}]', "[", ""):
            (tmp_path / "wrong.json").write_text(wrong)
            with pytest.raises(edgekit.InvalidFile, match=r"wrong\.json"):
                other.load(tmp_path / "wrong.json")
        with pytest.raises(edgekit.InvalidFile, match=r"none\.json"):
            other.load(tmp_path / "none.json")
        assert other.messages == chat.messages
    with pytest.raises(edgekit.IoFailure):
        chat.save(tmp_path / "no" / "talk.json")


def test_generate_in_one_line(model: edgekit.Model) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    answer = edgekit.generate(model, messages, max_tokens=8, **GREEDY)
    assert answer == whole(model, messages, 8)
    assert edgekit.generate(model.path, messages, max_tokens=8, **GREEDY) == answer
    assert edgekit.generate(model, "Hi", max_tokens=8, **GREEDY) != answer


def test_a_model_without_template_cannot_chat(tmp_path: Path) -> None:
    tiny_chat_model.write(tmp_path / "tiny", template=None)
    edgekit.convert(tmp_path / "tiny", tmp_path / "m.edge", scheme="f32", verify=False)
    with pytest.raises(edgekit.UnsupportedModel, match="no chat template"):
        edgekit.ChatSession(tmp_path / "m.edge")


# ---- a real model ------------------------------------------------------------------------------------------

PERSONA = "You are Captain Hook, a pirate. Your name is Captain Hook."
QUESTIONS = [
    "Hello! Who are you?",
    "What is the capital of France?",
    "Tell me about the sky.",
    "Which fruit do you like?",
    "Tell me about dogs.",
    "What do cats eat?",
    "Tell me about the moon.",
    "What is ice?",
    "Thank you! That was nice.",
    "And what is water?",
]
CALM: dict[str, Any] = {
    "temperature": 0.0,
    "repetition_penalty": 1.15,
    "penalty_window": 256,
    "max_tokens": 450,
}


def real_models() -> list[Path]:
    return sorted(path for path in REAL.rglob("*.gguf") if path.is_file())


@pytest.mark.slow
@pytest.mark.skipif(not real_models(), reason="no GGUF file in $EDGEKIT_MODELS or build/demo: make demo-chat")
@pytest.mark.parametrize("path", real_models(), ids=lambda path: path.stem)
def test_a_real_model_keeps_its_persona(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten turns over a window of 512: the persona stays, every turn ends, and a turn is what the same
    messages give whole while nothing was evicted."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path))
    with ExitStack() as stack:
        model = stack.enter_context(edgekit.Model(path))
        if not model.has_chat_template:
            pytest.skip(f"{path.name} has no chat template")
        chat = stack.enter_context(edgekit.ChatSession(model, system=PERSONA, window=512))
        system = model.encode_chat(chat.messages, add_generation_prompt=False)
        for question in QUESTIONS:
            asked = [*chat.messages, {"role": "user", "content": question}]
            reply, done = text_of(chat.say(question, **CALM)), chat.session.last_done
            assert done is not None and done.finish == "eos", f"{question} {reply}"
            if chat.session.position <= chat.session.plan.window + chat.session.plan.sinks:
                with model.session(window=512) as fresh:
                    assert text_of(fresh.generate(asked, **CALM)) == reply
        assert chat.session.position > 1024, "too little was evicted"
        assert len(system) <= chat.session.plan.sinks
        # Asked for its name, and made to begin, it goes on with the one that it was given.
        asked = [*chat.messages, {"role": "user", "content": "What is your name?"}]
        list(chat.session.generate(asked, max_tokens=1))
        begun = model.tokenizer.encode("My name is", add_special_tokens=False)
        likeliest = chat.session.forward(begun, all_logits=False)[-1].argmax()
        assert model.tokenizer.decode([likeliest]) == " Captain"
