"""Codes of quantized checkpoints go into the output as they are, where it can hold them; elsewhere a warning
says what it costs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgekit.conversion import convert as convert_to
from edgekit.converters import convert, models, sources
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats import edge, gguf, mlx, onnx
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.quant import blocks
from edgekit.converters.quant.grid import Fitted, Parameters
from edgekit.converters.sources.mlx import MlxCheckpoint
from edgekit.engines import onnx as engine

pytest.importorskip("transformers", reason="needs the [test] extra")

import tiny_models
from packed_checkpoints import quantize
from tiny_models import make_checkpoint

IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 12)]
# What a checkpoint is packed as: (method, bits, whether 0 is the middle code).
PACKED = {
    "gptq": ("gptq", 4, False),
    "gptq_symmetric": ("gptq", 4, True),
    "awq": ("awq", 4, False),
    "compressed": ("pack-quantized", 4, True),
    "int8": ("int-quantized", 8, True),
}


@pytest.fixture(autouse=True)
def groups_of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them in most rows, and an odd number in some."""
    config = tiny_models.TINY_CONFIGS["llama"] | {"intermediate_size": 160}
    monkeypatch.setitem(tiny_models.TINY_CONFIGS, "llama_32", config)


def read(kind: str, tmp_path: Path) -> ConvertInput:
    method, bits, symmetric = PACKED[kind]
    source = make_checkpoint("llama_32", tmp_path / "hf")
    directory, _ = quantize(source, tmp_path / "packed", method, bits, group=32, symmetric=symmetric)
    return convert.read(directory, kind)


def quantized(model: ConvertInput) -> list[str]:
    names = [name for name in model.tensors if model.layout(name) is not None]
    assert len(names) == 3 * 7
    return names


