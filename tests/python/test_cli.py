"""The command line as a user meets it: streams, exit codes, JSON, interruptions."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import tiny_chat_model

import edgekit
from edgekit.cli import Verbs, cli
from edgekit.cli._options import Size
from edgekit.cli._wrap import Writer
from edgekit.converters.formats import edge

VERBS = cli.list_commands(None)  # type: ignore[arg-type]
SHARED = Path(os.environ.get("EDGEKIT_SHARED") or Path(__file__).parents[3] / "shared")


def edgekit_cli(
    *arguments: str | bytes | Path, stdin: bytes = b"", cwd: Path | None = None, **options: Any
) -> Any:
    command = [sys.executable, "-m", "edgekit", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, cwd=cwd, timeout=120, check=False, **options
    )


def error_of(result: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)["error"]
    assert document["exit_code"] == result.returncode
    return document


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny` (a checkpoint), `tiny.edge` (f32) and `plain.edge` (no chat template)."""
    place = tmp_path_factory.mktemp("cli")
    tiny_chat_model.write(place / "tiny")
    edgekit.convert(place / "tiny", place / "tiny.edge", scheme="f32")
    tiny_chat_model.write(place / "plain", template=None)
    edgekit.convert(place / "plain", place / "plain.edge", scheme="f32")
    return place


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A checkpoint whose conversion takes long enough to be interrupted."""
    return tiny_chat_model.write(
        tmp_path / "big", hidden_size=512, intermediate_size=2048, num_hidden_layers=12, head_dim=128
    )


# ---- verbs and help ----------------------------------------------------------------------------------------


def test_verbs_are_the_files() -> None:
    assert {"chat", "convert", "inspect", "run", "synth", "verify"} <= set(VERBS)
    assert isinstance(cli, Verbs)


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_complete(verb: str) -> None:
    command = cli.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{verb} {parameter.name}"
    assert f"edgekit {verb}" in (command.help or ""), "no example"
    assert any(parameter.name == "as_json" for parameter in command.params), "no --json"


def test_help_does_not_wait_for_the_engine() -> None:
    code = (
        "import sys; from edgekit.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "heavy = {'numpy', 'onnx', 'huggingface_hub', 'rich', 'jinja2'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert all(verb in result.stdout.decode() for verb in VERBS)


def test_version() -> None:
    assert edgekit_cli("--version").stdout.decode() == f"edgekit {edgekit.__version__}\n"


def test_an_unknown_verb_proposes_the_nearest() -> None:
    result = edgekit_cli("convrt", "x")
    assert result.returncode == 2 and b"Did you mean 'convert'?" in result.stderr and result.stdout == b""
    assert edgekit_cli("run").returncode == 2
    assert error_of(edgekit_cli("run", "--no-such-option", "--json"))["kind"] == "UsageError"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("65536", 65536),
        ("256MiB", 256 << 20),
        ("256M", 256 << 20),
        ("1.5GB", 1_500_000_000),
        ("2 kib", 2048),
        ("10b", 10),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert Size().convert(text, None, None) == count


# ---- run ---------------------------------------------------------------------------------------------------


def test_run_prints_the_text_alone(place: Path) -> None:
    arguments = ("run", place / "plain.edge", "Hello", "-n", "20", "--seed", "5", "--ignore-eos")
    result = edgekit_cli(*arguments)
    assert result.returncode == 0 and result.stderr == b""
    with edgekit.Model(place / "plain.edge") as model:
        events = model.session().generate(
            "Hello", max_tokens=20, seed=5, ignore_eos=True, temperature=0.7, top_k=20
        )
        assert result.stdout.decode() == "".join(event.text for event in events)
    assert edgekit_cli(*arguments).stdout == result.stdout
    assert edgekit_cli(*arguments, "--echo").stdout == b"Hello" + result.stdout


def test_run_reads_stdin(place: Path) -> None:
    common = ("-n", "12", "--temperature", "0", "--ignore-eos")
    direct = edgekit_cli("run", place / "plain.edge", "Grüße", *common)
    piped = edgekit_cli("run", place / "plain.edge", "-", *common, stdin="Grüße".encode())
    assert direct.stdout == piped.stdout != b""


def test_run_json(place: Path) -> None:
    result = edgekit_cli("run", place / "tiny.edge", "Hi", "-n", "8", "--ignore-eos", "--json")
    document = json.loads(result.stdout)
    assert len(document["tokens"]) == 8 == document["generated_tokens"] and document["finish"] == "length"
    again = edgekit_cli(
        "run", place / "tiny.edge", "Hi", "-n", "8", "--ignore-eos", "--json", "--seed", str(document["seed"])
    )
    assert json.loads(again.stdout)["tokens"] == document["tokens"]


def test_run_uses_the_chat_template_unless_raw(place: Path) -> None:
    def prompt_tokens(*arguments: str) -> int:
        result = edgekit_cli("run", place / "tiny.edge", "Hi", "-n", "1", "--json", *arguments)
        count: int = json.loads(result.stdout)["prompt_tokens"]
        return count

    with edgekit.Model(place / "tiny.edge") as model:
        rendered = model.render_chat([{"role": "user", "content": "Hi"}])
        assert prompt_tokens() == len(model.tokenizer.encode(rendered, add_special_tokens=False))
    assert prompt_tokens("--raw") == 3
    assert prompt_tokens("--system", "Be brief.") > prompt_tokens()
    assert edgekit_cli("run", place / "plain.edge", "--system", "x").returncode == 2


def test_run_on_token_ids(place: Path) -> None:
    result = edgekit_cli("run", place / "tiny.edge", "256, 72 105", "--ids", "-n", "5", "--ignore-eos")
    assert len([int(part) for part in result.stdout.split()]) == 5
    assert edgekit_cli("run", place / "tiny.edge", "one two", "--ids").returncode == 2


def test_run_says_when_tokens_leave_the_cache(place: Path) -> None:
    result = edgekit_cli(
        "run",
        place / "plain.edge",
        "Hello",
        "-n",
        "60",
        "--window",
        "32",
        "--ignore-eos",
        "--temperature",
        "1",
    )
    assert result.returncode == 0 and result.stderr.count(b"cache is full") == 1


@pytest.mark.parametrize("options", [["--kv", "f32"], ["--kv", "int8"], ["--kv", "int4"], ["--threads", "1"]])
def test_run_takes_session_options(place: Path, options: list[str]) -> None:
    result = edgekit_cli("run", place / "tiny.edge", "Hi", "-n", "4", "--ignore-eos", "--json", *options)
    document = json.loads(result.stdout)
    assert (
        (document["threads"] == 1)
        if "--threads" in options
        else (document["memory_plan"]["kv"] == options[1])
    )


def test_a_budget_that_is_too_small_exits_6_and_names_one_that_does(place: Path) -> None:
    result = edgekit_cli("run", place / "tiny.edge", "Hi", "--memory-budget", "1KiB", "--json")
    error = error_of(result)
    assert result.returncode == 6 and error["kind"] == "OutOfBudget"
    assert b"error: " in result.stderr
    budget = str(error["needed_bytes"])
    assert edgekit_cli("run", place / "tiny.edge", "Hi", "-n", "1", "--memory-budget", budget).returncode == 0


def test_prompts_that_are_not_utf_8(place: Path) -> None:
    result = edgekit_cli("run", place / "tiny.edge", b"caf\xe9")
    assert result.returncode == 2 and b"UTF-8" in result.stderr
    result = edgekit_cli("run", place / "tiny.edge", "-", stdin=b"caf\xe9")
    assert result.returncode == 4 and b"0xe9" in result.stderr


def test_models_that_cannot_be_run(place: Path, tmp_path: Path) -> None:
    assert edgekit_cli("run", tmp_path / "missing.edge", "Hi").returncode == 4
    result = edgekit_cli("run", tmp_path, "Hi")
    assert result.returncode == 2 and b"config.json" in result.stderr
    whole = (place / "tiny.edge").read_bytes()
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.edge").write_bytes(whole[:cut])
        result = edgekit_cli("run", tmp_path / "cut.edge", "Hi", "--json")
        assert result.returncode == 4 and error_of(result)["kind"] == "InvalidFile", cut


def interrupt(process: subprocess.Popen[bytes], ready: Callable[[], object]) -> tuple[bytes, bytes, float]:
    """Sends Ctrl-C once `ready()`; (stdout, stderr, seconds until the end)."""
    deadline = time.monotonic() + 60
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return out, err, time.monotonic() - started


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgekit", *arguments]
    return subprocess.Popen(
        command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c
    )


def heed_ctrl_c() -> None:
    """In the child: a shell's background jobs, and so their children, are born deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_a_text(place: Path) -> None:
    process = start("run", place / "plain.edge", "Hello", "-n", "0", "--ignore-eos", "--temperature", "1")
    assert process.stdout is not None
    first = process.stdout.read(1)
    out, err, _ = interrupt(process, lambda: True)
    assert process.returncode == 130 and b"interrupted" in err and b"Traceback" not in err
    assert (first + out).decode()  # whole code points


