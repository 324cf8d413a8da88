"""`edgekit eval`: the figures against what they mean, tasks, the sandbox, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat_model
from click.testing import CliRunner

import edgekit
from edgekit.cli import cli
from edgekit.evaluation import Task, evaluate, read_tasks, sandbox, solve
from edgekit.verification import TEXT

LONG = 4 * TEXT


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat_model.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def q4(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(checkpoint, tmp_path_factory.mktemp("q4") / "q4.edge", scheme="q4_block32")


@pytest.fixture(scope="module")
def wide(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(checkpoint, tmp_path_factory.mktemp("wide") / "f32.edge", scheme="f32")


def packaged(checkpoint: Path, out: Path, **options: Any) -> Path:
    edgekit.convert(checkpoint, out, verify=False, **options)
    return out


def greedy(path: Path, prompt: str, count: int) -> tuple[str, list[int]]:
    with edgekit.Model(path) as model, model.session() as session:
        events = session.generate(prompt, temperature=0, max_tokens=count, ignore_eos=True)
        ids = [id for event in events if event.kind == "text" for id in event.tokens]
        return model.tokenizer.decode(ids), ids


# ---- texts -------------------------------------------------------------------------------------------------


def test_the_figures_are_what_they_are_called(q4: Path, wide: Path, checkpoint: Path) -> None:
    found, same = evaluate([q4, wide], checkpoint, LONG, tokens=3 * 512)

    logs: dict[Path, list[np.ndarray]] = {q4: [], wide: []}
    following: list[int] = []
    for path, pieces in logs.items():
        with edgekit.Model(path) as model, model.session(window=512, sinks=0, kv="f32") as session:
            ids = model.tokenizer.encode(LONG, add_special_tokens=False)
            for start in (0, len(ids) // 3, 2 * (len(ids) // 3)):  # three pieces, spread over the text
                piece = [model.tokenizer.bos_id, *ids[start : start + 511]]
                session.reset()
                logits = session.forward(piece)[256:-1].astype(np.float64)  # its second half
                pieces.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
                following += piece[257:] if path == q4 else []
    ours, theirs = np.concatenate(logs[q4]), np.concatenate(logs[wide])
    kl = (np.exp(theirs) * (theirs - ours)).sum(1)
    at = np.arange(len(kl)), following
    change = np.exp(ours[at]) - np.exp(theirs[at])
    right = [choices.argmax(1) == following for choices in (ours, theirs)]
    assert found.tokens == len(kl) == 3 * 255
    assert found.kl_mean == pytest.approx(kl.mean(), rel=1e-3)
    assert found.kl_of_pieces == pytest.approx(kl.reshape(3, -1).mean(1), rel=1e-3)
    assert found.kl_p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-3)
    assert found.ppl == pytest.approx(np.exp(-ours[at].mean()), rel=1e-3)
    assert found.ppl_reference == pytest.approx(np.exp(-theirs[at].mean()), rel=1e-3)
    assert found.ppl_ratio == pytest.approx(found.ppl / found.ppl_reference)
    assert found.same_first == pytest.approx((ours.argmax(1) == theirs.argmax(1)).mean(), abs=2e-3)
    assert found.flips == pytest.approx((right[0] != right[1]).mean(), abs=2e-3)
    assert found.dp_mean == pytest.approx(change.mean(), rel=1e-2)
    assert found.dp_rms == pytest.approx(np.sqrt(np.square(change).mean()), rel=1e-3)
    for name in ("ppl", "ppl_ratio", "kl_mean", "same_first", "dp_mean", "dp_rms"):
        low, high = getattr(found, f"{name}_interval")
        assert low <= getattr(found, name) <= high
        assert low < high
    assert found.kl_median <= found.kl_p99 <= found.kl_p999 <= found.kl_max
    assert found.size_bytes == q4.stat().st_size
    assert same.kl_max < 1e-5
    assert same.ppl_ratio == pytest.approx(1, abs=1e-4)
    assert found.kl_mean > 100 * same.kl_mean


def test_the_reference_is_computed_once_for_a_text(q4: Path, wide: Path, tmp_path: Path) -> None:
    (first,) = evaluate([q4], wide, LONG, tokens=512, cache=tmp_path)
    (kept,) = tmp_path.glob("*.npy")
    assert evaluate([q4], wide, LONG, tokens=512, cache=tmp_path) == [first]
    assert list(tmp_path.iterdir()) == [kept]
    np.save(kept, np.zeros_like(np.load(kept)))  # as if it expected any token
    (other,) = evaluate([q4], wide, LONG, tokens=512, cache=tmp_path)
    assert other.ppl_reference == pytest.approx(260, rel=1e-4)
    evaluate([q4], wide, LONG, tokens=1024, cache=tmp_path)
    wide.touch()
    evaluate([q4], wide, LONG, tokens=512, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("format", "scheme", "module", "most"),
    [
        ("onnx", "f32", "onnxruntime", 1e-5),
        ("mlx", "q8", "mlx_lm", 0.02),
        ("coreml", "f32", "coremltools", 1e-5),
    ],
)
def test_outputs_are_scored_in_their_own_engines(
    format: str, scheme: str, module: str, most: float, tmp_path: Path
) -> None:
    pytest.importorskip(module)
    checkpoint = tiny_chat_model.write(tmp_path / "checkpoint", max_position_embeddings=64)
    out = packaged(checkpoint, tmp_path / "out", format=format, scheme=scheme)
    (found,) = evaluate([out], checkpoint, TEXT, tokens=128)
    assert found.tokens == 2 * 31
    assert 0 < found.kl_mean < most
    assert found.size_bytes == sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None,
    reason="llama-cpp-python is not installed (the [peers] extra)",
)
def test_a_gguf_file_is_scored_in_llama_cpp(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "samples" / "model"
    reference = packaged(sample, tmp_path / "f32.edge", scheme="f32")
    out = packaged(sample, tmp_path / "m.gguf", format="gguf", scheme="f32")
    (found,) = evaluate([out], reference, LONG)
    assert found.kl_max < 1e-4


# ---- tasks -------------------------------------------------------------------------------------------------


def test_answers_are_what_greedy_decoding_writes(wide: Path, q4: Path) -> None:
    answer, _ = greedy(wide, "A lamp", 3)
    tasks = [
        Task("A lamp", answer),
        Task("A lamp", f"{answer[:-1]}\x01"),
        Task("A lamp", 1, choices=("zzz", answer, "\x01\x02\x03")),
        Task("A lamp", 0, choices=("zzz", answer)),
        Task("x = 1  #", test="assert x == 1", max_tokens=1),
        Task("x = 1  #", test="assert x == 2", max_tokens=1),
    ]
    reference, other = solve([q4], tasks, wide)
    assert reference.solved == [True, False, True, False, True, False]
    assert (reference.lost, reference.gained, reference.accuracy) == (0, 0, 0.5)
    assert reference.accuracy_interval[0] < 0.5 < reference.accuracy_interval[1]
    both = list(zip(reference.solved, other.solved, strict=True))
    assert (other.lost, other.gained) == (both.count((True, False)), both.count((False, True)))


def test_a_completion_ends_where_it_should(wide: Path, tmp_path: Path) -> None:
    prompt = "x = len(r'''"
    text, ids = greedy(wide, prompt, 8)

    def check(model: Path, length: int, stop: tuple[str, ...] = ()) -> None:
        """That the completion has so many characters; its test begins two lines below it."""
        tasks = [
            Task(prompt, test=f"''')\nassert x == {n + 2}", stop=stop, max_tokens=8)
            for n in (length, length + 1)
        ]
        assert solve([model], tasks)[0].solved == [True, False]

    check(wide, len(text))
    check(wide, text.index(text[3:5]), ("never", text[3:5]))
    ends = tiny_chat_model.write(tmp_path / "ends")
    (ends / "generation_config.json").write_text(json.dumps({"eos_token_id": [ids[2]]}))
    check(packaged(ends, tmp_path / "ends.edge", scheme="f32"), 2)


@pytest.mark.parametrize(
    ("program", "passed"),
    [
        ("import math, json, re, collections\nassert math.sqrt(4) == 2", True),
        ("print('much' * 10**6)", True),
        ("assert 1 + 1 == 3", False),
        ("def f(:", False),
        ("import sys\nsys.exit(0)", False),
        ("import os\nos._exit(0)", False),
        ("while True: pass", False),
        ("x = bytearray(1 << 31)", False),
        ("open('left', 'w').write('x')", False),
        ("import os\nos.open('left', os.O_CREAT | os.O_WRONLY)", False),
        ("import socket\nsocket.socket()", False),
        ("import os\nos.system('true')", False),
        ("import subprocess\nsubprocess.run(['true'])", False),
    ],
)
def test_a_program_passes_within_its_limits_alone(program: str, passed: bool) -> None:
    assert sandbox.passes(program, cpu_seconds=1) is passed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"answer": "x"}', "`prompt` is None"),
        ('{"prompt": "a", "choices": "bc", "answer": 0}', "`choices` is 'bc'"),
        ('{"prompt": "a", "choices": ["b", "c"], "answer": 2}', "`answer` is 2"),
        ('{"prompt": "a", "answer": 3}', "a task has"),
        ('{"prompt": "a", "answer": "b", "test": "c"}', "a task has"),
        ('{"prompt": "a", "test": "b", "max_tokens": 0}', "`max_tokens` is 0"),
        ("", "holds no task"),
    ],
)
def test_lines_that_are_no_tasks_are_refused(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(f"{line}\n", "utf-8")
    with pytest.raises(edgekit.UsageError, match=message):
        read_tasks(path)


def test_tasks_are_lines_of_json_whatever_else_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"prompt": "one\u2028two", "answer": " three"}\n', "utf-8")
    assert [task.prompt for task in read_tasks(path)] == ["one\u2028two"]
    for line, message in (("{", "line 1: no JSON"), ("[]", "a list where an object belongs")):
        path.write_text(line, "utf-8")
        with pytest.raises(edgekit.InvalidFile, match=message):
            read_tasks(path)


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_prints_tables_json_and_a_page(q4: Path, wide: Path, tmp_path: Path) -> None:
    text, tasks, page = tmp_path / "text.txt", tmp_path / "tasks.jsonl", tmp_path / "page.html"
    text.write_text(TEXT, "utf-8")
    tasks.write_text(
        '{"prompt": "A", "answer": "b"}\n\n{"prompt": "A", "choices": ["b", "c"], "answer": 0}\n'
    )
    words = ["eval", str(wide), str(q4), "--reference", str(wide), "--text", str(text), "--tasks", str(tasks)]
    plain = CliRunner().invoke(cli, [*words, "--html", str(page)])
    assert plain.exit_code == 0, plain.output
    assert plain.stdout.index("q4.edge") < plain.stdout.index("f32.edge")  # by bytes
    assert "of 2" in plain.stdout
    written = page.read_text("utf-8")
    assert written.count("<circle") == 2
    assert f"edgekit eval {wide} {q4}" in written
    document = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    assert [Path(row["model"]).name for row in document["models"]] == ["q4.edge", "f32.edge"]
    assert 0 <= document["models"][1]["kl_mean"] < document["models"][0]["kl_mean"]
    assert [row["tasks"] for row in document["tasks"]] == [2, 2, 2]


def test_what_cannot_be_evaluated_is_refused(q4: Path, wide: Path, tmp_path: Path) -> None:
    with pytest.raises(edgekit.UsageError, match="the text has"):
        evaluate([q4], wide, "short")
    with pytest.raises(edgekit.InvalidFile, match=r"nothing\.bin"):
        evaluate([tmp_path / "nothing.bin"], wide, TEXT)
    other = tiny_chat_model.write(tmp_path / "other", vocab_size=640)
    with pytest.raises(edgekit.UnsupportedModel, match="not the same model"):
        evaluate([packaged(other, tmp_path / "other.edge", scheme="f32")], wide, TEXT)
    short = tiny_chat_model.write(tmp_path / "short", max_position_embeddings=64)
    with pytest.raises(edgekit.UsageError, match="reads 64 tokens"):
        evaluate([packaged(short, tmp_path / "short.edge", scheme="f32")], wide, TEXT)
    with pytest.raises(edgekit.UsageError, match="reads 512 tokens"):
        solve([q4], [Task("A" * 512, "b")])
    for words, message in (
        ([str(q4)], "nothing to evaluate"),
        ([str(q4), "--text", str(tmp_path / "short" / "config.json")], "give one"),
    ):
        done = CliRunner().invoke(cli, ["eval", *words])
        assert done.exit_code == 2
        assert message in done.output
