"""Model, Session, Tokenizer and ChatTemplate, through the public names alone."""

from __future__ import annotations

import gc
import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny_chat_model

import edgekit
from edgekit.converters.formats.edge import Package

PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("engine")
    tiny_chat_model.write(directory / "tiny")
    edgekit.convert(directory / "tiny", directory / "tiny.edge", scheme="f32", verify=False)
    return directory / "tiny.edge"


@pytest.fixture(scope="module")
def model(package: Path) -> Iterator[edgekit.Model]:
    with edgekit.Model(package, threads=2) as model:
        yield model


@pytest.fixture
def session(model: edgekit.Model) -> Iterator[edgekit.Session]:
    with model.session(kv="f32") as session:
        yield session


def tokens_of(events: Iterator[edgekit.Event]) -> list[int]:
    return [id for event in events if event.kind == "text" for id in event.tokens]


# ---- the package's names -----------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    assert edgekit.__all__ == sorted(edgekit.__all__)
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None
    assert set(edgekit.__all__) <= set(dir(edgekit))
    with pytest.raises(AttributeError, match="no attribute 'models'"):
        edgekit.models  # noqa: B018


def test_the_library_has_the_package_s_version() -> None:
    from edgekit.runtimes import _edgekit

    assert _edgekit.version() == edgekit.__version__


# ---- model -------------------------------------------------------------------------------------------------


def test_model_facts(model: edgekit.Model, package: Path) -> None:
    assert model.vocab_size == 260 and model.n_layers == 2 and model.d_model == 64 and model.context == 512
    assert model.model_type == "llama" and model.scheme == "f32" and model.threads == 2
    assert model.file_bytes == package.stat().st_size
    assert model.isa in edgekit.isas()
    assert model.metadata["source"]["license"] == "cc0-1.0"
    assert model.metadata["eos_ids"] == [257, 259]


@pytest.mark.parametrize("isa", edgekit.isas())
def test_every_instruction_set_agrees_with_scalar(package: Path, isa: str) -> None:
    ids = list(range(40))
    with edgekit.Model(package, isa="scalar") as plain, edgekit.Model(package, isa=isa) as fast:
        want, got = (m.session(kv="f32").forward(ids) for m in (plain, fast))
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_bad_models_are_errors(tmp_path: Path, package: Path) -> None:
    with pytest.raises(edgekit.EdgekitError, match=r"missing\.edge"):
        edgekit.Model(tmp_path / "missing.edge")
    (tmp_path / "junk.edge").write_bytes(b"not a package" * 100)
    with pytest.raises(edgekit.InvalidFile, match=r"junk\.edge'.*does not begin as a package.*damaged"):
        edgekit.Model(tmp_path / "junk.edge")
    with pytest.raises(edgekit.InvalidFile, match=r"junk\.edge"):
        edgekit.can_load(tmp_path / "junk.edge")
    (tmp_path / "empty.edge").touch()
    with pytest.raises(edgekit.InvalidFile, match=r"^'[^']*empty\.edge': the file is empty"):
        edgekit.Model(tmp_path / "empty.edge")
    with pytest.raises(edgekit.UnsupportedModel, match="instruction set 'mmx'"):
        edgekit.Model(package, isa="mmx")
    with pytest.raises(edgekit.UsageError, match="threads is 0"):
        edgekit.Model(package, threads=0)