def test_ctrl_c_does_not_wait_for_a_long_prompt(big: Path, tmp_path: Path) -> None:
    edgekit.convert(big, tmp_path / "big.edge", scheme="q8", verify=False)
    (tmp_path / "prompt").write_text("wait " * 200_000)
    with (tmp_path / "prompt").open("rb") as stdin:
        command = [sys.executable, "-m", "edgekit", "run", tmp_path / "big.edge", "-", "--window", "2000"]
        process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c
        )
    time.sleep(3)
    assert process.poll() is None, "the prompt is too short for this test"
    _, err, _ = interrupt(process, lambda: True)
    assert process.returncode == 130 and b"Traceback" not in err


def test_a_reader_that_has_seen_enough_is_no_error(place: Path) -> None:
    process = start("run", place / "plain.edge", "Hello", "-n", "0", "--ignore-eos", "--temperature", "1")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(5)
    process.stdout.close()
    assert b"error" not in process.stderr.read()
    assert process.wait(60) == 141


def test_the_story_of_a_trained_model(tmp_path: Path) -> None:
    weights = SHARED / "data" / "weights" / "stories260K"
    if not weights.exists():
        pytest.skip("stories260K is not in the shared data")
    assert (
        edgekit_cli(
            "convert", weights / "hf-derived", "-o", "s.edge", "--scheme", "f32", cwd=tmp_path
        ).returncode
        == 0
    )
    result = edgekit_cli("run", "s.edge", "-n", "200", "--temperature", "0", "", cwd=tmp_path)
    assert result.stdout == (weights / "expected_greedy_200.txt").read_bytes()


