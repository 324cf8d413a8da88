"""What a device is asked, and the result that its answers make."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edgekit
from edgekit import verification
from edgekit.bench import board, machine, plan, protocol, recording, report, schema
from edgekit.bench import result as results
from edgekit.bench.child import BenchmarkFailed, Child
from edgekit.bench.cost import Cost
from edgekit.cli import cli as program
from edgekit.converters.formats import edge
from edgekit.errors import EdgekitError, InvalidFile, UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "engine"
OPTIONS = protocol.Options(
    prompts=(5, 9), decode=3, depths=(0, 20), threads=1, kv="int8", repetitions=2, sustained_minutes=0.001
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with golden vectors and a quality card, as `convert` writes them."""
    path = tmp_path_factory.mktemp("model") / "text.edge"
    shutil.copy(GOLDEN / "text.edge", path)
    with edgekit.Model(path) as opened:
        golden = verification.golden(opened, Cost.of(path).spec)
    edge.attach(path, {"golden": golden, "quality": {"kl_mean": 0.01}})
    return path


def play(wanted: plan.Plan, path: Path) -> list[list[dict[str, Any]]]:
    """As a device does it: a process for each pass."""
    program = machine.native_program()
    if program is None:
        pytest.skip("edgekit_bench is not built (make bench)")
    answers = []
    for commands in wanted["passes"]:
        with Child("device", [program]) as child:
            answers.append([child.ask(command.replace(plan.MODEL, str(path))) for command in commands])
    return answers


@pytest.fixture(scope="module")
def recorded(model: Path) -> dict[str, Any]:
    wanted = json.loads(json.dumps(plan.make(model, OPTIONS, 35, 1)))
    answers = play(wanted, model)
    device = {"kind": "adb", "name": "A phone"}
    return recording.make(wanted, device, "2026-11-30T12:00:00+00:00", answers)


def changed(recorded: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(recorded))
    change(copy)
    return copy


def each(recorded: dict[str, Any], word: str) -> list[dict[str, Any]]:
    """The answers to a command."""
    return [
        answer
        for commands, answers in zip(recorded["plan"]["passes"], recorded["answers"], strict=True)
        for command, answer in zip(commands, answers, strict=True)
        if command.split()[0] == word
    ]


def test_answers_make_a_result(recorded: dict[str, Any], model: Path) -> None:
    result = recording.result_of(recorded)
    assert not schema.faults(json.loads(json.dumps(result)))
    assert [(row["depth"], row["prompt"]) for row in result["rows"]] == [(0, 5), (0, 9), (20, 5), (20, 9)]
    for row in result["rows"]:
        assert len(row["samples"]["decode_tok_s"]) == OPTIONS.repetitions
        assert row["bandwidth_fraction"] > 0 and row["dot_peak_fraction"] > 0
    device, (engine,) = result["device"], result["engines"].values()
    assert device["kind"] == "adb" and device["name"] == "A phone" and device["clock_hz"] > 1e8
    assert result["gate"]["golden"]["passed"] and result["gate"]["golden"]["positions"] > 16
    assert result["model"]["quality"] == {"kl_mean": 0.01}
    assert result["model"]["sha256"] == results.sha256_of(model)
    assert engine["memory"]["peak_bytes"] > engine["memory_before"]["anonymous_bytes"] > 0
    (curve,) = result["sustained"].values()
    assert len(curve) == 1 and curve[0]["decode_tok_s"] > 0
    assert [load["cache"] for load in result["loads"]] == ["warm"]
    assert result["build"]["version"] == edgekit.__version__
    assert report.html_page(result) and report.text_tables(result)


def test_what_a_device_does_not_tell_is_no_column(recorded: dict[str, Any]) -> None:
    def as_browsers_answer(copy: dict[str, Any]) -> None:
        for answer in each(copy, "machine"):
            answer.clear()
        first, last = each(copy, "memory")
        first.clear()
        last |= {"file_bytes": None, "peak_bytes": 3 << 20}

    tables = dict(report.text_tables(recording.result_of(changed(recorded, as_browsers_answer))))
    assert tables[""][0] == ["engine", "depth", "prompt", "prefill tok/s", "ttft ms", "decode tok/s"]
    assert tables["memory, MiB"][0] == ["engine", "anonymous", "keys and values", "peak"]
    assert tables["memory, MiB"][1][-1] == "3.0"
    tables = dict(report.text_tables(recording.result_of(recorded)))
    assert {"of peak", "of read"} < set(tables[""][0]) and "in files" in tables["memory, MiB"][0]


def test_a_recording_is_read_where_a_result_is(recorded: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(recorded))
    assert results.read(path)["rows"] == recording.result_of(recorded)["rows"]
    path.write_text(json.dumps(changed(recorded, lambda r: r.pop("plan"))))
    with pytest.raises(InvalidFile, match="not a recording"):
        results.read(path)


def test_what_happened_on_the_way_is_flagged(recorded: dict[str, Any]) -> None:
    def hot(copy: dict[str, Any]) -> None:
        each(copy, "cool")[2]["temperature_c"] = 41.5
        each(copy, "state")[0]["charging"] = True
        each(copy, "machine")[-1]["clock_hz"] /= 2
        each(copy, "logits")[0]["logits"][3] += 9

    def held_back(copy: dict[str, Any]) -> None:
        each(copy, "cool")[0] |= {"temperature_c": None, "thermal_state": "serious"}

    assert "hot_start" in recording.result_of(changed(recorded, held_back))["flags"]
    flags = recording.result_of(changed(recorded, hot))["flags"]
    assert {"hot_start", "charging", "moved", "wrong"} <= set(flags)


