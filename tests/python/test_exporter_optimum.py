"""--exporter optimum: architectures that edgekit does not know. Needs a Python with optimum-onnx, which
EDGEKIT_OPTIMUM_PYTHON names, or this one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

edgekit = pytest.importorskip("edgekit", reason="the native module is not built")
transformers = pytest.importorskip("transformers", reason="needs the [test] extra")

from edgekit.converters.exporters import _quantize_graph, optimum
from edgekit.converters.quant.blocks import Blocks

needs_optimum = pytest.mark.skipif(
    not os.environ.get("EDGEKIT_OPTIMUM_PYTHON") and importlib.util.find_spec("optimum") is None,
    reason="EDGEKIT_OPTIMUM_PYTHON names no Python with optimum-onnx (the [optimum] extra)",
)
SIZES = {"vocab_size": 199, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "gpt_neox": SIZES | {"intermediate_size": 128, "max_position_embeddings": 64},
    "gpt2": SIZES | {"n_positions": 64},
}
IDS = [5, 6, 7, 8]


def make(kind: str, directory: Path) -> Path:
    import torch

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


def greedy(checkpoint: Path, ids: list[int], count: int) -> list[int]:
    import torch

    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-count:]


@needs_optimum
@pytest.mark.parametrize("kind", CONFIGS)
def test_an_unknown_architecture_runs_in_the_onnx_backend(kind: str, tmp_path: Path) -> None:
    checkpoint = make(kind, tmp_path / kind)
    with pytest.raises(edgekit.UnsupportedModel):
        edgekit.convert(checkpoint, tmp_path / "own", format="onnx")
    report = edgekit.convert(checkpoint, tmp_path / "out", format="onnx", exporter="optimum", scheme="f32")
    assert report.model_type == kind and report.bytes and report.n_parameters
    assert report.quality is not None and report.quality.relative_error < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([kind, "out"])
    with edgekit.Model(tmp_path / "out") as model, model.session(window=32) as session:
        assert session.plan.window == 32

        def generate(ids: list[int], count: int) -> list[int]:
            events = session.generate(ids, max_tokens=count, temperature=0, ignore_eos=True)
            return [id for event in events if event.kind == "text" for id in event.tokens]

        expected = greedy(checkpoint, IDS, 6)
        assert generate(IDS, 6) == expected
        # A text that shares its beginning takes the cache back to where they part.
        other = [*IDS, *expected[:2], 9]
        assert generate(other, 3) == greedy(checkpoint, other, 3)
        assert len(generate(IDS, 100)) == 32 - len(IDS) + 1


@needs_optimum
def test_schemes_quantize_the_matrices(tmp_path: Path) -> None:
    checkpoint = make("gpt2", tmp_path / "gpt2")
    report = edgekit.convert(checkpoint, tmp_path / "out", format="onnx", exporter="optimum", scheme="q4")
    assert report.quality is not None and 1e-3 < report.quality.relative_error < 0.5
    graph = onnx_format.load(str(tmp_path / "out" / "model.onnx"), load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulNBits") == 2 * 4 + 1 and "Gemm" not in kinds


@pytest.mark.parametrize("bits", [4, 8])
def test_matrices_of_a_graph_become_codes(bits: int) -> None:
    random = np.random.default_rng(bits)
    weights = {
        "table": random.standard_normal((_quantize_graph.MIN_TOKENS, 64)),
        "square": random.standard_normal((64, 80)),  # [k, n]
        "turned": random.standard_normal((48, 80)),  # [n, k]: rows end inside a block
        "bias": random.standard_normal(48),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "square"], ["y"]),
        helper.make_node("Gemm", ["y", "turned", "bias"], ["logits"], transB=1),
    ]
    ids = helper.make_tensor_value_info("input_ids", onnx_format.TensorProto.INT64, ["n"])
    logits = helper.make_tensor_value_info("logits", onnx_format.TensorProto.FLOAT, ["n", 48])
    stored = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()]
    graph = helper.make_graph(nodes, "g", [ids], [logits], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert _quantize_graph.quantize(model, bits, 0) == 3
    assert {t.name for t in model.graph.initializer} >= {"table.codes", "turned.scales", "bias"}
    assert not {t.name for t in model.graph.initializer} & {"table", "square", "turned"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = np.array([3, 8000, 5])
    (got,) = session.run(None, {"input_ids": given})

    def rounded(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return Blocks(bits, 32).changed(rows)

    table, square, turned = (weights[name].astype(np.float32) for name in ("table", "square", "turned"))
    want = (
        rounded(table[given]) @ rounded(np.ascontiguousarray(square.T)).T @ rounded(turned).T
        + weights["bias"]
    )
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@needs_optimum
def test_what_optimum_does_not_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"model_type": "perceptron"}')
    with pytest.raises(edgekit.UnsupportedModel, match="perceptron"):
        edgekit.convert(tmp_path / "m", tmp_path / "out", format="onnx", exporter="optimum", dry_run=True)


def test_a_python_without_optimum_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"model_type": "gpt_neox"}')
    monkeypatch.setenv("EDGEKIT_OPTIMUM_PYTHON", str(tmp_path / "nothing"))
    with pytest.raises(edgekit.UsageError, match="EDGEKIT_OPTIMUM_PYTHON"):
        edgekit.convert(tmp_path / "m", tmp_path / "out", format="onnx", exporter="optimum")
    if importlib.util.find_spec("optimum") is None:
        monkeypatch.setenv("EDGEKIT_OPTIMUM_PYTHON", sys.executable)
        with pytest.raises(edgekit.UsageError, match="optimum-onnx") as raised:
            edgekit.convert(tmp_path / "m", tmp_path / "out", format="onnx", exporter="optimum")
        assert raised.value.hint == optimum.INSTALL
    with pytest.raises(edgekit.UsageError, match="onnx format"):
        edgekit.convert(tmp_path / "m", tmp_path / "out", format="mlx", exporter="optimum")
    with pytest.raises(edgekit.UsageError, match="exporter 'other'"):
        edgekit.convert(tmp_path / "m", tmp_path / "out", format="onnx", exporter="other")