# ---- chat --------------------------------------------------------------------------------------------------


def chat(place: Path, text: str, *arguments: str) -> Any:
    return edgekit_cli("chat", place / "tiny.edge", "-n", "6", "--seed", "1", *arguments, stdin=text.encode())


def test_chat_answers_each_line_of_a_pipe(place: Path) -> None:
    result = chat(place, "Hi\nAnd now?\n")
    assert result.returncode == 0 and result.stderr == b""
    messages = json.loads(chat(place, "Hi\nAnd now?\n", "--json").stdout)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert result.stdout.decode() == "".join(message["content"] + "\n" for message in messages[1::2])


def test_chat_commands(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "my talk.json"
    talk = [
        "/system Be brief.",
        "Hi\\",
        "there",
        f'/save "{file}"',
        "/stats",
        "/bogus",
        "/regenerate",
        "/think on",
        "/think",
        "/undo",
        "/undo",
        "/load /no/such",
        "/reset",
        "/system",
        "/system Be brief.",
    ]
    result = chat(place, "\n".join([*talk, "/quit", "never said"]), "--json")
    assert result.returncode == 0
    saved = json.loads(file.read_text())
    assert [message["content"] for message in saved[:2]] == ["Be brief.", "Hi\nthere"]
    assert json.loads(result.stdout)["messages"] == saved[:1]
    said = iter(result.stderr.decode().splitlines())
    for words in (
        "the system message is now: Be brief.",
        "3 messages written",
        " generated, ",
        "there is no /bogus",
        "reasoning is on",
        "/think is ''; write /think on or /think off",
        "taken back: Hi",
        "there is no turn to take back",
        "cannot read it",
        "the conversation is forgotten; the system message stays",
        "there is no system message now",
    ):
        assert any(words in line for line in said), f"{words!r} is not said, or not in its place"
    greedy = chat(place, "Hi\n/regenerate\n", "--temperature", "0")
    assert b"the same reply" in greedy.stderr and b"the same reply" not in result.stderr
    nothing = chat(place, "/system Be brief.\n/regenerate\n")
    assert b"no reply to generate again" in nothing.stderr and b"the same reply" not in nothing.stderr
    loaded = chat(place, f'/load "{file}"\nMore\n', "--json")
    assert json.loads(loaded.stdout)["messages"][:3] == saved


def test_a_long_conversation_outgrows_the_cache_and_goes_on(place: Path) -> None:
    result = chat(place, "Tell me more.\n" * 12 + "/stats\n", "--window", "96")
    assert result.returncode == 0 and b"older tokens are forgotten" in result.stderr
    statistics = result.stderr.decode().splitlines()[-1]
    whole, known = map(int, re.findall(r"\d+", statistics)[:2])
    assert whole - known < 96, "only what a turn adds is computed"


class Terminal:
    """A verb on a terminal of its own, as a user sits before it."""

    def __init__(self, *arguments: str | Path, columns: int = 80) -> None:
        self.ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

        def take_terminal() -> None:
            heed_ctrl_c()
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgekit", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=take_terminal,
        )
        os.close(theirs)
        self._seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def answers(self, seconds: float) -> bool:
        return bool(select.select([self.ours], [], [], seconds)[0])

    def until(self, words: bytes) -> bytes:
        """What is printed before `words`, and they."""
        while words not in self._seen:
            assert self.answers(60), f"waited for {words!r}, saw {self._seen!r}"
            self._seen += os.read(self.ours, 4096)
        before, _, self._seen = self._seen.partition(words)
        return before + words

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def test_chat_on_a_terminal(place: Path) -> None:
    """Ctrl-C at the prompt does not end the program; its line discipline is a terminal's."""
    with Terminal("chat", place / "tiny.edge", "-n", "8") as terminal:
        terminal.until(b"Ctrl-D ends\r\n> ")
        for _ in range(20):  # readline misses a signal that comes before it waits
            terminal.type(b"\x03")
            if terminal.answers(1):
                break
        terminal.until(b"/quit or Ctrl-D ends\r\n> ")
        terminal.type(b"Hi\n/stats\n")
        terminal.until(b" generated, ")
        terminal.type(b"/quit\n")
        assert terminal.process.wait(60) == 0