def relative(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("opset_only", [False, True])
def test_onnx_computes_with_the_checkpoints_codes(
    kind: str, opset_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = onnxruntime.SessionOptions()  # else it rounds activations to 8 bits where it fuses
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: options)
    model = read(kind, tmp_path)
    bits = PACKED[kind][1]
    scheme = f"q{bits}" if opset_only else f"q{bits}_f32"
    onnx.write(model, tmp_path / "out", scheme, opset_only=opset_only)
    file = tmp_path / "out" / "model.onnx"
    stored = {
        t.name: onnx_format.numpy_helper.to_array(t) for t in onnx_format.load(str(file)).graph.initializer
    }
    kept = quantized(model)
    assert {f"{name}.codes" for name in kept} <= stored.keys()
    assert sum(name.endswith(".zeros") for name in stored) == (0 if PACKED[kind][2] else len(kept))

    def load(name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        if name in kept or f"{name}.codes" not in stored:
            return model.load(name, rows)
        codes, scale = stored[f"{name}.codes"], stored[f"{name}.scales"]
        if opset_only:
            values = (codes.astype(np.float32) * np.repeat(scale, 32, 0)).T
        else:
            n, k = model.spec.shape(name)
            fitted = Fitted(blocks.unpack(codes.reshape(n, -1), bits)[:, :k], Parameters((scale,)))
            values = blocks.Blocks(bits, 32).restore(fitted)
        return values if rows is None else values[slice(*rows)]

    want = Reference(model.spec, load).logits(IDS)
    session = engine.open(file.parent, None, "onnx").exact_session(len(IDS))
    assert relative(session.forward(np.array(IDS, np.int32), True), want) <= 1e-5


@pytest.mark.parametrize("kind", PACKED)
def test_mlx_holds_the_checkpoints_codes(kind: str, tmp_path: Path) -> None:
    model = read(kind, tmp_path)
    mlx.write(model, tmp_path / "out", "q8")
    written = models.open_model(MlxCheckpoint(tmp_path / "out"))
    for name in quantized(model):
        want, got = model.load(name), written.load(name)
        layout = written.source.layout(written.tensors[name].name)
        assert layout is not None and (layout.bits, layout.group) == (PACKED[kind][1], 32)
        assert want is not None and got is not None and relative(got, want) <= 1e-6


@pytest.mark.parametrize("kind", PACKED)
def test_gguf_holds_the_checkpoints_codes(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the [gguf] extra")
    model = read(kind, tmp_path)
    gguf.write(model, tmp_path / "out.gguf", "q8_0")
    again = convert.read(tmp_path / "out.gguf", kind)
    for name in quantized(model):
        want, got, layout = model.load(name), again.load(name), again.layout(name)
        assert layout is not None and layout.bits == PACKED[kind][1]
        assert want is not None and got is not None
        exact = PACKED[kind][2]  # offsets are rounded to float16
        assert relative(got, want) <= (0 if exact else 5e-4), name


@pytest.mark.parametrize("scheme", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_gguf_to_gguf_changes_nothing(scheme: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the [gguf] extra")
    source = convert.read(make_checkpoint("llama_32", tmp_path / "hf"), "llama")
    gguf.write(source, tmp_path / "a.gguf", scheme)
    model = convert.read(tmp_path / "a.gguf", "a")
    assert model.layout("layers.0.q") is not None
    gguf.write(model, tmp_path / "b.gguf", scheme)
    ours, theirs = (sources.open_source(tmp_path / f"{x}.gguf") for x in "ab")
    for name in ours.names():
        assert np.array_equal(ours.read(name), theirs.read(name)), name


@pytest.mark.parametrize("kind", [kind for kind in PACKED if kind != "int8"])
@pytest.mark.parametrize("scheme", ["q4", "q8"])
def test_edge_holds_the_checkpoints_codes(kind: str, scheme: str, tmp_path: Path) -> None:
    model = read(kind, tmp_path)
    edge.write(model, tmp_path / "out.edge", scheme)
    package = edge.Package(tmp_path / "out.edge")
    for name in quantized(model):
        want, got = model.load(name), package.load(name)
        assert package.layout(name) == "q4_affine32"
        assert want is not None and got is not None and relative(got, want) <= 5e-4, name


@pytest.mark.parametrize("scheme", ["q4_0", "q4_1"])
def test_a_gguf_file_loses_nothing_in_a_package(scheme: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the [gguf] extra")
    source = convert.read(make_checkpoint("llama_32", tmp_path / "hf"), "llama")
    gguf.write(source, tmp_path / "a.gguf", scheme)
    model = convert.read(tmp_path / "a.gguf", "a")
    assert edge.default_scheme(model) == "q8" and edge.default_scheme(source) == "q5"
    edge.write(model, tmp_path / "a.edge", "q8")
    package = edge.Package(tmp_path / "a.edge")
    for name in model.spec.matrices():
        want, got = model.load(name), package.load(name)
        assert want is not None and got is not None
        # Scales of 8-bit codes have the bits of a bfloat16.
        assert relative(got, want) <= (0 if package.layout(name) == "q4_affine32" else 2**-8), name


def test_mlx_to_mlx_changes_nothing(tmp_path: Path) -> None:
    source = convert.read(make_checkpoint("qwen3_moe", tmp_path / "hf"), "qwen3_moe")
    mlx.write(source, tmp_path / "a", "q4_g32")
    mlx.write(convert.read(tmp_path / "a", "a"), tmp_path / "b", "q4_g32")
    weights = [(tmp_path / x / "model.safetensors").read_bytes() for x in "ab"]
    assert weights[0] == weights[1]


def test_what_is_quantized_anew_is_said(tmp_path: Path) -> None:
    method, bits, symmetric = PACKED["gptq"]
    source = make_checkpoint("llama_32", tmp_path / "hf")
    directory, _ = quantize(source, tmp_path / "packed", method, bits, group=32, symmetric=symmetric)

    def warnings(format: str, scheme: str, opset_only: bool = False) -> list[str]:
        report = convert_to(
            directory, tmp_path / "out", format=format, scheme=scheme, dry_run=True, opset_only=opset_only
        )
        return [text for text in report.warnings if "anew" in text]

    (text,) = warnings("edge", "q3")
    assert "21 of 21 quantized matrices (4 bits in groups of 32)" in text and "%" in text
    assert not warnings("edge", "q4") and not warnings("edge", "q8") and not warnings("edge", "f32")
    assert not warnings("onnx", "q4") and not warnings("onnx", "q4", opset_only=True)
    assert not warnings("mlx", "q4") and len(warnings("mlx", "q3")) == 1


def test_what_is_quantized_anew_is_counted_by_layout_before_the_work(tmp_path: Path) -> None:
    source = make_checkpoint("llama_32", tmp_path / "hf")
    gguf.write(convert.read(source, "a"), tmp_path / "a.gguf", "q5_0")

    class Begun(Exception):
        pass

    def progress(task: str, done: int, total: int) -> None:
        if total:  # something is written
            raise Begun

    said: list[str] = []
    with pytest.raises(Begun):
        convert_to(
            tmp_path / "a.gguf", tmp_path / "out", scheme="q4_block32", progress=progress, warn=said.append
        )
    (text,) = [text for text in said if "anew" in text]
    assert "(22 of 5 bits in groups of 32, 1 of 8 bits in groups of 32)" in text