def test_a_model_is_whatever_has_that_name(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    checkpoint = package.with_suffix("")
    for format in ("gguf", "onnx", "mlx"):
        edgekit.convert(checkpoint, tmp_path / f"tiny.{format}", format=format, verify=False)
    tasks: list[str] = []
    for name, scheme in (("tiny.gguf", "q8"), ("tiny.onnx", "q4"), ("tiny.mlx", "q8")):
        tasks.clear()
        with edgekit.Model(tmp_path / name, progress=lambda task, *_: tasks.append(task)) as model:
            assert model.scheme == scheme and model.vocab_size == 260 and model.has_chat_template
            assert (model.isa == "onnxruntime") == (name == "tiny.onnx") == (not tasks)
            with model.session(window=64) as session:
                messages = [{"role": "user", "content": "hi"}]
                (*_, done) = session.generate(messages, max_tokens=4, ignore_eos=True)
                assert done.stats.prompt_tokens == len(model.encode_chat(messages))
    with edgekit.Model(checkpoint) as model:
        assert model.scheme == "f16" and model.path == str(checkpoint)
    with pytest.raises(edgekit.UsageError, match="isa is of edgekit's own engine"):
        edgekit.Model(tmp_path / "tiny.onnx", isa="scalar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(edgekit.UsageError, match=r"without config\.json"):
        edgekit.Model(tmp_path / "empty")


def test_a_checkpoint_is_packed_once_whoever_opens_it(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path))
    second: list[threading.Thread] = []
    packed_twice: list[str] = []

    def also(task: str, *_: object) -> None:
        packed_twice.append(task)

    def begun(*_: object) -> None:
        if not second:
            second.append(threading.Thread(target=lambda: edgekit.Model(checkpoint, progress=also).close()))
            second[0].start()
            second[0].join(0.3)  # were it let in, it would pack now

    checkpoint = package.with_suffix("")
    edgekit.Model(checkpoint, progress=begun).close()
    second[0].join()
    assert packed_twice == []
    assert len(list((tmp_path / "packed").glob("*.edge"))) == 1


def test_a_model_in_memory_outlives_its_file(tmp_path: Path, package: Path) -> None:
    copy = tmp_path / "copy.edge"
    copy.write_bytes(package.read_bytes())
    with edgekit.Model(copy, in_memory=True) as model, model.session(kv="f32") as session:
        copy.write_bytes(b"")  # a mapped file must not be cut
        logits = session.forward(range(40))
    with edgekit.Model(package) as model, model.session(kv="f32") as session:
        np.testing.assert_array_equal(logits, session.forward(range(40)))


def test_a_changed_byte_is_found_by_its_hash(tmp_path: Path, package: Path) -> None:
    data = bytearray(package.read_bytes())
    data[-40] ^= 1
    (tmp_path / "m.edge").write_bytes(data)
    with pytest.raises(edgekit.InvalidFile):
        edgekit.Model(tmp_path / "m.edge", verify_hashes=True)


def test_a_closed_model_says_so(package: Path) -> None:
    model = edgekit.Model(package)
    session = model.session()
    model.close()
    for use in (model.session, model.plan, lambda: model.tokenizer, lambda: model.render_chat([])):
        with pytest.raises(edgekit.UsageError, match="model is closed"):
            use()
    assert session.forward([1, 2]).shape == (2, 260)  # a session keeps what it needs
    session.close()
    with pytest.raises(edgekit.UsageError, match="session is closed"):
        session.forward([1])


def test_a_model_without_tokenizer_works_on_ids(tmp_path: Path) -> None:
    tiny_chat_model.write(tmp_path / "tiny", tokenizer=False)
    report = edgekit.convert(tmp_path / "tiny", tmp_path / "m.edge", scheme="f32", verify=False)
    assert any("no tokenizer" in text for text in report.warnings)
    with edgekit.Model(tmp_path / "m.edge") as model:
        assert not model.has_tokenizer
        with pytest.raises(edgekit.UnsupportedModel, match="no tokenizer"):
            model.tokenizer  # noqa: B018
        assert len(tokens_of(model.session().generate([1, 2, 3], max_tokens=5, ignore_eos=True))) == 5
        with pytest.raises(edgekit.EdgekitError):
            model.session().generate("text")
        with pytest.raises(edgekit.EdgekitError):
            model.render_chat([{"role": "user", "content": "hi"}])


# ---- tokenizer and template --------------------------------------------------------------------------------


def test_tokenizer(model: edgekit.Model) -> None:
    tokenizer = model.tokenizer
    assert tokenizer.encode("hé<|stop|>") == [256, 104, 195, 169, 259]
    assert tokenizer.encode("hé<|stop|>", add_special_tokens=False, parse_special=False)[:3] == [
        104,
        195,
        169,
    ]
    assert tokenizer.decode([256, 104, 195, 169]) == "<|begin|>hé"
    assert tokenizer.decode([256, 104, 195, 169], skip_special_tokens=True) == "hé"
    assert tokenizer.decode([104, 195]) == "h\ufffd"
    assert tokenizer.token_bytes(195) == b"\xc3"
    assert tokenizer.token_to_id("<|stop|>") == 259 and tokenizer.token_to_id("nothing") is None
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (260, 256, 257)
    with pytest.raises(edgekit.UsageError, match="surrogate"):
        tokenizer.encode("a\ud800")
    with pytest.raises(edgekit.UsageError):
        tokenizer.decode([-1])


def test_tokenizer_and_template_open_from_bytes(model: edgekit.Model, package: Path) -> None:
    stored = Package(package)
    tokenizer = edgekit.Tokenizer.from_bytes(stored.bytes_of("tokenizer").tobytes())
    assert tokenizer.encode(PROMPT) == model.tokenizer.encode(PROMPT)
    template = edgekit.ChatTemplate.from_bytes(stored.bytes_of("chat_template").tobytes())
    messages = [{"role": "user", "content": "hi"}]
    context = {"messages": messages, "add_generation_prompt": True, "bos_token": "<|begin|>"}
    assert template.render(context) == model.render_chat(messages)
    for kind in (edgekit.Tokenizer, edgekit.ChatTemplate):
        with pytest.raises(edgekit.InvalidFile):
            kind.from_bytes(b"\x00" * 256)


def test_render_chat(model: edgekit.Model) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    text = "<|begin|><|start|>system\nbe brief<|stop|>\n<|start|>user\nhi<|stop|>\n"
    assert model.render_chat(messages) == text + "<|start|>assistant\n"
    assert model.render_chat(messages, add_generation_prompt=False) == text
    with pytest.raises(edgekit.UsageError, match="JSON"):
        model.render_chat([{"role": "user", "content": object()}])


def test_a_rendered_chat_gets_no_second_bos(model: edgekit.Model, session: edgekit.Session) -> None:
    messages = [{"role": "user", "content": "hi"}]
    rendered = model.render_chat(messages)
    expected = model.tokenizer.encode(rendered, add_special_tokens=False)
    for prompt in (rendered, messages):
        session.reset()
        (*_, done) = session.generate(prompt, max_tokens=1)
        assert done.stats.prompt_tokens == len(expected)


# ---- forward -----------------------------------------------------------------------------------------------


def test_forward(model: edgekit.Model, session: edgekit.Session) -> None:
    ids = model.tokenizer.encode(PROMPT)
    logits = session.forward(ids)
    assert logits.shape == (len(ids), 260) and logits.dtype == np.float32
    assert session.position == len(ids)
    session.reset()
    assert session.position == 0
    pieces = [session.forward(np.array(ids[:7])), session.forward(ids[7:8]), session.forward(tuple(ids[8:]))]
    np.testing.assert_allclose(np.concatenate(pieces), logits, atol=2e-5)
    session.reset()
    last = session.forward(ids, all_logits=False)
    np.testing.assert_allclose(last, logits[-1:], atol=2e-5)
    assert session.forward([]).shape == (0, 260)


@pytest.mark.parametrize("ids", [[0.5], [[1, 2]], [-1], [2**40], ["a"]])
def test_what_is_no_token_id_is_refused(session: edgekit.Session, ids: list[object]) -> None:
    with pytest.raises(edgekit.UsageError):
        session.forward(ids)  # type: ignore[arg-type]
    assert session.position == 0


def test_an_id_outside_the_vocabulary_is_refused(session: edgekit.Session) -> None:
    with pytest.raises(edgekit.UsageError, match="260"):
        session.forward([1, 260])
    assert session.position == 0


# ---- generate ----------------------------------------------------------------------------------------------


def test_greedy_follows_forward(model: edgekit.Model, session: edgekit.Session) -> None:
    ids = model.tokenizer.encode(PROMPT)
    got = tokens_of(session.generate(ids, max_tokens=12, temperature=0, ignore_eos=True))
    with model.session(kv="f32") as other:
        logits = other.forward(ids, all_logits=False)
        want = []
        for _ in range(12):
            want.append(int(logits[-1].argmax()))
            logits = other.forward(want[-1:])
    assert got == want


def test_events(model: edgekit.Model, session: edgekit.Session) -> None:
    events = list(session.generate(PROMPT, max_tokens=20, temperature=1.0, seed=3, ignore_eos=True))
    *texts, done = events
    assert all(isinstance(event, edgekit.TextEvent) for event in texts)
    assert isinstance(done, edgekit.DoneEvent) and done.finish == "length"
    tokens = tokens_of(iter(events))
    assert len(tokens) == 20 == done.stats.generated_tokens
    text = "".join(event.text for event in events)
    whole = model.tokenizer.decode(tokens, skip_special_tokens=True)
    assert text.rstrip("\ufffd") == whole.rstrip("\ufffd")  # a code point that was cut waits for the rest
    assert done.stats.prompt_tokens == len(PROMPT) + 1 and done.stats.cached_tokens == 0
    assert done.stats.prefill_ms > 0 and done.stats.decode_tok_s > 0


def test_the_seed_decides(session: edgekit.Session) -> None:
    def run(seed: int | None) -> list[int]:
        session.reset()
        return tokens_of(session.generate(PROMPT, max_tokens=24, temperature=1.0, seed=seed, ignore_eos=True))

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(None) != run(None)


def test_logit_bias_forbids(session: edgekit.Session) -> None:
    first = tokens_of(session.generate(PROMPT, max_tokens=1, temperature=0, ignore_eos=True))[0]
    session.reset()
    bias = {first: float("-inf")}
    after = tokens_of(session.generate(PROMPT, max_tokens=8, temperature=0, logit_bias=bias, ignore_eos=True))
    assert first not in after
    session.reset()
    forced = tokens_of(session.generate(PROMPT, max_tokens=3, temperature=0, logit_bias={65: 1e4}))
    assert forced == [65, 65, 65]


def test_stop_ends_before_the_string(session: edgekit.Session) -> None:
    bias = {ord("x"): 1e4}
    *texts, done = session.generate(PROMPT, max_tokens=9, temperature=0, logit_bias=bias, stop="xxx")
    assert "".join(event.text for event in texts) == "" and done.finish == "stop"


def test_eos_ends(session: edgekit.Session) -> None:
    (*_, done) = session.generate(PROMPT, max_tokens=9, temperature=0, logit_bias={259: 1e4})
    assert done.finish == "eos"


def test_a_shared_beginning_is_not_computed_again(session: edgekit.Session) -> None:
    (*_, first) = session.generate(PROMPT, max_tokens=1, temperature=0)
    (*_, second) = session.generate(PROMPT + " jumps", max_tokens=1, temperature=0)
    assert first.stats.cached_tokens == 0
    assert second.stats.cached_tokens >= first.stats.prompt_tokens - 1


def test_append_follows_the_cache(model: edgekit.Model, session: edgekit.Session) -> None:
    ids = model.tokenizer.encode(PROMPT)
    whole = tokens_of(session.generate(ids, max_tokens=6, temperature=0, ignore_eos=True))
    session.reset()
    session.forward(ids[:8])
    assert (
        tokens_of(session.generate(ids[8:], append=True, max_tokens=6, temperature=0, ignore_eos=True))
        == whole
    )


def test_a_text_that_follows_another_begins_with_no_bos(
    model: edgekit.Model, session: edgekit.Session
) -> None:
    begins, follows = model.tokenizer.encode(PROMPT), model.tokenizer.encode(PROMPT, add_special_tokens=False)
    assert begins == [model.tokenizer.bos_id, *follows]
    for count in (len(begins), len(follows)):
        before = session.position
        for _ in session.generate(PROMPT, append=True, max_tokens=1, stop_ids=range(model.vocab_size)):
            pass
        assert session.position - before == count


def test_a_dropped_iterator_leaves_the_session_usable(session: edgekit.Session) -> None:
    want = tokens_of(session.generate(PROMPT, max_tokens=8, temperature=0, ignore_eos=True))
    for event in session.generate(PROMPT, temperature=0, ignore_eos=True):
        if event.kind == "text":
            break
    del event
    gc.collect()
    assert tokens_of(session.generate(PROMPT, max_tokens=8, temperature=0, ignore_eos=True)) == want
    session.generate(PROMPT, ignore_eos=True)  # begun and never iterated
    assert tokens_of(session.generate(PROMPT, max_tokens=8, temperature=0, ignore_eos=True)) == want


def test_a_new_generation_ends_the_old_iterator(session: edgekit.Session) -> None:
    old = session.generate(PROMPT, ignore_eos=True, temperature=0)
    next(old)
    new = session.generate("Other", max_tokens=4, ignore_eos=True, temperature=0)
    assert list(old) == []
    assert len(tokens_of(new)) == 4


def test_closing_ends_what_runs(model: edgekit.Model) -> None:
    session = model.session()
    events = session.generate(PROMPT, ignore_eos=True)
    assert next(events).kind == "text"
    session.close()
    assert list(events) == []
    with pytest.raises(edgekit.UsageError, match="session is closed"):
        session.generate(PROMPT)


def test_a_refused_call_leaves_what_runs(session: edgekit.Session) -> None:
    want = tokens_of(session.generate(PROMPT, max_tokens=8, temperature=0, ignore_eos=True))
    events = session.generate(PROMPT, max_tokens=8, temperature=0, ignore_eos=True)
    got = tokens_of(iter([next(events)]))
    for call in (
        lambda: session.generate("Other", stop=""),
        lambda: session.generate([260]),
        lambda: session.forward([260]),
        lambda: session.rewind(10**6),
        lambda: session.restore("no such file"),
    ):
        with pytest.raises(edgekit.EdgekitError):
            call()
    assert got + tokens_of(events) == want


def test_cancel_from_another_thread(session: edgekit.Session) -> None:
    timer = threading.Timer(0.2, session.cancel)
    timer.start()
    started = time.monotonic()
    (*_, done) = session.generate(PROMPT, max_tokens=math.inf, ignore_eos=True)
    timer.join()
    assert done.finish == "cancelled" and time.monotonic() - started < 30
    assert len(tokens_of(session.generate(PROMPT, max_tokens=4, ignore_eos=True))) == 4


def test_an_exception_in_the_loop_ends_the_generation(session: edgekit.Session) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in session.generate(PROMPT, ignore_eos=True):
            raise KeyboardInterrupt
    assert len(tokens_of(session.generate(PROMPT, max_tokens=4, ignore_eos=True))) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"top_k": -1},
        {"max_tokens": -3},
        {"seed": 2**64},
        {"logit_bias": {260: 1.0}},
        {"speculation": 99},
        {"repetition_penalty": 0.0},
    ],
    ids=str,
)
def test_bad_sampling_options_are_refused(session: edgekit.Session, options: dict[str, object]) -> None:
    with pytest.raises(edgekit.UsageError):
        session.generate(PROMPT, **options)  # type: ignore[arg-type]