def test_stats_after_ctrl_c_are_the_stopped_reply_s(place: Path) -> None:
    with Terminal("run", place / "tiny.edge", "-n", "0") as terminal:
        terminal.until(b"Ctrl-D ends\r\n> ")  # without a prompt, `run` is a chat
        terminal.type(b"/stats\n")
        terminal.until(b"nothing was said yet")
        for _ in range(20):  # the noise of these weights may end before the signal comes
            terminal.until(b"> ")
            terminal.type(b"Hi\n")
            terminal.until(b"Hi\r\n")
            assert terminal.answers(60)
            terminal.type(b"\x03")
            terminal.type(b"/stats\n")
            if b"ended by cancelled" in terminal.until(b"sinks, "):
                return
    raise AssertionError("no reply was stopped")


def test_run_without_a_prompt_is_no_empty_message(place: Path) -> None:
    result = edgekit_cli("run", place / "tiny.edge")
    assert result.returncode == 2 and b"PROMPT is missing" in result.stderr and result.stdout == b""
    with Terminal("run", place / "tiny.edge", "--raw") as terminal:
        terminal.until(b"PROMPT is missing")
        assert terminal.process.wait(60) == 2


def screen(written: str, columns: int) -> list[str]:
    """The lines a terminal shows."""
    lines = [""]
    for part in re.findall(r"\x1b\[(\d+)D\x1b\[K|(.)", written, re.DOTALL):
        if part[0]:
            lines[-1] = lines[-1][: -int(part[0])]
        elif part[1] == "\n":
            lines.append("")
        else:
            lines[-1] += part[1]
            assert len(lines[-1]) <= columns
    return lines


