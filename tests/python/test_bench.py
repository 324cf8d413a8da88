"""The benchmark measures what it says, in processes apart, and compares only what can be compared."""

from __future__ import annotations

import errno
import functools
import hashlib
import html
import html.parser
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import edgekit
from edgekit.bench import comparison, machine, peers, protocol, report, schema
from edgekit.bench import result as results
from edgekit.bench import rows as bench_rows
from edgekit.bench.child import BenchmarkFailed, Child, python_argv
from edgekit.bench.cost import Cost, parameters
from edgekit.cli import cli as program
from edgekit.cli.bench import command
from edgekit.engines.edge import isas
from edgekit.errors import InvalidFile, UsageError

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "model"
GOLDEN = ROOT / "tests" / "golden" / "engine"
TEXT = GOLDEN / "text.edge"
OPTIONS = protocol.Options(prompts=(5, 9), decode=3, depths=(0, 20), threads=1, kv="int8", repetitions=2)


@pytest.fixture
def no_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "native_program", lambda: None)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "native_program", lambda: None)
        return protocol.run(TEXT, OPTIONS)


@pytest.fixture(params=["python", "native"])
def our_argv(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "python":
        return python_argv("edgekit")
    program = machine.native_program()
    if program is None:
        pytest.skip("edgekit_bench is not built (make bench)")
    return [program]


def our_settings(argv: list[str]) -> str:
    return '{"kv":"int8"}' if len(argv) > 1 else "int8"


# ---- one process -------------------------------------------------------------------------------------------


def test_a_process_measures(our_argv: list[str]) -> None:
    with Child("ours", our_argv) as child:
        assert child.ask("ready") == {}
        opened = child.ask("open", 1, our_settings(our_argv), 64, TEXT)
        assert opened["threads"] == 1 and opened["version"] == edgekit.__version__ and opened["load_ms"] > 0
        assert opened["slots"] == 64 and opened["isa"] in isas()
        with edgekit.Model(TEXT) as model:
            assert opened["cache_bytes"] == model.plan(window=60, kv="int8").cache_bytes
        for depth in (20, 0, 30, 7):  # forward, and back
            child.ask("fill", depth)
            measured = child.ask("measure", 5, 3)
            assert measured["decoded"] == 3 and measured["ttft_ms"] > 0 and measured["decode_ms"] > 0


def test_a_process_reports_errors_and_lives_on(our_argv: list[str]) -> None:
    with Child("ours", our_argv) as child:
        for words in (["measure", 5, 3], ["open", 1, our_settings(our_argv), 64, "/no/such.edge"], ["dance"]):
            with pytest.raises(BenchmarkFailed, match=r"^ours: "):
                child.ask(*words)
        assert child.ask("ready") == {}


def test_the_end_of_a_process_is_an_error_with_its_last_words() -> None:
    argv = [sys.executable, "-c", "raise SystemExit('no model today')"]
    with Child("gone", argv) as child, pytest.raises(BenchmarkFailed, match=r"gone: its .* no model today"):
        child.ask("ready")


def test_memory_is_of_the_process_alone(our_argv: list[str]) -> None:
    with Child("ours", our_argv) as child:
        child.ask("ready")
        before = child.memory()
        if before is None:
            pytest.skip("no /proc on this system")
        child.ask("open", 1, our_settings(our_argv).replace("int8", "f32"), 60000, TEXT)
        child.ask("fill", 30000)
        after = child.memory()
        cache = edgekit.Model(TEXT).plan(window=60000, kv="f32").cache_bytes
        assert after is not None and after.anonymous_bytes - before.anonymous_bytes > cache // 3
        assert after.peak_bytes >= after.anonymous_bytes


# ---- the machine -------------------------------------------------------------------------------------------


def test_the_machine_is_measured() -> None:
    program = machine.native_program()
    if program is None:
        pytest.skip("edgekit_bench is not built (make bench)")
    with Child("the machine", [program]) as child:
        probe = child.ask("machine", 1)
    assert 1e8 < probe["clock_hz"] < 1e10 and 1e8 < probe["read_bytes_s"] < 1e12
    assert probe.get("dot_macs_s", 1e12) > probe["clock_hz"]


def test_files_leave_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(bytes(1 << 20))
    assert machine._cached_share(path) > 0.9
    if not machine.drop_from_cache(path):
        pytest.skip("this file system keeps what it has read")
    assert machine._cached_share(path) < 0.01


def test_movement() -> None:
    still = [{"clock_hz": 3.0e9, "read_bytes_s": 2.0e10}, {"clock_hz": 3.1e9, "read_bytes_s": 2.1e10}]
    assert machine.movements(still) == {} and machine.movements([]) == {}
    assert machine.movements([*still, {"clock_hz": 2.0e9}]) == {"clock_hz": pytest.approx(0.55)}


# ---- what a token costs ------------------------------------------------------------------------------------


def test_costs_follow_the_shape() -> None:
    cost = Cost.of(TEXT)
    spec = cost.spec
    body = sum(
        2 * layer.n_heads * layer.head_dim * spec.d_model
        + 2 * layer.n_kv_heads * layer.head_dim * spec.d_model
        + 3 * layer.d_ff * spec.d_model
        for layer in spec.layers
    )
    head = spec.vocab_size * spec.d_model
    assert spec.gated and cost.body_macs == body and cost.head_macs == head
    assert cost.n_parameters == body + head * (1 if spec.tied else 2)
    with edgekit.Model(TEXT) as model:
        assert 0 < cost.weight_bytes <= model.weight_bytes
    *layers, end = spec.layers
    last = 2 * end.n_heads * end.head_dim * spec.d_model + 3 * end.d_ff * spec.d_model
    assert cost.last_macs == last
    scores = sum(2 * layer.n_heads * layer.head_dim for layer in layers)
    assert cost.prefill_macs(1, 11) == body + head + 12 * (scores + 2 * end.n_heads * end.head_dim)
    assert cost.prefill_macs(2, 10) == cost.prefill_macs(1, 11) + body - last + 11 * scores
    assert cost.decode_bytes(32, 6400, 64) == cost.weight_bytes + 3200


def test_windows_and_experts_cost_what_is_used() -> None:
    windows = Cost.of(GOLDEN / "windows.edge")
    least = min(layer.window for layer in windows.spec.layers if layer.window)
    added = windows.prefill_macs(1, 10 * least + 1) - windows.prefill_macs(1, 10 * least)
    assert added == sum(
        2 * layer.n_heads * layer.head_dim for layer in windows.spec.layers if not layer.window
    )
    experts = Cost.of(GOLDEN / "experts.edge")
    assert experts.body_macs + experts.head_macs < experts.n_parameters


# ---- a whole run -------------------------------------------------------------------------------------------


def test_a_run_has_every_row(result: dict[str, Any]) -> None:
    assert [(row["depth"], row["prompt"]) for row in result["rows"]] == [(0, 5), (0, 9), (20, 5), (20, 9)]
    for row in result["rows"]:
        for name in protocol.METRICS:
            values = row["samples"][name]
            assert len(values) == OPTIONS.repetitions and min(values) > 0
            assert row["min"][name] == min(values) <= row[name] <= max(values) == row["max"][name]
        for tok_s, ms in zip(row["samples"]["prefill_tok_s"], row["samples"]["ttft_ms"], strict=True):
            assert tok_s * ms == pytest.approx(1e3 * row["prompt"])
    warm = [load for load in result["loads"] if load["cache"] == "warm"]
    assert len(warm) == 1 and warm[0]["open_to_first_token_ms"] > warm[0]["load_ms"] > 0
    (engine,) = result["engines"].values()
    assert engine["driver"] == "python" and engine["file_bytes"] == TEXT.stat().st_size
    assert json.loads(json.dumps(result)) == json.loads(json.dumps(result, allow_nan=False))


def test_without_the_native_program_the_limits_are_unknown_and_said_so(result: dict[str, Any]) -> None:
    assert result["device"]["read_bytes_s"] is None and result["rows"][0]["bandwidth_fraction"] is None
    assert any("make bench" in text for text in report.warnings(result))


def test_fractions_are_of_what_was_measured_beside_or_else_of_the_best() -> None:
    probes = [{"read_bytes_s": 1e9, "dot_macs_s": 1e9}, {"read_bytes_s": 2e9, "dot_macs_s": 4e9}]
    samples = {"ttft_ms": [10.0, 20.0, 30.0], "decode_tok_s": [100.0, 50.0, 60.0]}
    row = {"depth": 0, "prompt": 5, "decode": 4, "samples": samples}
    engine = {"cache_bytes": 640, "slots": 64}
    fractions = functools.partial(bench_rows.fractions, cost=Cost.of(TEXT), probes=probes)
    read, macs = Cost.of(TEXT).decode_bytes(7, 640, 64), Cost.of(TEXT).prefill_macs(5, 0)
    found = fractions(row, [{}, {}, {}], engine)
    assert found["bandwidth_fraction"] == pytest.approx(60 * read / 2e9)
    assert found["dot_peak_fraction"] == pytest.approx(macs / 20e-3 / 4e9)
    assert fractions(row, [{}, {}, {}], {})["bandwidth_fraction"] is None
    beside = [{"machine": {"read_bytes_s": limit, "dot_macs_s": limit}} for limit in (4e9, 1e9, 3e9)]
    found = fractions(row, beside, engine)
    assert found["bandwidth_fraction"] == pytest.approx(100 * read / 4e9)
    assert found["dot_peak_fraction"] == pytest.approx(macs / 10e-3 / 4e9)


def test_sustained_draws_a_curve(no_native: None) -> None:
    options = protocol.Options(
        prompts=(2,), decode=2, threads=1, repetitions=1, sustained_minutes=0.002, kv="int8"
    )
    result = protocol.run(TEXT, options)
    (points,) = result["sustained"].values()
    assert points and all(point["decode_tok_s"] > 0 for point in points)
    assert "<polyline" in report.html_page(result)


# ---- peers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", peers.names())
def test_a_peer_says_what_it_needs(name: str) -> None:
    module = __import__(f"edgekit.bench.peers.{name}", fromlist=["Engine"])
    assert module.MODULE and module.INSTALL and module.SETTINGS
    assert {"CHECKPOINT", "MODEL"} <= set(module.CONVERT.split())
    for method in ("truncate", "append", "generate"):
        assert callable(getattr(module.Engine, method))


def test_peers_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no engine 'ghost'; there are: edgekit, "):
        protocol.contenders(TEXT, "auto", ["ghost"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="llama_cpp is not installed") as caught:
        protocol.contenders(TEXT, "auto", ["llama_cpp"])
    assert "pip install" in str(caught.value.hint)


def test_a_peer_needs_its_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    model = tmp_path / "m.edge"
    with pytest.raises(InvalidFile, match=r"m\.gguf: no such model for llama_cpp") as caught:
        protocol.contenders(model, "auto", ["llama_cpp"])
    assert "edgekit convert" in str(caught.value.hint)
    (tmp_path / "m.gguf").touch()
    found = protocol.contenders(model, "auto", ["llama_cpp"])
    assert [one.engine for one in found] == ["edgekit", "llama_cpp", "llama_cpp", "llama_cpp"]
    assert len({one.label for one in found}) == 4


def test_a_peer_may_come_with_several_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    (tmp_path / "other").mkdir()
    paths = [tmp_path / "a.gguf", tmp_path / "b.gguf", tmp_path / "other" / "b.gguf"]
    for path in paths:
        path.touch()
    wanted = [f"llama_cpp={path}" for path in paths]
    found = protocol.contenders(TEXT, "auto", [*wanted, wanted[0]])
    assert len(found) == len({one.label for one in found}) == 1 + 3 * 3
    assert {one.title for one in found} == {"", "a", str(paths[1]), str(paths[2])}
    assert {one.title for one in protocol.contenders(TEXT, "auto", wanted[:1])} == {""}


def test_another_package_of_ours_is_a_peer(tmp_path: Path) -> None:
    other = tmp_path / "other.edge"
    other.touch()
    found = protocol.contenders(TEXT, "int8", [f"edgekit={other}"])
    assert [(one.model, one.settings) for one in found] == [(TEXT, {"kv": "int8"}), (other, {"kv": "int8"})]
    assert len({one.label for one in found}) == 2


EXPORTERS = {"llama_cpp": "gguf", "executorch": "torch", "litert_lm": "litert_torch"}
MINUTES = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("EDGEKIT_SLOW"), reason="takes minutes; EDGEKIT_SLOW=1 runs it"),
]
SLOW = [pytest.param(name, marks=MINUTES) for name in ("executorch", "litert_lm")]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The sample model for a peer that is here."""

    @functools.cache
    def made(name: str) -> Path:
        module = peers.load(name)
        target = tmp_path_factory.mktemp(name) / f"m{module.SUFFIX}"
        words = {"CHECKPOINT": str(SAMPLE), "MODEL": str(target), "python": sys.executable}
        command = [words.get(word, word) for word in module.CONVERT.split()]
        if command[0] == "edgekit":
            command[:1] = [sys.executable, "-m", "edgekit"]
        subprocess.run(command, cwd=ROOT, check=True)
        return target

    def made_if_here(name: str) -> Path:
        if name in EXPORTERS:
            pytest.importorskip(EXPORTERS[name])
        try:
            return made(name)
        except UsageError as error:
            pytest.skip(str(error))

    return made_if_here


@pytest.mark.parametrize("name", ["llama_cpp", "onnxruntime_genai", *SLOW])
def test_a_peer_measures(name: str, make: Callable[[str], Path], tmp_path: Path, no_native: None) -> None:
    ours, theirs = tmp_path / "m.edge", make(name)
    edgekit.convert(SAMPLE, ours, scheme="q4", verify=False)
    wanted = protocol.Options(prompts=(6,), decode=3, depths=(0, 12), threads=1, repetitions=1)
    result = protocol.run(ours, wanted, [f"{name}={theirs}"])
    measured = [row for row in result["rows"] if row["engine"].startswith(name)]
    settings = peers.load(name).SETTINGS
    assert len(measured) == 2 * len(settings) and all(row["decode_tok_s"] > 0 for row in measured)
    titles = [title for title, _ in report.text_tables(result)]
    assert "edgekit over the best setting of each peer" in titles


@pytest.mark.parametrize("name", SLOW)
def test_a_peer_computes_our_checkpoint(name: str, make: Callable[[str], Path], tmp_path: Path) -> None:
    theirs = make(name)
    edgekit.convert(SAMPLE, tmp_path / "m.edge", scheme="f32", verify=False)
    with edgekit.Model(tmp_path / "m.edge") as model, model.session() as session:
        ids = list(model.tokenizer.encode("Once upon a time, there was a little girl named Lily. She had a"))
        first_choices = session.forward(ids).argmax(axis=1)
    peers.load(name).prepare()
    engine = peers.load(name).Engine(str(theirs), 1, 64)
    same = 0
    for count, expected in enumerate(first_choices, start=1):
        engine.truncate(0)
        (token,) = engine.tokens(ids[:count], 1)
        same += token == expected
    assert same >= 0.8 * len(ids)


# ---- comparing ---------------------------------------------------------------------------------------------


def changed(result: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(result))
    change(copy)
    return copy


def test_a_ratio_and_its_interval(result: dict[str, Any]) -> None:
    def twice(document: dict[str, Any]) -> None:
        for row in document["rows"]:
            row["decode_tok_s"] *= 2
            row["samples"]["decode_tok_s"] = [2 * value for value in row["samples"]["decode_tok_s"]]

    before = json.loads(json.dumps(result))
    rows = comparison.compare(before, changed(result, twice))
    assert len(rows) == 3 * len(result["rows"])
    for row in rows:
        assert row["ratio"] == pytest.approx(2 if row["metric"] == "decode_tok_s" else 1)
        assert row["low"] <= row["ratio"] <= row["high"]


def test_an_interval_narrows_with_agreement() -> None:
    assert comparison.interval([10, 10, 10], [20, 20, 20]) == (2, 2)
    low, high = comparison.interval([10, 11, 12, 10, 11], [20, 22, 30, 21, 20])
    assert low < 2 < high < 3.1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["device"].update(cpu="another"), "the devices differ: cpu"),
        (lambda d: d["options"].update(threads=64), "threads differ"),
        (
            lambda d: d["gate"].update(moved={"clock_hz": 0.4}),
            "clock_hz moved by 40% during the second run",
        ),
        (lambda d: d["device"].update(clock_hz=2e9), "clock_hz moved by 50% between the runs"),
    ],
)
def test_what_cannot_be_compared(result: dict[str, Any], change: Any, reason: str) -> None:
    before = changed(result, lambda document: document["device"].update(clock_hz=3e9))
    after = changed(before, change)
    with pytest.raises(UsageError, match=reason):
        comparison.compare(before, after)
    assert comparison.compare(before, after, force=True)


def test_a_time_of_zero_has_no_ratio(result: dict[str, Any]) -> None:
    still = changed(result, lambda d: d["rows"][0]["samples"]["decode_tok_s"].__setitem__(0, 0.0))
    for pair, which in (((still, result), "first"), ((result, still), "second")):
        with pytest.raises(UsageError, match=rf"the {which} result has decode_tok_s 0 at depth 0, prompt 5"):
            comparison.compare(*pair, force=True)


DEEP = "[" * 100_000


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '"text"', "\x00", DEEP])
def test_a_file_that_is_no_result(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InvalidFile, match=r"r\.json"):
        results.read(path)


# ---- the schema --------------------------------------------------------------------------------------------


def test_a_result_is_what_the_schema_says(result: dict[str, Any]) -> None:
    assert not schema.faults(json.loads(json.dumps(result)))
    assert result["model"]["sha256"] == hashlib.sha256(TEXT.read_bytes()).hexdigest()
    assert result["energy"]["joules_per_token"] is None and result["energy"]["reason"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: d.pop("energy"), "the document: has no energy"),
        (lambda d: d.update(speed=3), "the document: has speed, which is not known"),
        (lambda d: d["rows"][0].update(depth=-1), "rows[0].depth: is -1, at least 0"),
        (lambda d: d["rows"][1].update(prompt="5"), 'rows[1].prompt: is "5", no integer'),
        (lambda d: d["rows"][0]["samples"].update(ttft_ms=[]), "rows[0].samples.ttft_ms: has 0 items"),
        (lambda d: d["device"].update(kind="toaster"), 'device.kind: is "toaster", none of'),
        (lambda d: d["model"].update(sha256="ab"), 'model.sha256: is "ab", not of the form'),
        (lambda d: d.update(flags=["fast"]), 'flags[0]: is "fast", none of'),
        (lambda d: d["options"].update(decode=True), "options.decode: is true, no integer"),
        (lambda d: d["rows"][0]["min"].pop("ttft_ms"), "rows[0].min: has no ttft_ms"),
        (lambda d: d["rows"][0]["samples"].pop("ttft_ms"), "rows[0].samples: has no ttft_ms"),
    ],
)
def test_what_is_no_result(result: dict[str, Any], tmp_path: Path, change: Any, fault: str) -> None:
    document = changed(result, change)
    assert any(found.startswith(fault) for found in schema.faults(document)), schema.faults(document)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results.sign(document)))
    with pytest.raises(InvalidFile, match=re.escape(fault)):
        results.read(path)


@pytest.mark.parametrize(
    "change",
    [lambda d: d["rows"][0].update(engine="ghost"), lambda d: d["sustained"].update(ghost=[])],
)
def test_figures_of_no_engine(result: dict[str, Any], tmp_path: Path, change: Any) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results.sign(changed(result, change))))
    with pytest.raises(InvalidFile, match=r"r\.json: .* figures of 'ghost', no engine of it: edgekit "):
        results.read(path)


def test_the_schema_uses_only_what_is_checked_and_explains_its_members() -> None:
    def parts(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            yield schema
            for name in ("properties", "$defs"):
                for inner in schema.get(name, {}).values():
                    yield from parts(inner)
            for name in ("items", "additionalProperties"):
                yield from parts(schema.get(name))

    assert {word for part in parts(schema.load()) for word in part} <= schema.KEYWORDS
    assert all("description" in part for part in schema.load()["properties"].values() if "const" not in part)
    assert (ROOT / "docs" / "results-schema.json").resolve() == Path(schema.__file__).with_name(
        "results-schema.json"
    )


def test_a_signature_tells_that_something_changed(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(result))
    assert results.read(path) == json.loads(json.dumps(result))
    path.write_text(json.dumps(changed(result, lambda d: d["rows"][0].update(decode_tok_s=1e6))))
    with pytest.raises(InvalidFile, match="changed after it was measured"):
        results.read(path)


def test_a_result_of_version_1_is_read(result: dict[str, Any], tmp_path: Path) -> None:
    """As bench wrote it before there was a schema."""

    def as_it_was(document: dict[str, Any]) -> None:
        document["machine"] = document.pop("device") | document.pop("gate")
        for name in ("kind", "name", "page_bytes", "golden"):
            document["machine"].pop(name)
        for name in ("build", "energy", "flags", "signature"):
            document.pop(name)
        for name in ("file_bytes", "sha256", "quality"):
            document["model"].pop(name)
        document["version"] = 1

    path = tmp_path / "r.json"
    path.write_text(json.dumps(changed(result, as_it_was)))
    read = results.read(path)
    assert read["version"] == 2 and not schema.faults(read)
    assert read["device"]["kind"] == "host" and read["rows"] == json.loads(json.dumps(result["rows"]))
    assert all(row["ratio"] == 1 for row in comparison.compare(read, json.loads(json.dumps(result))))
    path.write_text('{"version": 3}')
    with pytest.raises(InvalidFile, match="of version 3"):
        results.read(path)


def curve(*speeds: float, **more: Any) -> list[dict[str, Any]]:
    return [
        {"minute": i / 6, "decode_tok_s": speed, "seconds": 10.0, "tokens": 10 * speed, **more}
        for i, speed in enumerate(speeds)
    ]


def test_flags_say_what_happened() -> None:
    still = {
        "device": {},
        "gate": {"moved": {}, "golden": {"passed": True}},
        "sustained": {"edgekit": curve(20, 20, 20, 20, 19)},
    }
    assert results.flags(still) == []
    hot = {
        "device": {"charging": True, "hot_start": True, "hidden": True},
        "gate": {"moved": {"clock_hz": 0.3}, "golden": {"passed": False}},
        "sustained": {"edgekit": curve(20, 20, 19, 15, 12)},
    }
    assert results.flags(hot) == ["moved", "wrong", "throttled", "charging", "hot_start", "hidden"]
    assert not results.throttled(curve(20, 10))  # two points are no curve


def test_energy_has_a_method_or_a_reason() -> None:
    found = results.energy("adb", curve(20, 20, milliwatts=4000.0, charging=False))
    assert found["joules_per_token"] == pytest.approx(4.0 / 20) and "current_now" in found["method"]
    for kind, points, reason in [
        ("browser", curve(20, milliwatts=None), "a browser does not"),
        ("adb", [], "no sustained run"),
        ("adb", curve(20, milliwatts=4000.0, charging=True), "the cable was in"),
        ("adb", curve(20, milliwatts=None, charging=False), "does not show the battery's current"),
        ("adb", curve(20, milliwatts=4.0, charging=False), "not in the units"),
    ]:
        found = results.energy(kind, points)
        assert found["joules_per_token"] is None and found["method"] is None and reason in found["reason"]


# ---- the report --------------------------------------------------------------------------------------------


def test_the_page_stands_alone(result: dict[str, Any]) -> None:
    page = report.html_page(changed(result, lambda document: document["model"].update(name="<b>&m")))
    assert "@" not in page.split("</style>")[1] and "<script" not in page and "http" not in page
    assert "&lt;b&gt;&amp;m" in page and "<b>" not in page
    html.parser.HTMLParser().feed(page)
    assert page.count("<figure>") == 2 * len(OPTIONS.depths)
    assert page.count("<div class=bar>") == 2 * len(OPTIONS.depths) * len(OPTIONS.prompts)


def test_the_page_says_what_was_measured_and_what_its_words_mean(result: dict[str, Any]) -> None:
    page = html.unescape(report.html_page(result))
    assert report.command(result) in page and "text.edge" in page
    for words in (
        "2, of all engines in turn",
        result["device"]["system"],
        result["model"]["scheme"],
        "K parameters",
    ):
        assert words in page
    for title, (head, *_) in report.text_tables(result):
        for word in ("of peak", "of read", "anonymous", "in files", "depth"):
            assert word not in head or f"<dt>{word}</dt>" in page, title


def test_the_command_measures_the_same_again(result: dict[str, Any]) -> None:
    name, verb, *arguments = shlex.split(report.command(result))
    assert (name, verb, arguments[0]) == ("edgekit", "bench", "text.edge")
    context = command.make_context("bench", arguments, click.Context(program, **program.context_settings))
    assert {name: context.params[name] for name in ("prompts", "depths", "decode", "repetitions")} == {
        name: getattr(OPTIONS, name) for name in ("prompts", "depths", "decode", "repetitions")
    }


def test_the_page_stretches(result: dict[str, Any]) -> None:
    """Nothing has a width in pixels, and what is wide scrolls by itself."""
    curve = [{"minute": 0.0, "decode_tok_s": 9.0}, {"minute": 2.0, "decode_tok_s": 8.0}]
    page = report.html_page(
        changed(result, lambda document: document.update(sustained={"edgekit kv=int8": curve}))
    )
    drawing = xml.fromstring("<svg" + page.split("<svg")[1].split("</svg>")[0] + "</svg>")
    assert drawing.get("viewBox") and not drawing.get("width") and len(drawing.findall("polyline")) == 1
    tables = page.count("<table>")
    assert tables == page.count("<div class=scroll><table>") + page.count('<div class="scroll"><table>') + 1


# ---- models that are not one -------------------------------------------------------------------------------


def other_sized(document: dict[str, Any]) -> None:
    """A peer beside ours, whose model has ten times the parameters."""
    (ours,) = document["engines"].values()
    count = 10 * document["model"]["n_parameters"]
    document["engines"]["llama_cpp"] = ours | {
        "engine": "llama_cpp",
        "n_parameters": count,
        "other_model": True,
    }
    rows = [row | {"engine": "llama_cpp", "other_model": True} for row in document["rows"]]
    document["rows"] = document["rows"] + rows


def test_another_model_is_said_loudly(result: dict[str, Any]) -> None:
    document = changed(result, other_sized)
    assert any("ran ANOTHER MODEL" in text for text in report.warnings(document))
    tables = dict(report.text_tables(document))
    assert any(row[0] == "llama_cpp (ANOTHER MODEL)" for row in tables[""])
    (ratios,) = (table for title, table in tables.items() if "best setting" in title)
    assert {cell for row in ratios[1:] for cell in row[3:]} == {"another model"}
    assert report.html_page(document).count("ran ANOTHER MODEL") == 1
    assert not any("ANOTHER" in text for text in report.warnings(result))


def test_parameters_are_read_where_a_model_tells_them(tmp_path: Path) -> None:
    ours = Cost.of(TEXT).n_parameters
    run = protocol._Run(Cost.of(TEXT), OPTIONS, [], lambda *_: None)
    assert run._is_ours(ours, 0) and run._is_ours(int(1.05 * ours), 0) and not run._is_ours(2 * ours, 0)
    assert run._is_ours(None, ours // 2) and not run._is_ours(None, 20 * ours)
    count = parameters(SAMPLE)
    assert count is not None and 5.4e6 < count < 5.6e6
    config = json.loads((SAMPLE / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"quantization": {"bits": 4, "group_size": 64}})
    )
    assert parameters(tmp_path) == count
    (tmp_path / "m.pte").write_bytes(b"a program")
    assert parameters(tmp_path / "m.pte") is None


# ---- the command line --------------------------------------------------------------------------------------


def cli(*arguments: object) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "edgekit", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "EDGEKIT_BENCH": ""},
    )


def test_the_command(tmp_path: Path) -> None:
    out, page = tmp_path / "r.json", tmp_path / "r.html"
    small = ("--prompt", "4", "--decode", "2", "--repetitions", "1", "--threads", "1")
    done = cli(TEXT, *small, "--out", out, "--html", page, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {"prefill_tok_s", "decode_tok_s", "ttft_ms"} <= document["rows"][0].keys()
    assert results.read(out) == document and page.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]
    compared = cli("diff", out, out, "--force", "--json")
    assert compared.returncode == 0, compared.stderr
    assert {row["ratio"] for row in json.loads(compared.stdout)["rows"]} == {1.0}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--prompt", "a"], 2),
        (["--prompt", "0"], 2),
        (["--depth", "-1"], 2),
        (["--peer", "ghost"], 2),
        (["--decode", "0"], 2),
    ],
)
def test_wrong_options(arguments: list[str], code: int) -> None:
    done = cli(TEXT, *arguments)
    assert done.returncode == code and done.stdout == "" and "Error" in done.stderr + done.stderr.title()


@pytest.mark.parametrize("verb", [(TEXT, "--out"), (TEXT, "--html"), ("report", TEXT, "-o")])
@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("none/r.json", "none is no directory; create it first"),
        ("folder", "folder is a directory; give the name of a file"),
        ("pipe", "pipe is a device or a pipe"),
        ("file/r.json", "file is no directory"),
    ],
)
def test_where_no_result_can_be_written(
    tmp_path: Path, verb: tuple[object, ...], target: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before anything is opened or measured."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(results, "read", None)
    monkeypatch.setattr(protocol, "run", None)
    arguments = [str(word) for word in (*verb, tmp_path / target)]
    done = CliRunner().invoke(program, ["bench", *arguments])
    assert isinstance(done.exception, UsageError) and why in str(done.exception), done.exception
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "pipe"]


def test_a_disk_mounted_for_reading_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(protocol, "run", None)
    done = CliRunner().invoke(program, ["bench", str(TEXT), "--out", str(tmp_path / "r.json")])
    assert "r.json: cannot write there: Read-only file system" in str(done.exception)


def test_wrong_files(tmp_path: Path) -> None:
    text = tmp_path / "m.edge"
    text.write_text("no package")
    assert cli(text).returncode == 4 and cli(tmp_path / "none.edge").returncode == 4
    assert cli("diff", text, text).returncode == 4


def test_a_result_that_has_no_place_is_refused_before_the_run(tmp_path: Path) -> None:
    for name, fault in (("no/r.json", "is no directory"), (".", "is a directory")):
        for option in ("--out", "--html"):
            done = cli(tmp_path / "none.edge", option, tmp_path / name)
            assert done.returncode == 2 and fault in done.stderr
