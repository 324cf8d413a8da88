"""Python replays tests/golden/engine, as every other binding does."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import edgekit

GOLDEN = Path(__file__).parents[1] / "golden" / "engine"
DOCUMENT = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))


@cache
def model(file: str) -> edgekit.Model:
    return edgekit.Model(GOLDEN / file)


def replay(session: edgekit.Session, prompt: Any, **options: Any) -> dict[str, Any]:
    events = list(session.generate(prompt, **options))
    done = events[-1]
    assert isinstance(done, edgekit.DoneEvent)
    ids = [id for event in events if isinstance(event, edgekit.TextEvent) for id in event.tokens]
    return {"ids": ids, "text": "".join(event.text for event in events), "finish": done.finish}


def test_models() -> None:
    for facts in DOCUMENT["models"]:
        opened = model(facts["file"])
        assert opened.vocab_size == facts["vocab_size"]
        assert (opened.n_layers, opened.scheme) == (facts["layers"], facts["scheme"])


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: f"{case['model']}-{case['generate']}")
def test_generations(case: dict[str, Any]) -> None:
    prompt = next(case[name] for name in ("prompt", "prompt_ids", "messages") if name in case)
    with model(case["model"]).session(**case["session"]) as session:
        got = replay(session, prompt, **case["generate"])
    assert got == {name: case[name] for name in got}


@pytest.mark.parametrize("case", DOCUMENT["chats"], ids=lambda case: case["model"])
def test_chats(case: dict[str, Any]) -> None:
    opened = model(case["model"])
    assert opened.render_chat(case["messages"]) == case["text"]
    if "ids" in case:
        assert opened.encode_chat(case["messages"]) == case["ids"]


@pytest.mark.parametrize("case", DOCUMENT["states"], ids=lambda case: case["file"])
def test_states(case: dict[str, Any]) -> None:
    with model(case["model"]).session(**case["session"]) as session:
        session.restore(GOLDEN / case["file"])
        assert session.position == case["position"]
        options = {"max_tokens": case["max_tokens"], "temperature": 0, "ignore_eos": True, "append": True}
        assert replay(session, case["prompt_ids"], **options)["ids"] == case["ids"]