def test_words_are_not_broken_at_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "20")
    text = "The sky is blue because of scattering.\n\n  Indented, and averyveryverylongwordindeed here"
    for size in (1, 3, len(text)):
        out = Screen()
        writer = Writer(out)
        for at in range(0, len(text), size):
            writer.write(text[at : at + size])
        lines = [line.rstrip() for line in screen(out.getvalue(), 20)]
        assert "".join(text.split()) == "".join("".join(lines).split())
        assert lines[:4] == ["The sky is blue", "because of", "scattering.", ""]
        short = [word for word in text.split() if len(word) < 19]
        assert set(short) <= {word for line in lines for word in line.split()}
    plain = io.StringIO()
    Writer(plain).write(text)
    assert plain.getvalue() == text


def test_chat_needs_a_template(place: Path) -> None:
    result = edgekit_cli("chat", place / "plain.edge")
    assert result.returncode == 3 and b"edgekit run" in result.stderr


def test_chat_refuses_bytes_that_are_no_text(place: Path) -> None:
    assert edgekit_cli("chat", place / "tiny.edge", "-n", "2", stdin=b"ok\n\xff\n").returncode == 4


# ---- convert -----------------------------------------------------------------------------------------------


def test_convert(place: Path, tmp_path: Path) -> None:
    result = edgekit_cli("convert", place / "tiny", "-o", tmp_path / "m.edge")
    assert result.returncode == 0, result.stderr
    assert b"verified" in result.stdout and b"bits per weight" in result.stdout and b"hint" in result.stderr
    document = json.loads(edgekit_cli("convert", place / "tiny", "-o", tmp_path / "m.edge", "--json").stdout)
    assert document["scheme"] == "q5" and document["bytes"] == (tmp_path / "m.edge").stat().st_size
    assert document["quality"]["tokens"] > 100


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"model_type": "perceptron"}, 3),
        ({"hidden_act": "step"}, 3),
        ({"hidden_size": 65}, 4),
        ({"vocab_size": 300}, 4),
    ],
    ids=str,
)
def test_convert_refuses(tmp_path: Path, config: dict[str, Any], code: int) -> None:
    checkpoint = tiny_chat_model.write(tmp_path / "tiny")
    members = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(members | config))
    result = edgekit_cli("convert", checkpoint, "-o", tmp_path / "m.edge", "--json")
    assert result.returncode == code, result.stderr
    assert str(next(iter(config.values()))) in error_of(result)["message"] or code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_ctrl_c_in_convert_leaves_nothing(big: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    process = start("convert", big, "-o", out / "m.edge")
    _, err, _ = interrupt(process, lambda: any(out.iterdir()))
    assert process.returncode == 130 and b"Traceback" not in err
    assert list(out.iterdir()) == []


def test_a_killed_convert_leaves_nothing(big: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    process = start("convert", big, "-o", out / "m.edge")
    while not any(out.iterdir()) and process.poll() is None:
        time.sleep(0.005)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and b"Traceback" not in err
    assert list(out.iterdir()) == []


def test_a_file_that_cannot_grow_leaves_nothing(big: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    limit = 1 << 20
    result = edgekit_cli(
        "convert",
        big,
        "-o",
        out / "m.edge",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode not in (0, -signal.SIGXFSZ) and b"cannot write it" in result.stderr
    assert list(out.iterdir()) == []


# ---- inspect, verify, synth --------------------------------------------------------------------------------


def test_inspect(place: Path) -> None:
    result = edgekit_cli("inspect", place / "tiny.edge", "--context", "200", "--kv", "int8", "--json")
    document = json.loads(result.stdout)
    with edgekit.Model(place / "tiny.edge") as model:
        assert document["weight_bytes"] == model.weight_bytes
        assert document["n_parameters"] == model.n_parameters == 78400
        with model.session(window=196, kv="int8") as session:
            assert document["memory_plan"]["total_bytes"] == session.plan.total_bytes
            assert document["memory_plan"]["window"] == session.plan.window
    assert document["file_bytes"] == (place / "tiny.edge").stat().st_size
    assert (
        document["header_bytes"] + sum(row["bytes"] for row in document["tensors"]) == document["file_bytes"]
    )
    assert document["source"]["license"] == "cc0-1.0" and document["quality"]["tokens"] > 100
    human = edgekit_cli("inspect", place / "tiny.edge", "--tensors").stdout.decode()
    for words in ("cc0-1.0", "layers.1.down", "keys and values", "perplexity", "78.40 K parameters"):
        assert words in human


def test_inspect_refuses(place: Path, tmp_path: Path) -> None:
    (tmp_path / "m.edge").write_bytes(b"\xff" * 4096)
    assert edgekit_cli("inspect", tmp_path / "m.edge").returncode == 4
    assert edgekit_cli("inspect", place / "tiny.edge", "--context", "4").returncode == 2
    assert edgekit_cli("inspect", place / "tiny.edge", "--memory-budget", "1K").returncode == 6


def test_verify(place: Path, tmp_path: Path) -> None:
    result = edgekit_cli("verify", place / "tiny.edge", "--reference", place / "tiny", "--json")
    document = json.loads(result.stdout)
    assert result.returncode == 0 and document["golden"]["mismatches"] == 0 and document["same_source"]
    assert b"golden vectors" in edgekit_cli("verify", place / "tiny.edge").stdout
    data = bytearray((place / "tiny.edge").read_bytes())
    data[-100] ^= 1
    (tmp_path / "m.edge").write_bytes(data)
    assert edgekit_cli("verify", tmp_path / "m.edge").returncode == 4
    (tmp_path / "m.edge").write_bytes((place / "tiny.edge").read_bytes())
    with edgekit.Model(tmp_path / "m.edge") as model:
        golden = model.metadata["golden"]
    golden["logits"] = [[id, value + golden["spread"]] for id, value in golden["logits"]]
    edge.attach(tmp_path / "m.edge", {"golden": golden})
    assert edgekit_cli("verify", tmp_path / "m.edge").returncode == 5


def test_synth(place: Path, tmp_path: Path) -> None:
    result = edgekit_cli("synth", place / "tiny" / "config.json", "-o", tmp_path / "s", "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["bytes"] > 100_000
    assert edgekit_cli("convert", tmp_path / "s", "-o", tmp_path / "s.edge").returncode == 0
    assert edgekit_cli("synth", tmp_path / "no.json", "-o", tmp_path / "t").returncode == 4
    (tmp_path / "list.json").write_text("[]")
    assert edgekit_cli("synth", tmp_path / "list.json", "-o", tmp_path / "t").returncode == 4
