"""ONNX directories with codes that ONNX Runtime's own quantizers chose. Needs onnx-ir, and torch for HQQ."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import matmul_nbits_quantizer as theirs

from edgekit.in_place_of import in_place_of

BITS, BLOCK = 4, 32
ALGORITHMS = {
    "RTN": theirs.DefaultWeightOnlyQuantConfig(BLOCK, bits=BITS),
    "RTN-symmetric": theirs.DefaultWeightOnlyQuantConfig(BLOCK, is_symmetric=True, bits=BITS),
    "k-quant": theirs.KQuantWeightOnlyQuantConfig(),
    "HQQ": theirs.HQQWeightOnlyQuantConfig(BLOCK, BITS),
}


def quantize(source: Path, target: Path, algorithm: str) -> None:
    """`source`, a directory of floats that edgekit wrote, by one of `ALGORITHMS`; the embedding, which most
    of them cannot, by the first.
    """
    model = onnx.load(str(source / "model.onnx"))
    facts = list(model.metadata_props)
    _spell_out(model)
    embedding = theirs.DefaultWeightOnlyQuantConfig(BLOCK, bits=BITS, op_types_to_quantize=("Gather",))
    for config in (ALGORITHMS[algorithm], embedding):
        quantizer = theirs.MatMulNBitsQuantizer(model, BITS, BLOCK, algo_config=config)
        quantizer.process()
        model = quantizer.model.model
    del model.metadata_props[:]
    model.metadata_props.extend(facts)
    with in_place_of(target) as part:
        shutil.copytree(source, part, ignore=shutil.ignore_patterns("model.onnx*"))
        onnx.save(model, str(part / "model.onnx"), save_as_external_data=True, location="model.onnx.data")


def _spell_out(model: onnx.ModelProto) -> None:
    """Products with matrices as the quantizers know them: `MatMul`, by columns."""
    graph = model.graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "FusedMatMul" and node.input[1] in known:
            columns = numpy_helper.to_array(known[node.input[1]]).T.copy()
            name = f"{node.input[1]}.columns"
            graph.initializer.append(numpy_helper.from_array(columns, name))
            node.CopyFrom(helper.make_node("MatMul", [node.input[0], name], node.output, node.name))
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
