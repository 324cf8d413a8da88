"""Matrices of an ONNX graph as codes: MatMul and Gemm become MatMulNBits, the embedding's Gather
GatherBlockQuantized. The graph, weights and all, is in memory.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.converters.quant.blocks import Blocks

BLOCK = 32
MIN_TOKENS = 8192  # of an embedding worth its codes: smaller tables are those of positions
DOMAIN = "com.microsoft"


def quantize(model: onnx.ModelProto, bits: int, accuracy_level: int) -> int:
    """Rewrites `model`; how many matrices became codes."""
    graph = model.graph
    matrices = {
        t.name: t for t in graph.initializer if len(t.dims) == 2 and t.data_type == onnx.TensorProto.FLOAT
    }
    nodes, count = [], 0
    for node in graph.node:
        made = _node(node, matrices, graph, bits, accuracy_level)
        count += made is not node
        nodes.append(made)
    graph.ClearField("node")
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    if count:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return count


def _node(
    node: onnx.NodeProto,
    matrices: dict[str, onnx.TensorProto],
    graph: onnx.GraphProto,
    bits: int,
    accuracy_level: int,
) -> onnx.NodeProto:
    at = {"MatMul": 1, "Gemm": 1, "Gather": 0}.get(node.op_type)
    if at is None or node.input[at] not in matrices or (at == 1 and node.input[0] in matrices):
        return node
    weight = matrices[node.input[at]]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "axis": 0}
    if any(attributes.get(name, value) != value for name, value in plain.items()):
        return node
    if node.op_type == "Gather":
        if weight.dims[1] % BLOCK or weight.dims[0] < MIN_TOKENS:
            return node
        codes, scales = _codes(weight, graph, bits, flat=True)
        return helper.make_node(
            "GatherBlockQuantized", [codes, node.input[1], scales], node.output, node.name, domain=DOMAIN,
            gather_axis=0, quantize_axis=1, block_size=BLOCK, bits=bits,
        )  # fmt: skip
    turned = not attributes.get("transB", 0)
    n, k = weight.dims[::-1] if turned else weight.dims
    codes, scales = _codes(weight, graph, bits, turned=turned)
    bias = ["", "", node.input[2]] if len(node.input) > 2 and node.input[2] else []
    return helper.make_node(
        "MatMulNBits", [node.input[0], codes, scales, *bias], node.output, node.name, domain=DOMAIN,
        K=k, N=n, bits=bits, block_size=BLOCK, accuracy_level=accuracy_level,
    )  # fmt: skip


def _codes(
    weight: onnx.TensorProto, graph: onnx.GraphProto, bits: int, *, turned: bool = False, flat: bool = False
) -> tuple[str, str]:
    """Names of codes `[n, blocks, bytes]` (flat: `[n, bytes]`) and scales `[n, blocks]`."""
    rows: NDArray[np.float32] = numpy_helper.to_array(weight)
    rows = np.ascontiguousarray(rows.T if turned else rows)
    grid = Blocks(bits, BLOCK)
    packed, scales = grid.pack(grid.quantize(rows))
    if not flat:
        packed = packed.reshape(*scales.shape, -1)
    names = f"{weight.name}.codes", f"{weight.name}.scales"
    known = {tensor.name for tensor in graph.initializer}
    for name, values in zip(names, (packed, scales), strict=True):
        if name not in known:
            graph.initializer.append(numpy_helper.from_array(values, name))
    return names