# What users pass by mistake: every one is a UsageError that says what it saw.
MISTAKES: dict[str, tuple[Callable[[edgekit.Model, edgekit.Session], object], str]] = {
    "one message": (lambda _, s: s.generate({"role": "user", "content": "hi"}), r"\[message\]"),
    "no message": (lambda _, s: s.generate([{"content": "hi"}]), "role and content"),
    "mixed messages": (lambda _, s: s.generate([{"role": "user", "content": "a"}, "b"]), "a message is 'b'"),
    "no prompt": (lambda _, s: s.generate(None), "text, messages or token ids; this is None"),
    "bytes": (lambda _, s: s.generate(b"hi"), "of type bytes"),
    "a number": (lambda _, s: s.generate(5), "of type int"),
    "tools of a text": (lambda _, s: s.generate("hi", tools=[{}]), "give messages"),
    "tools": (lambda _, s: s.generate([{"role": "user", "content": "a"}], tools=5), "tools are a list"),
    "an empty list": (lambda _, s: s.generate([]), "an empty list"),
    "a stop": (lambda _, s: s.generate("hi", stop=[1]), "a stop is of type int"),
    "an empty stop": (lambda _, s: s.generate("hi", stop=""), "stop"),
    "stop ids": (lambda _, s: s.generate("hi", stop_ids="ab"), "of type str"),
    "max_tokens": (lambda _, s: s.generate("hi", max_tokens=2.5), "max_tokens is 2.5"),
    "temperature": (lambda _, s: s.generate("hi", temperature="hot"), "temperature is 'hot'"),
    "bias list": (lambda _, s: s.generate("hi", logit_bias=[1]), "dict of token id to number"),
    "bias id": (lambda _, s: s.generate("hi", logit_bias={"a": 1.0}), "'a'"),
    "bias far": (lambda _, s: s.generate("hi", logit_bias={10**12: 1.0}), "10{12}"),
    "bias value": (lambda _, s: s.generate("hi", logit_bias={1: "a"}), "give a number"),
    "bytes as ids": (lambda _, s: s.forward(b"ab"), "of type bytes"),
    "text as ids": (lambda _, s: s.forward("ab"), "of type str"),
    "ragged ids": (lambda _, s: s.forward([[1], [2, 3]]), "one list of integers"),
    "bools": (lambda _, s: s.forward([True]), "bool"),
    "rewind": (lambda _, s: s.rewind(-1), "count is -1"),
    "rewind far": (lambda _, s: s.rewind(2**70), r"below 2\^64"),
    "save": (lambda _, s: s.save(5), "the path is 5"),
    "a zero byte": (lambda _, s: s.save("a\0b"), "zero byte"),
    "encode": (lambda m, _: m.tokenizer.encode(["a"]), "the text is of type list"),
    "decode": (lambda m, _: m.tokenizer.decode(5), "of type int"),
    "token_bytes": (lambda m, _: m.tokenizer.token_bytes("a"), "integers"),
    "token_to_id": (lambda m, _: m.tokenizer.token_to_id(5), "of type int"),
    "render_chat": (lambda m, _: m.render_chat("hi"), "list of dicts"),
    "encode_chat": (lambda m, _: m.encode_chat(None), "this is None"),
    "window": (lambda m, _: m.session(window="big"), "window is 'big'"),
    "threads": (lambda m, _: edgekit.Model(m.path, threads="2"), "threads is '2'"),
    "seed": (lambda m, _: m.session(seed="x"), "seed is 'x'"),
    "isa": (lambda m, _: edgekit.Model(m.path, isa=["avx2"]), "isa is of type list"),
    "backends": (lambda m, _: edgekit.Model(m.path, backend=["cpu"]), "backend is of type list"),
    "backend": (lambda m, _: edgekit.Model(m.path, backend="tpu"), "choose one of: auto, "),
    "path": (lambda *_: edgekit.Model(5), "the path is 5"),
    "can_load": (lambda *_: edgekit.can_load(5), "the path is 5"),
    "resolve": (lambda *_: edgekit.resolve(None), "the name is None"),
    "verify": (lambda *_: edgekit.verify(b"m"), "the name is b'm'"),
    "convert": (lambda *_: edgekit.convert(5), "the name is 5"),
    "output": (lambda m, _: edgekit.convert(Path(m.path).with_suffix(""), 5), "the output is 5"),
    "blob": (lambda *_: edgekit.Tokenizer.from_bytes("abc"), "give bytes"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_usage_errors(model: edgekit.Model, session: edgekit.Session, mistake: str) -> None:
    session.forward([1, 2, 3])
    call, words = MISTAKES[mistake]
    with pytest.raises(edgekit.UsageError, match=words):
        call(model, session)
    assert session.position == 3


def test_none_is_what_the_engine_has(session: edgekit.Session) -> None:
    assert tokens_of(session.generate(PROMPT, max_tokens=2, stop=None, logit_bias=None, tools=None))


def test_stop_ids_end_a_text(session: edgekit.Session) -> None:
    (*_, done) = session.generate(PROMPT, temperature=0, logit_bias={65: 1e4}, stop_ids=[65])
    assert done.finish == "stop"


def test_the_seed_is_told(session: edgekit.Session) -> None:
    def run(seed: int | None) -> tuple[list[int], int]:
        session.reset()
        (*texts, done) = session.generate(PROMPT, max_tokens=16, temperature=1.0, seed=seed, ignore_eos=True)
        return tokens_of(iter(texts)), done.seed

    text, seed = run(None)
    assert run(seed) == (text, seed)
    assert run(7)[1] == 7


def test_the_window_is_the_longest_text_unless_more_is_asked_for(model: edgekit.Model) -> None:
    with model.session(window=32) as session:
        (*_, done) = session.generate(PROMPT, ignore_eos=True)
        assert done.finish == "length" and done.stats.generated_tokens == 36
        for count, _ in enumerate(session.generate(PROMPT, max_tokens=math.inf, ignore_eos=True)):
            if count == 100:
                break


def test_special_tokens_that_a_message_spells_stay_text(model: edgekit.Model) -> None:
    ids = model.encode_chat([{"role": "user", "content": "a<|stop|><|end|>"}])
    assert ids.count(259) == 1 and 257 not in ids  # the template's own alone
    assert model.tokenizer.decode(ids) == model.render_chat([{"role": "user", "content": "a<|stop|><|end|>"}])


def interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def alarm(seconds: float, ring: Callable[[], object] = interrupt) -> Iterator[None]:
    """As Ctrl-C, but from a clock, until it has raised something."""

    def handle(*_: object) -> None:
        try:
            ring()
        except BaseException:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_ends_a_long_prompt(model: edgekit.Model) -> None:
    ids = np.full(300_000, 7)
    with model.session(window=512, kv="f32") as session:
        with pytest.raises(KeyboardInterrupt), alarm(0.05):
            session.forward(ids, all_logits=False)
        assert 0 <= session.position < len(ids)
        events = session.generate(ids)
        with pytest.raises(KeyboardInterrupt), alarm(0.05):
            list(events)
        assert session.last_done is not None and session.last_done.finish == "cancelled"
        with pytest.raises(edgekit.UsageError, match="at work"), alarm(0.05, session.reset):
            session.forward(ids, all_logits=False)  # a handler that waited for it would wait for ever
        assert len(tokens_of(session.generate(PROMPT, max_tokens=4, ignore_eos=True))) == 4


# ---- the cache ---------------------------------------------------------------------------------------------


def test_the_plan_is_what_a_session_allocates(model: edgekit.Model, package: Path) -> None:
    with edgekit.Model(package) as unasked:  # as many threads as can_load supposes
        assert unasked.plan(window=100, kv="int8") == edgekit.can_load(package, window=100, kv="int8")
    plan = model.plan(window=100, kv="int8")
    with model.session(window=100, kv="int8") as session:
        assert session.plan == plan
    assert plan.kv == "int8" and plan.window >= 100 and plan.sinks == 4
    assert plan.total_bytes == plan.cache_bytes + plan.activation_bytes + plan.model_bytes


def test_a_budget_that_is_too_small_says_what_would_do(model: edgekit.Model) -> None:
    with pytest.raises(edgekit.OutOfBudget) as caught:
        model.session(memory_budget=1000)
    needed = caught.value.needed_bytes
    assert needed is not None and needed > 1000
    with model.session(memory_budget=needed) as session:
        assert session.plan.total_bytes <= needed
    with pytest.raises(edgekit.OutOfBudget):
        model.session(memory_budget=needed - 1)


@pytest.mark.parametrize(
    "options", [{"kv": "int3"}, {"on_full": "panic"}, {"window": -1}, {"sinks": -1}], ids=str
)
def test_bad_session_options_are_refused(model: edgekit.Model, options: dict[str, object]) -> None:
    with pytest.raises(edgekit.UsageError):
        model.session(**options)  # type: ignore[arg-type]


def test_evictions_are_events(model: edgekit.Model) -> None:
    with model.session(window=32, sinks=4) as session:
        events = list(session.generate(PROMPT, max_tokens=80, temperature=1.0, ignore_eos=True))
        evicted = [event for event in events if isinstance(event, edgekit.EvictedEvent)]
        held = session.plan.window + session.plan.sinks
        assert evicted and evicted[0].first == session.plan.sinks
        assert session.position - sum(event.count for event in evicted) <= held
        assert len(tokens_of(iter(events))) == 80


def test_on_full(model: edgekit.Model) -> None:
    with model.session(window=32, on_full="stop") as session:
        (*_, done) = session.generate(PROMPT, temperature=1.0, ignore_eos=True)
        assert done.finish == "context_full"
    with model.session(window=32, on_full="error") as session, pytest.raises(edgekit.ContextFull):
        list(session.generate(PROMPT, temperature=1.0, ignore_eos=True))


def test_a_forked_child_generates_what_its_parent_does(session: edgekit.Session) -> None:
    """The parent's second thread does not exist in the child: an inherited model makes new ones."""
    expected = tokens_of(session.generate(PROMPT, max_tokens=8, temperature=0.0))
    reader, writer = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        session.reset()
        writer.send(tokens_of(session.generate(PROMPT, max_tokens=8, temperature=0.0)))

    process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    process.start()
    answered = reader.poll(30)
    process.kill()
    process.join()
    assert answered, "the child hangs"
    assert reader.recv() == expected


def test_fork_rewind_save_restore(model: edgekit.Model, session: edgekit.Session, tmp_path: Path) -> None:
    ids = model.tokenizer.encode(PROMPT)
    session.forward(ids[:10])
    session.save(tmp_path / "state")
    with session.fork() as other:
        assert other.position == 10
        want = session.forward(ids[10:])
        np.testing.assert_array_equal(other.forward(ids[10:]), want)
    session.rewind(len(ids) - 10)
    np.testing.assert_allclose(session.forward(ids[10:]), want, atol=1e-6)
    with model.session(kv="f32") as fresh:
        fresh.restore(tmp_path / "state")
        assert fresh.position == 10
        np.testing.assert_allclose(fresh.forward(ids[10:]), want, atol=1e-6)
        (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-9])
        with pytest.raises(edgekit.InvalidFile, match=r"state'"):
            fresh.restore(tmp_path / "state")
    with pytest.raises(edgekit.UsageError):
        session.rewind(10**6)


def test_sessions_of_one_model_run_side_by_side(model: edgekit.Model) -> None:
    with model.session(kv="f32") as session:
        want = tokens_of(session.generate(PROMPT, max_tokens=24, temperature=0, ignore_eos=True))
    got: list[list[int]] = []

    def run() -> None:
        with model.session(kv="f32") as session:
            got.append(tokens_of(session.generate(PROMPT, max_tokens=24, temperature=0, ignore_eos=True)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [want] * 4


def test_sessions_come_and_go_without_a_leak(model: edgekit.Model) -> None:
    import psutil

    def cycle() -> None:
        with model.session(window=64) as session:
            for event in session.generate(PROMPT, temperature=1.0, ignore_eos=True):
                if event.kind == "text":
                    break
            session.cancel()
            session.fork().close()

    process = psutil.Process()
    for _ in range(100):
        cycle()
    before = process.memory_info().rss
    for _ in range(300):
        cycle()
    assert process.memory_info().rss - before < 4 << 20


def test_a_session_is_one_thread_s_at_a_time(session: edgekit.Session) -> None:
    started, refused, texts = threading.Barrier(24), [], []

    def run(number: int) -> None:
        started.wait()
        try:
            events = session.generate([number + 1] * 9, max_tokens=40, temperature=0, ignore_eos=True)
            texts.append((number, tokens_of(events)))
        except edgekit.UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) + len(refused) == 24 and texts
    assert all("another thread" in text and "model.session()" in text for text in refused)
    for number, text in texts:  # whoever was let in got all of its own text
        session.reset()
        alone = session.generate([number + 1] * 9, max_tokens=40, temperature=0, ignore_eos=True)
        assert text == tokens_of(alone)


def test_a_generation_belongs_to_the_thread_that_began_it(session: edgekit.Session) -> None:
    events = session.generate(PROMPT, temperature=0, ignore_eos=True)
    next(events)

    def elsewhere(call: Callable[[], object]) -> BaseException | None:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(call).exception()

    for call in (session.reset, lambda: session.forward([1]), lambda: session.generate(PROMPT)):
        error = elsewhere(call)
        assert isinstance(error, edgekit.UsageError) and "another thread" in str(error)
    assert elsewhere(lambda: next(events)) is None  # but whoever has the iterator may go on with it
    events.close()
    assert elsewhere(session.reset) is None


@pytest.mark.parametrize("kv", ["int8", "f16"])
def test_results_do_not_depend_on_threads_or_company(package: Path, kv: str) -> None:
    """A ring of several pieces, which wraps; to the bit."""
    ids = np.random.default_rng(5).integers(0, 256, 1500).tolist()
    single = 24  # tokens after the text, one by one
    results = []
    for threads in (1, 2, 3, None):
        with edgekit.Model(package, threads=threads) as model, model.session(window=1100, kv=kv) as session:
            session.forward(ids)
            results.append(np.concatenate([session.forward([i]) for i in range(single)]))
            session.rewind(single)
            results.append(session.forward(list(range(single))))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
