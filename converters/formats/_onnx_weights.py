"""The weights of a graph that edgekit wrote, read back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.converters.formats._onnx_graph import NUMPY, TYPES
from edgekit.converters.quant import blocks
from edgekit.converters.quant.grid import Fitted, Parameters
from edgekit.converters.spec import ModelSpec
from edgekit.errors import InvalidFile, UnsupportedModel

F32 = NDArray[np.float32]
TYPE_OF_CODE = {code: name for name, code in TYPES.items()}


class Weights:
    """A `Loader` over `model.onnx` and its data. Raises InvalidFile for files that are damaged."""

    def __init__(self, file: Path) -> None:
        try:
            model = onnx.load(str(file), load_external_data=False)
        except Exception as error:  # protobuf's own exceptions have no common base
            raise InvalidFile(f"{file}: not an ONNX model: {str(error)[:200]}") from None
        self.file = file
        self.facts = {property.key: property.value for property in model.metadata_props}
        if "edgekit.spec" not in self.facts:
            raise UnsupportedModel(
                f"{file} does not say what it should compute: edgekit did not write it, or long ago",
                hint="convert the checkpoint again",
            )
        self.spec = ModelSpec.from_json(json.loads(self.facts["edgekit.spec"]))
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        # What is said of codes is said by the operator that takes them.
        self.words: dict[str, dict[str, Any]] = {}
        for node in model.graph.node:
            words = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            for name in node.input:
                if name in self.tensors and "block_size" in words:
                    self.words[name] = words

    @property
    def exact(self) -> bool:
        """Whether every operator computes in float32. What is asked for rounds activations to 8 bits; so does
        what ONNX Runtime makes of signed codes that are dequantized and multiplied.
        """
        rounds = any(words.get("accuracy_level") == 4 for words in self.words.values())
        kinds = {TYPE_OF_CODE[t.data_type] for t in self.tensors.values()}
        return not rounds and not kinds & {"F16", "I4", "I8"}

    def layout(self, name: str) -> str:
        if f"{name}.codes" not in self.tensors:
            return TYPE_OF_CODE[self._tensor(f"{name}.weight").data_type].lower()
        kind = TYPE_OF_CODE[self.tensors[f"{name}.codes"].data_type]
        return f"q{self._words(name)['bits'] if kind == 'U8' else kind[1:]}"

    def __call__(self, name: str, rows: tuple[int, int] | None = None) -> F32 | None:
        if f"{name}.codes" in self.tensors:
            some = slice(*(rows or (0, self.spec.shape(name)[0])))
            return self._blocks(name, some) if self._stored_by_rows(name) else self._columns(name, some)
        if f"{name}.weight" not in self.tensors:
            return None
        values = self._array(f"{name}.weight").reshape(self.spec.shape(name))
        return np.asarray(values if rows is None else values[slice(*rows)], np.float32)

    def _stored_by_rows(self, name: str) -> bool:
        return bool(self.tensors[f"{name}.codes"].data_type == TYPES["U8"])

    def _blocks(self, name: str, rows: slice) -> F32:
        """Unsigned codes `[n, bytes]`, as ONNX Runtime's own operators take them."""
        n, k = self.spec.shape(name)
        words = self._words(name)
        bits, block = int(words["bits"]), int(words["block_size"])
        codes = blocks.unpack(np.asarray(self._array(f"{name}.codes").reshape(n, -1)[rows]), bits)[:, :k]
        scale = self._array(f"{name}.scales").reshape(n, -1)[rows]
        parameters = [scale]
        if f"{name}.zeros" in self.tensors:
            packed = np.asarray(self._array(f"{name}.zeros").reshape(n, -1)[rows])
            parameters.append(blocks.unpack(packed, bits)[:, : scale.shape[1]])
        dtype = TYPE_OF_CODE[self.tensors[f"{name}.scales"].data_type]
        grid = blocks.Blocks(bits, block, dtype, zeros=len(parameters) > 1)
        return grid.restore(Fitted(codes, Parameters(tuple(parameters))))

    def _columns(self, name: str, rows: slice) -> F32:
        """Signed codes `[k, n]`, as DequantizeLinear takes them."""
        scale = self._array(f"{name}.scales")[:, rows]
        codes = self._array(f"{name}.codes")[:, rows].astype(np.float32)
        blocks = codes.reshape(scale.shape[0], -1, scale.shape[1])
        if f"{name}.zeros" in self.tensors:
            blocks -= self._array(f"{name}.zeros")[:, rows].astype(np.float32)[:, None]
        return np.ascontiguousarray((blocks * scale[:, None]).reshape(codes.shape).T)

    def _words(self, name: str) -> dict[str, Any]:
        """Of the operator that takes the codes of a matrix."""
        for kind in ("codes", "blocks"):
            if f"{name}.{kind}" in self.words:
                return self.words[f"{name}.{kind}"]
        raise InvalidFile(f"{self.file}: no operator takes {name}.codes")

    def _tensor(self, name: str) -> Any:
        if name not in self.tensors:
            raise InvalidFile(f"{self.file}: there is no tensor {name!r}")
        return self.tensors[name]

    def _array(self, name: str) -> NDArray[Any]:
        """A tensor in its own shape, mapped where it can be."""
        tensor = self._tensor(name)
        kind, shape = TYPE_OF_CODE[tensor.data_type], tuple(tensor.dims)
        count = math.prod(shape)
        size = -(-count // 2) if kind == "I4" else count * np.dtype(NUMPY[kind]).itemsize
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}
            data, begin = self.file.with_name(place["location"]), int(place["offset"])
            if not data.is_file() or data.stat().st_size < begin + size:
                raise InvalidFile(f"{data}: {name} should be at bytes {begin} to {begin + size}")
            raw: NDArray[np.uint8] = np.memmap(data, np.uint8, "r", begin, (size,))
        else:
            raw = np.frombuffer(tensor.raw_data, np.uint8)
        if kind != "I4":
            return raw.view(NUMPY[kind]).reshape(shape)
        nibbles = blocks.unpack(raw.reshape(1, -1), 4)[0, :count].reshape(shape)
        return (nibbles ^ np.uint8(8)).astype(np.int8) - np.int8(8)