def test_numbers_that_cannot_be_are_an_error_that_names_the_file(
    recorded: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(changed(recorded, lambda r: r["plan"]["model"].update(n_parameters=0))))
    with pytest.raises(InvalidFile, match=r"phone\.json: not a recording"):
        results.read(path)


def test_energy_comes_from_the_curve(recorded: dict[str, Any]) -> None:
    def metered(copy: dict[str, Any]) -> None:
        (stretch,) = (answer for answer in each(copy, "stretch") if answer["seconds"] > 0.05)
        stretch |= {"milliwatts": 3000.0, "charging": False, "seconds": 10.0, "tokens": 60}

    assert recording.result_of(changed(recorded, metered))["energy"]["joules_per_token"] == pytest.approx(0.5)


def test_a_device_that_fails_is_no_result(recorded: dict[str, Any]) -> None:
    with pytest.raises(BenchmarkFailed, match=r"adb: measure: out of memory"):
        recording.result_of(
            changed(recorded, lambda r: r["answers"][-3].__setitem__(-2, {"error": "out of memory"}))
        )
    with pytest.raises(BenchmarkFailed, match=r"answered \d+ of \d+ commands, and not to 'machine'"):
        recording.result_of(changed(recorded, lambda r: r["answers"].pop()))


# Of the answers to a word, the last of which a figure is made; the very last measure is for memory.
LAST = {"machine": -1, "measure": -2, "stretch": -1}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("machine", "clock_hz"),
        ("machine", "read_bytes_s"),
        ("measure", "ttft_ms"),
        ("measure", "decode_ms"),
        ("measure", "decoded"),
        ("stretch", "seconds"),
        ("stretch", "tokens"),
        ("stretch", "decode_ms"),
    ],
)
@pytest.mark.parametrize("value", [0, -1.5, float("nan"), float("inf")])
def test_a_clock_that_stands_still(recorded: dict[str, Any], word: str, name: str, value: float) -> None:
    still = changed(recorded, lambda r: each(r, word)[LAST[word]].update({name: value}))
    with pytest.raises(
        BenchmarkFailed, match=rf"adb: {word} .*: {name} is {value}, of which no speed"
    ) as caught:
        recording.result_of(still)
    assert "coarse clock" in str(caught.value.hint)


@pytest.mark.parametrize("verb", ["report", "diff"])
def test_an_error_names_its_file(recorded: dict[str, Any], tmp_path: Path, verb: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(recorded))
    for change, why in [
        (lambda r: r.pop("plan"), "not a recording of edgekit bench: KeyError"),
        (lambda r: r["answers"].pop(), "adb: the device answered"),
        (lambda r: each(r, "measure")[LAST["measure"]].update(ttft_ms=0), "adb: measure 9 3: ttft_ms is 0"),
        (lambda r: r.update(answers=3), "not a recording of edgekit bench: "),
    ]:
        bad.write_text(json.dumps(changed(recorded, change)))
        page = ["-o", str(tmp_path / "page.html")] if verb == "report" else []
        done = CliRunner().invoke(program, ["bench", verb, str(good), str(bad), *page])
        assert isinstance(done.exception, EdgekitError)
        assert str(done.exception).startswith(f"{bad}: {why}"), done.exception
        assert not (tmp_path / "page.html").exists()


def test_one_page_of_many_results(recorded: dict[str, Any]) -> None:
    def other(copy: dict[str, Any]) -> None:
        copy["device"] = {"kind": "ios", "name": "<b>iPhone"}
        copy["plan"]["model"]["name"] = "other.edge"

    results_ = [
        (name, recording.result_of(one)) for name, one in (("a", recorded), ("b", changed(recorded, other)))
    ]
    page = board.html_page(results_, "edgekit bench report a b")
    assert "src=" not in page and "http" not in page and "@" not in page.split("</style>")[-1]
    assert "&lt;b&gt;iPhone (ios)" in page and "<b>" not in page
    assert page.count("not measured</td>") == 2 * 4  # two devices, each with one of two models, in four cases
    for word in [*board.COLUMNS, *schema.load()["properties"]["flags"]["items"]["enum"]]:
        assert f"<dt>{word}</dt>" in page
    assert page.count("<polyline") == 2  # no temperature is told here: there is no curve of it


def test_a_plan_needs_a_package(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no \.edge file"):
        plan.make(tmp_path, OPTIONS, 35, 1)


@pytest.mark.parametrize(
    "command", ["logits 1,x 5", "logits 1 ,", "logits 99999 5", "open 1", "stretch 1", "cool a 1"]
)
def test_wrong_commands_are_answered(command: str, model: Path) -> None:
    program = machine.native_program()
    if program is None:
        pytest.skip("edgekit_bench is not built (make bench)")
    with Child("device", [program]) as child:
        child.ask("open", 1, "f32", 64, model)
        with pytest.raises(BenchmarkFailed, match=r"not a command|no such id"):
            child.ask(command)
        assert child.ask("ready") == {}
