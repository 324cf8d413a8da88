"""A Core ML package as a companion: runtimes/apple/Companion drives it as docs/coreml.md says. Core ML is its
interpreter here.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="needs coremltools (the [coreml] extra)")
pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import make_checkpoint

import edgekit
from edgekit.companion import convert_pair
from edgekit.converters import convert
from edgekit.converters.formats import coreml
from edgekit.converters.formats._coreml_session import Session
from edgekit.engines.coreml import Engine
from edgekit.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
COMPANION = ROOT / "runtimes" / "apple" / "Companion"
WINDOW, SINKS, CHUNK = 40, 3, 32
OK, INTERNAL = 0, 11
LOADING, READY, RESTING = 0, 1, 2


class Error(ctypes.Structure):
    _fields_ = (("status", ctypes.c_int), ("needed", ctypes.c_uint64), ("message", ctypes.c_char * 1024))


RING = ("sinks", "window", "turn", "slots")


class Ring(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in RING)


class Rope(ctypes.Structure):
    _fields_ = (
        ("inv_freq", ctypes.POINTER(ctypes.c_double)),
        ("count", ctypes.c_size_t),
        ("factor", ctypes.c_double),
    )


NUMBERS = ("vocab_size", "d_model", "window", "sinks", "chunk", "width", "conv_kernel")


class Facts(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        *((name, ctypes.c_uint32) for name in NUMBERS),
        ("columns", ctypes.c_int),
        ("contexts", ctypes.POINTER(ctypes.c_uint32)),
        ("contexts_count", ctypes.c_size_t),
        ("rings", ctypes.POINTER(Ring)),
        ("rings_count", ctypes.c_size_t),
        ("ropes", ctypes.POINTER(Rope)),
        ("ropes_count", ctypes.c_size_t),
        ("embeddings", ctypes.c_char_p),
        ("condition", ctypes.c_void_p),
    )


class Input(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("rank", ctypes.c_size_t),
        ("shape", ctypes.c_int64 * 4),
        ("values", ctypes.POINTER(ctypes.c_float)),
        ("integers", ctypes.POINTER(ctypes.c_int32)),
    )

    def array(self) -> Any:
        shape = tuple(self.shape[: self.rank])
        return np.ctypeslib.as_array(self.values or self.integers, shape).copy()


Pointer, Bytes, Logits = ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_float)
State = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, ctypes.POINTER(Error))
Open = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, ctypes.POINTER(Pointer), ctypes.POINTER(Error))
Close = ctypes.CFUNCTYPE(None, Pointer, Pointer)
Has = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, Bytes)
Release = ctypes.CFUNCTYPE(None, Pointer)
Poll = ctypes.CFUNCTYPE(ctypes.c_int, Pointer)
Run = ctypes.CFUNCTYPE(
    ctypes.c_int,
    Pointer,
    Pointer,
    Bytes,
    ctypes.POINTER(Input),
    ctypes.c_size_t,
    Logits,
    ctypes.POINTER(Error),
)
Append = ctypes.CFUNCTYPE(
    ctypes.c_int,
    *(Pointer, Pointer, ctypes.c_uint64, ctypes.POINTER(ctypes.c_int32), ctypes.c_size_t),
    *(Logits, Poll, Pointer, ctypes.POINTER(Error)),
)


class Runner(ctypes.Structure):
    _fields_ = (
        ("context", Pointer),
        ("state", State),
        ("has", Has),
        ("open", Open),
        ("close", Close),
        ("run", Run),
        ("release", Release),
    )


class Table(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("context", Pointer),
        *((name, ctypes.c_uint32) for name in ("vocab_size", "window", "sinks")),
        ("state", State),
        ("open", Open),
        ("close", Close),
        ("append", Append),
        ("release", Release),
    )


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("driver") / "driver.so"
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    paths = [f"-I{COMPANION / 'include'}", f"-I{ROOT / 'cpp' / 'include'}"]
    command = [compiler, *flags, *paths, str(COMPANION / "package_driver.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


Ran = Callable[[Any, str, dict[str, Any]], Any]


class Companion:
    """The driver over `run(text, function, inputs) -> logits`, whose texts are what `opened()` gives."""

    def __init__(self, driver: ctypes.CDLL, path: Path, opened: Callable[[], Any], run: Ran) -> None:
        facts, _ = coreml.described(path)
        self.state, self.error, self.texts, self.released = READY, "", dict[int, Any](), 0
        ropes = facts["ropes"]
        self.arrays = [(ctypes.c_double * len(rope["inv_freq"]))(*rope["inv_freq"]) for rope in ropes]
        rings = [Ring(*(ring[name] for name in RING)) for ring in facts["rings"]]
        given = Facts(
            b"numpy",
            *(facts[name] for name in NUMBERS),
            facts["columns"],
            (ctypes.c_uint32 * len(facts["contexts"]))(*facts["contexts"]),
            len(facts["contexts"]),
            (Ring * len(rings))(*rings),
            len(rings),
            (Rope * len(ropes))(
                *(Rope(a, len(a), rope["factor"]) for a, rope in zip(self.arrays, ropes, strict=True))
            ),
            len(ropes),
            str(path / "embeddings.bin").encode(),
        )

        def state(_: Any, why: Any) -> int:
            if self.state == RESTING:
                why[0].message = b"the device is hot"
            return self.state

        def open_text(_: Any, text: Any, error: Any) -> int:
            key = max(self.texts, default=0) + 1
            self.texts[key], text[0] = opened(), key
            return OK

        def run_function(
            _: Any, text: int, name: bytes, inputs: Any, count: int, logits: Any, error: Any
        ) -> int:
            if self.error:
                error[0].message = self.error.encode()
                return INTERNAL
            arrays = {inputs[i].name.decode(): inputs[i].array() for i in range(count)}
            found = run(self.texts[text], name.decode(), arrays)
            if logits:
                row = np.asarray(found, np.float32).reshape(-1)[: facts["vocab_size"]]
                np.ctypeslib.as_array(logits, row.shape)[:] = row
            return OK

        def release(_: Any) -> None:
            self.released += 1

        close = Close(lambda _, text: self.texts.pop(text) and None)
        self.runner = Runner(
            None, State(state), Has(), Open(open_text), close, Run(run_function), Release(release)
        )
        self.table = Table()
        error = Error()
        status = driver.edgekit_package_companion(
            ctypes.byref(given), ctypes.byref(self.runner), ctypes.byref(self.table), ctypes.byref(error)
        )
        assert status == OK, error.message

    def append(self, text: Any, position: int, ids: list[int], *, logits: int) -> Any:
        out, error = np.zeros(max(1, logits), np.float32), Error()
        status = self.table.append(
            *(self.table.context, text, position, (ctypes.c_int32 * len(ids))(*ids), len(ids)),
            *(out.ctypes.data_as(Logits) if logits else None, Poll(), None, ctypes.byref(error)),
        )
        assert status == OK, error.message
        return out


def package(name: str, scheme: str, folder: Path) -> Path:
    model = convert.read(make_checkpoint(name, folder), name)
    coreml.write(model, folder / "package", scheme, window=WINDOW, sinks=SINKS, chunk=CHUNK)
    return folder / "package"


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("llama", "f32"), ("gemma3", "f16"), ("qwen3", "neural_engine_q8"), ("lfm2", "neural_engine_q8")],
)
def test_steps_are_those_of_the_reference(
    driver: ctypes.CDLL, name: str, scheme: str, tmp_path: Path
) -> None:
    """Functions and inputs, past the end of the ring, of prompts and of single tokens."""
    path = package(name, scheme, tmp_path)
    facts, functions = coreml.described(path)
    seen: list[tuple[str, dict[str, Any]]] = []

    def noted(_: Any, function: str, inputs: dict[str, Any]) -> Any:
        seen.append((function, inputs))
        return np.zeros(facts["vocab_size"])

    companion = Companion(driver, path, object, noted)
    text = Pointer()
    assert companion.table.open(companion.table.context, ctypes.byref(text), None) == OK
    reference: list[tuple[str, dict[str, Any]]] = []
    engine = Engine(path)
    names = {function: [x for x in inputs if x != "hidden"] for function, inputs in functions[0].items()}

    def predict(function: str, inputs: dict[str, Any]) -> Any:
        reference.append((function, inputs))
        return np.zeros(facts["vocab_size"])

    session = Session(facts, names, engine.embed, predict)
    position, ids = 0, [int(i) for i in np.random.default_rng(0).integers(0, facts["vocab_size"], 160)]
    for count in (1, 70, 2, 40, 1, 1, 45):
        part = ids[position : position + count]
        companion.append(text, position, part, logits=facts["vocab_size"])
        session.feed(part)
        position += count
    assert [function for function, _ in seen] == [function for function, _ in reference]
    for (function, got), (_, want) in zip(seen, reference, strict=True):
        for key, values in want.items():
            assert got[key].shape == values.shape, (function, key)
            assert np.allclose(got[key], values, rtol=0, atol=1e-6), (function, key)
    companion.table.close(companion.table.context, text)
    companion.table.release(companion.table.context)
    assert companion.released == 1 and not companion.texts


def logits_of(companion: Companion, ids: list[int], vocab_size: int, *pieces: tuple[int, int]) -> Any:
    """After `ids`, given in pieces (position, end)."""
    text = Pointer()
    companion.table.open(companion.table.context, ctypes.byref(text), None)
    for begin, end in pieces:
        found = companion.append(text, begin, ids[begin:end], logits=vocab_size)
    companion.table.close(companion.table.context, text)
    return found


@pytest.mark.parametrize("name", ["llama", "lfm2"])
def test_tokens_are_taken_back(driver: ctypes.CDLL, name: str, tmp_path: Path) -> None:
    """Of convolutions too, whose state is computed again."""
    path = package(name, "f16", tmp_path)
    engine = Engine(path)
    companion = Companion(driver, path, engine.predictor, lambda text, *step: text(*step))
    ids = list(range(5, 40))
    vocab_size = engine.said["vocab_size"]
    want = logits_of(companion, ids, vocab_size, (0, 30))
    ids_back = ids[:20] + [7] * 10
    text = Pointer()
    companion.table.open(companion.table.context, ctypes.byref(text), None)
    companion.append(text, 0, ids_back, logits=0)
    found = companion.append(text, 20, ids[20:30], logits=vocab_size)
    assert np.abs(found - want).max() < 1e-2 * want.std()
    companion.table.close(companion.table.context, text)
    companion.table.release(companion.table.context)


def test_one_folder_has_both(tmp_path: Path) -> None:
    """And one tokenizer; where either fails there is none."""
    checkpoint, pair = make_checkpoint("llama", tmp_path), tmp_path / "pair"
    with pytest.raises(UsageError, match="neural_engine_q3"):
        convert_pair(checkpoint, pair, "coreml", "neural_engine_q3", calibrate=None)
    assert not pair.exists()
    own, beside = convert_pair(checkpoint, pair, "coreml", "q8", calibrate=None)
    assert own.quality is not None and beside.quality is not None and beside.scheme == "q8"
    assert {path.name for path in pair.iterdir()} == {"companion.json", "coreml", "model.edge"}
    assert {path.name for path in (pair / "coreml").iterdir()} == {"embeddings.bin", "model.mlpackage"}
    facts = json.loads((pair / "companion.json").read_text())
    assert facts["format"] == "coreml" and facts["scheme"] == "q8"
    with edgekit.Model(pair) as model, model.session() as session:
        assert model.vocab_size == facts["vocab_size"]
        assert list(session.generate([1, 2, 3], max_tokens=4))
    with pytest.raises(UsageError, match="there already"):
        convert_pair(checkpoint, pair, "coreml", "q8")
    with pytest.raises(UsageError, match="choose one of"):
        convert_pair(checkpoint, tmp_path / "other", "onnx")
