"""An ONNX graph under construction: nodes in order, weights streamed into a file of external data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Block = NDArray[Any]

ALIGNMENT = 4096  # of a weight in the file, so that engines can map it
INLINE_BYTES = 1024  # smaller tensors lie in the graph itself

TYPES = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "F64": TensorProto.DOUBLE,
    "I64": TensorProto.INT64,
    "I32": TensorProto.INT32,
    "U8": TensorProto.UINT8,
    "I8": TensorProto.INT8,
    "I4": TensorProto.INT4,
}
NUMPY = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1", "I8": "i1"}
Dim = int | str


@dataclass(frozen=True)
class Weight:
    """A tensor of the data file; `alias` names one whose bytes it shares."""

    name: str
    type: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[Block]]
    alias: str | None = None

    @property
    def size_bytes(self) -> int:
        count = int(np.prod(self.shape, dtype=np.int64))
        return -(-count // 2) if self.type == "I4" else count * np.dtype(NUMPY[self.type]).itemsize


class Graph:
    """Names are made from the path of what is being built: `graph.at("layers.0.q")`."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inline: dict[str, onnx.TensorProto] = {}
        self.weights: dict[str, Weight] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._names: set[str] = set()

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        *,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> Any:
        """Appends a node; the name of its output, or their list when there are several."""
        unique = name
        while unique in self._names:
            unique += "_"
        self._names.add(unique)
        names = [unique] if outputs == 1 else [f"{unique}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, unique, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def contrib(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> Any:
        """A node of ONNX Runtime's own operators."""
        return self.node(op, inputs, name, domain="com.microsoft", **attributes)

    def rename(self, old: str, new: str) -> None:
        """Gives the output called `old` the name that the graph promises."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new

    def constant(self, values: Any, type: str, name: str | None = None) -> str:
        """A small tensor; equal ones are stored once."""
        array = np.asarray(values, NUMPY[type])
        if name is None:
            name = f"constant.{type}.{'x'.join(map(str, array.shape))}.{array.tobytes().hex()}"
        if array.nbytes > INLINE_BYTES:
            self.weight(Weight(name, type, array.shape, lambda: iter([array])))
        elif name not in self.inline:
            self.inline[name] = helper.make_tensor(name, TYPES[type], array.shape, array.tobytes(), raw=True)
        return name

    def weight(self, weight: Weight) -> str:
        self.weights.setdefault(weight.name, weight)
        return weight.name

    def input(self, name: str, type: str, shape: Sequence[Dim]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[type], shape))
        return name

    def output(self, name: str, type: str, shape: Sequence[Dim]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TYPES[type], shape))

    def save(
        self,
        path: Path,
        opsets: dict[str, int],
        ir_version: int,
        metadata: dict[str, str],
        progress: Callable[[str, int, int], None],
    ) -> None:
        """Writes `path` and, beside it, `<name>_data`."""
        location = f"{path.name}_data"  # the name by which Transformers.js asks for it
        offsets, _ = self._layout()
        with path.with_name(location).open("wb") as file:
            for done, weight in enumerate(self.weights.values(), 1):
                if weight.alias is None:
                    file.write(b"\0" * (offsets[weight.name] - file.tell()))
                    _write_all(file, weight.blocks())
                progress("writing tensors", done, len(self.weights))
            file.flush()
            os.fsync(file.fileno())
        graph = self._proto(location, offsets)
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        model = helper.make_model(
            graph, opset_imports=imports, producer_name="edgekit", ir_version=ir_version
        )
        helper.set_model_props(model, metadata)
        path.write_bytes(model.SerializeToString())

    def size_bytes(self) -> int:
        """Of both files, but for the metadata."""
        offsets, end = self._layout()
        return end + self._proto("model.onnx_data", offsets).ByteSize()

    def _proto(self, location: str, offsets: dict[str, int]) -> onnx.GraphProto:
        initializers = [
            *self.inline.values(),
            *(self._external(w, location, offsets) for w in self.weights.values()),
        ]
        return helper.make_graph(self.nodes, "decoder", self.inputs, self.outputs, initializers)

    def _layout(self) -> tuple[dict[str, int], int]:
        """Where each weight begins in the data file, and where that ends."""
        offsets: dict[str, int] = {}
        at = 0
        for weight in self.weights.values():
            if weight.alias is not None:
                continue
            at = -(-at // ALIGNMENT) * ALIGNMENT
            offsets[weight.name] = at
            at += weight.size_bytes
        aliases = {w.name: offsets[w.alias] for w in self.weights.values() if w.alias is not None}
        return offsets | aliases, at

    def _external(self, weight: Weight, location: str, offsets: dict[str, int]) -> onnx.TensorProto:
        tensor = onnx.TensorProto()
        tensor.name = weight.name
        tensor.data_type = TYPES[weight.type]
        tensor.dims.extend(weight.shape)
        tensor.data_location = TensorProto.EXTERNAL
        fields = {"location": location, "offset": offsets[weight.name], "length": weight.size_bytes}
        for key, value in fields.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        return tensor


def _write_all(file: Any, blocks: Iterable[Block]) -> None:
    for block in blocks:
        file.write(np.ascontiguousarray(block).data)
