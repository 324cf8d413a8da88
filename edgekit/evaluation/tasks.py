"""Tasks from a JSON Lines file, each an object with a `prompt` and one of

    choices, answer     texts, and the index of the right one: solved when it is the likeliest by byte
    answer              a text: solved when greedy decoding writes it right after the prompt
    test                Python: solved when prompt, greedy completion and test run without an exception
                        (`sandbox.py`); the completion ends before the first of `stop`, or at `max_tokens`

Text is put together as it is: a space between a prompt and its answer is the answer's first character.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.convert import Progress, silent
from edgekit.converters.quality import log_softmax
from edgekit.converters.text.corpus import json_lines
from edgekit.errors import UsageError
from edgekit.evaluation import sandbox
from edgekit.evaluation.bootstrap import Interval, interval
from edgekit.evaluation.scorers import Scorer, opened, vocabulary
from edgekit.text import Tokenizer

MAX_TOKENS = 256
# What begins after a completed function: a completion is the rest of one.
STOPS = (
    "\ndef ",
    "\nclass ",
    "\nif ",
    "\nprint(",
    "\nassert ",
    "\nimport ",
    "\nfrom ",
    "\n#",
    "\n@",
    "\n```",
)


@dataclass(frozen=True)
class Task:
    """`answer` is the index of a choice, or a text; None of a task with a test."""

    prompt: str
    answer: int | str | None = None
    choices: tuple[str, ...] = ()
    test: str | None = None
    stop: tuple[str, ...] = STOPS
    max_tokens: int = MAX_TOKENS


@dataclass(frozen=True)
class TaskResult:
    """How many of `tasks` tasks a model solved, with a 95% bootstrap interval of the share; `lost` and
    `gained` count those that the reference solved and the model did not, and the reverse. `solved` is in the
    order of the tasks.
    """

    model: str
    engine: str
    size_bytes: int
    tasks: int
    accuracy: float
    accuracy_interval: Interval
    lost: int
    gained: int
    solved: list[bool]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_tasks(path: str | os.PathLike[str]) -> list[Task]:
    """Raises InvalidFile for a file that is no JSON Lines, UsageError for a line that is no task."""
    tasks = [_task(found, where) for where, found in json_lines(Path(path))]
    if not tasks:
        raise UsageError(f"{path} holds no task")
    return tasks


def solve(
    models: Sequence[str | os.PathLike[str]],
    tasks: Sequence[Task],
    reference: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[TaskResult]:
    """A row for the reference, where one is given, and for each of `models`.

    Raises UsageError when none of them has a tokenizer or a task is longer than a model reads,
    UnsupportedModel, InvalidFile.
    """
    paths = [Path(model) for model in ([] if reference is None else [reference]) + list(models)]
    tokenizer, eos_ids = vocabulary(paths, threads)
    needed = max(_length(tokenizer, task) for task in tasks)
    results: list[TaskResult] = []
    for path in paths:
        solved = []
        scorer = opened(path, needed, threads)
        if 0 < scorer.context < needed:
            raise UsageError(f"{path} reads {scorer.context} tokens, and a task needs {needed}")
        for done, task in enumerate(tasks):
            progress(f"solving with {path.name}", done, len(tasks))
            solved.append(_solves(scorer, tokenizer, eos_ids, task))
        progress(f"solving with {path.name}", len(tasks), len(tasks))
        wanted = results[0].solved if results and reference is not None else solved
        results.append(_result(path, scorer, solved, wanted))
    return results


def _task(found: dict[str, Any], where: str) -> Task:
    prompt, answer, test = (found.get(name) for name in ("prompt", "answer", "test"))
    choices, stop = found.get("choices", []), found.get("stop", list(STOPS))
    limit = found.get("max_tokens", MAX_TOKENS)
    if not (isinstance(prompt, str) and prompt):
        raise UsageError(f"{where}: `prompt` is {prompt!r}; it must be a text")
    for name, texts in (("choices", choices), ("stop", stop)):
        if not (isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)):
            raise UsageError(f"{where}: `{name}` is {texts!r}; it must be a list of texts")
    if type(limit) is not int or limit < 1:
        raise UsageError(f"{where}: `max_tokens` is {limit!r}; it must be a number above 0")
    if choices:
        right = type(answer) is int and 0 <= answer < len(choices) and test is None
        wanted = f"`answer` is {answer!r}; it must be the index of one of {len(choices)} choices"
    else:
        right = (isinstance(answer, str) and bool(answer)) != (isinstance(test, str) and bool(test))
        wanted = "a task has `choices` and `answer`, or `answer`, or `test`"
    if not right:
        raise UsageError(f"{where}: {wanted}")
    return Task(prompt, answer, tuple(choices), test, tuple(stop), limit)


def _length(tokenizer: Tokenizer, task: Task) -> int:
    """Tokens that a task takes, at most."""
    room = task.max_tokens if task.test else max(len(_begun(tokenizer, text)) for text in _answers(task))
    return len(_begun(tokenizer, task.prompt)) + room


def _answers(task: Task) -> Sequence[str]:
    return task.choices or (str(task.answer),)


def _solves(scorer: Scorer, tokenizer: Tokenizer, eos_ids: frozenset[int], task: Task) -> bool:
    if task.test is not None:
        completion = _complete(scorer, tokenizer, eos_ids, task)
        return sandbox.passes(f"{task.prompt}{completion}\n\n{task.test}\n")
    if task.choices:
        scores = [
            _surprises(scorer, tokenizer, task.prompt, choice)[0].sum() / len(choice.encode())
            for choice in task.choices
        ]
        return int(np.argmin(scores)) == task.answer
    return bool(_surprises(scorer, tokenizer, task.prompt, str(task.answer))[1].all())


def _surprises(scorer: Scorer, tokenizer: Tokenizer, prompt: str, answer: str) -> tuple[Any, Any]:
    """Of each token of `answer` after `prompt`: the surprise in nats, and whether it is the first choice."""
    before, ids = _begun(tokenizer, prompt), _begun(tokenizer, prompt + answer)
    shared = next((i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before))
    shared = max(1, min(shared, len(ids) - 1))
    scorer.reset()
    logits = log_softmax(scorer.feed(ids[:-1], len(ids) - shared))
    following = np.array(ids[shared:])
    return -logits[np.arange(len(following)), following], logits.argmax(1) == following


def _complete(scorer: Scorer, tokenizer: Tokenizer, eos_ids: frozenset[int], task: Task) -> str:
    """Greedy text after the prompt."""
    scorer.reset()
    ids: list[int] = []
    given = _begun(tokenizer, task.prompt)
    while len(ids) < task.max_tokens:
        following = int(scorer.feed(given, 1)[0].argmax())
        if following in eos_ids:
            break
        ids.append(following)
        given = [following]
        text = tokenizer.decode(ids)
        if ends := [at for stop in task.stop if (at := text.find(stop)) >= 0]:
            return text[: min(ends)]
    return tokenizer.decode(ids)


def _begun(tokenizer: Tokenizer, text: str) -> list[int]:
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return start + tokenizer.encode(text, add_special_tokens=False)


def _result(path: Path, scorer: Scorer, solved: list[bool], wanted: list[bool]) -> TaskResult:
    share = np.array(solved, np.float64)
    return TaskResult(
        os.fspath(path),
        scorer.engine,
        scorer.size_bytes,
        len(solved),
        float(share.mean()),
        interval(np.mean, share),
        lost=sum(theirs and not ours for ours, theirs in zip(solved, wanted, strict=True)),
        gained=sum(ours and not theirs for ours, theirs in zip(solved, wanted, strict=True)),
        solved=solved,
    )
