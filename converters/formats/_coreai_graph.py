"""A Core ML program's operators in Core AI's: the same functions, states and constants, as the graphs of an
`.aimodel`. Both engines then compute one program, and Apple's runtime for Linux checks it.

A state is an input that its graph gives back changed (`MutableBuffers.buffer_mutation`), which Core AI does
in place.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from coreai import authoring as ai
from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir.dialects.coreai import create_elements_attr
from coreai._compiler.dialects.coreai import ConstantOp
from coreai._compiler.ir import ArrayAttr, DictAttr, Location, StringAttr
from coreai.authoring.constant import constant
from coreai.authoring.graph_builder import GraphOp
from numpy.typing import NDArray

from edgekit.converters.formats._coreml_weights import pack
from edgekit.converters.interpreters.mil import BITS, MIL, MilProgram

Array = NDArray[Any]
Value = Any  # a value of a graph, or numpy's of a constant that is none yet

NAME = "coreai.name"
MUTATION = "MutableBuffers.buffer_mutation"
TYPES: dict[int, Any] = {
    MIL.FLOAT16: ai.float16,
    MIL.FLOAT32: ai.float32,
    MIL.INT32: ai.int32,
    MIL.INT8: ai.int8,
    MIL.INT4: ai.int4,
    MIL.UINT8: ai.uint8,
    MIL.UINT4: ai.uint4,
    MIL.BOOL: ai.bool_,
}
CAST = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32}


def translated(program: MilProgram) -> ai.AIProgram:
    """All functions."""
    module = ai.Module.create()
    with module:
        for name in program.functions:
            _Graph(program, name).build()
    return ai.AIProgram(module)


class _Graph:
    def __init__(self, program: MilProgram, function: str) -> None:
        self.program, self.function = program, function
        self.known = program.model.mlProgram.functions[function]
        self.block = self.known.block_specializations[self.known.opset]
        self.scope: dict[str, Value] = {}
        self.states: dict[str, Value] = {}

    def build(self) -> None:
        types, names, states = [], [], []
        for given in self.known.inputs:
            state = given.type.WhichOneof("type") == "stateType"
            declared = (given.type.stateType.wrappedType if state else given.type).tensorType
            dims = tuple(dim.constant.size for dim in declared.dimensions)
            types.append(ai.TensorType(dims, TYPES[declared.dataType])._to_mlir())
            names.append(given.name)
            states += [given.name] if state else []
        graph = GraphOp(self.function, types, [], names)
        with graph.block:
            for name, argument in zip(names, graph.arguments, strict=True):
                value = ai.Value._from_mlir(argument)
                (self.states if name in states else self.scope)[name] = value
            for operation in self.block.operations:
                self.run(operation)
            outputs = {name: tensor(self.scope[name]) for name in self.block.outputs}
            outputs |= {f"{name}_out": value for name, value in self.states.items()}
            graph.set_outputs_spec_from_dict(
                OrderedDict((name, value._to_mlir()) for name, value in outputs.items())
            )
        attributes = [
            {NAME: StringAttr.get(name)}
            | ({MUTATION: StringAttr.get(f"{name}_out")} if name in states else {})
            for name in names
        ]
        graph.arg_attrs = ArrayAttr.get([DictAttr.get(each) for each in attributes])

    def run(self, operation: Any) -> None:
        kind = operation.type
        if kind == "const":
            return  # made where it is used
        given: dict[str, Any] = {}
        for name, argument in operation.inputs.items():
            values = [self.operand(binding) for binding in argument.arguments]
            given[name] = values if name == "values" else values[0]
        if kind == "read_state":
            results = [self.states[given["input"]]]
        elif kind == "write_state":
            self.states[given["input"]] = given["data"]
            return
        else:
            declared = tuple(dim.constant.size for dim in operation.outputs[0].type.tensorType.dimensions)
            if kind in RESHAPES:
                given = {"x": given["x"], "shape": np.array(declared)}
            found = OPERATORS[kind](**given)
            results = found if isinstance(found, list) else [found]
            assert shape(results[0]) == declared, f"{kind}: {shape(results[0])} where {declared} is declared"
        for output, result in zip(operation.outputs, results, strict=True):
            self.scope[output.name] = result

    def operand(self, binding: Any) -> Value:
        """A value of the graph; numpy's of a constant; a state's name."""
        if binding.WhichOneof("binding") != "name":
            return self.constant(binding.value)
        name = binding.name
        if name in self.states:
            return name
        if name not in self.scope:
            definition = self.program._definitions[self.function][name]
            self.scope[name] = self.constant(definition.attributes["val"])
        return self.scope[name]

    def constant(self, value: Any) -> Value:
        """Numbers that are given as they are stay numpy's; of the file's a value of their own width."""
        stored = self.program._value(value)
        kind = value.type.tensorType.dataType
        if value.WhichOneof("value") != "blobFileValue":
            return stored
        return packed(stored, TYPES[kind], BITS[kind])


def packed(values: Array, dtype: Any, bits: int) -> Value:
    """A constant of numbers of any width, which lie side by side as in Core ML's file."""
    flat = values if bits >= 8 else np.concatenate(list(pack(iter([values.astype(np.int8)]), bits)))
    kind = ai.TensorType(np.shape(values), dtype)._to_mlir()
    attribute = create_elements_attr(Location.unknown(), kind, np.ascontiguousarray(flat))
    return ai.Value._from_mlir(ConstantOp(value=attribute).result)


def shape(x: Value) -> tuple[int, ...]:
    return tuple(x.type.shape) if isinstance(x, ai.Value) else np.shape(x)


def tensor(x: Value) -> Value:
    """A value of the graph."""
    return x if isinstance(x, ai.Value) else constant(np.ascontiguousarray(x).reshape(np.shape(x)))


def ints(*numbers: Any) -> Array:
    return np.array(numbers, np.int32)


def counts(*numbers: Any) -> Array:
    return np.array(numbers, np.uint32)


def _like(x: Value, number: float) -> Value:
    """A number of the type of `x`."""
    return constant(np.full((1,) * len(shape(x)), number, x.type.dtype.numpy))


def _blockwise(data: Value, scale: Value, offset: Value = None) -> Value:
    kind, zeros = data.type.dtype, np.zeros(shape(scale), np.int8)
    middle = packed(zeros, kind, 4 if kind == ai.int4 else 8) if offset is None else offset
    nothing = constant(zeros.astype(scale.type.dtype.numpy))
    return ai.blockwise_shift_scale(data, scale, middle, nothing)


def _palettes(indices: Value, lut: Value) -> Value:
    return ai.lut_to_dense(indices, lut, np.int16(0))


def _layer_norm(x: Value, axes: Array, epsilon: Array) -> Value:
    """Of float16 after a division by the largest number, so that no square overflows."""
    over = ints(*axes)
    x = ai.broadcasting_sub(x, ai.reduce_mean(x, over))
    root = _like(x, math.sqrt(float(epsilon)))
    if x.type.dtype == ai.float16:
        most = ai.broadcasting_maximum(ai.reduce_max(ai.abs_(x), over), _like(x, 2.0**-12))
        x, root = ai.broadcasting_divide(x, most), ai.broadcasting_divide(root, most)
    power = ai.reduce_mean(ai.broadcasting_mul(x, x), over)
    return ai.broadcasting_mul(x, ai.rsqrt(ai.broadcasting_add(power, ai.broadcasting_mul(root, root))))


def _gelu(x: Value, mode: str) -> Value:
    return ai.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _conv(x: Value, weight: Value, groups: Array, bias: Value = None, **given: Any) -> Value:
    y = ai.conv2d(x, weight, counts(1, 1), counts(1, 1), np.uint32(groups))
    return (
        y if bias is None else ai.broadcasting_add(y, ai.reshape(tensor(bias), counts(1, *shape(bias), 1, 1)))
    )


def _matmul(x: Value, y: Value, transpose_x: Array, transpose_y: Array) -> Value:
    x, y = (_turned(v) if turn else tensor(v) for v, turn in ((x, transpose_x), (y, transpose_y)))
    return ai.broadcasting_batch_matmul(x, y)


def _turned(x: Value) -> Value:
    """With its last two axes exchanged."""
    rank = len(shape(x))
    return ai.transpose(tensor(x), counts(*range(rank - 2), rank - 1, rank - 2))


def _linear(x: Value, weight: Value, bias: Value = None) -> Value:
    y = ai.broadcasting_batch_matmul(x, _turned(weight))
    return y if bias is None else ai.broadcasting_add(y, tensor(bias))


def _topk(x: Value, k: Array, axis: Array, **given: Any) -> list[Value]:
    """The places of what is found are not used."""
    ordered = ai.sort(x, np.int32(axis), np.bool_(True), np.bool_(True))
    end = [*shape(x)]
    end[int(axis)] = int(k)
    top = ai.slice_(ordered, ints(*[0] * len(end)), ints(*end), ints(*[1] * len(end)))
    return [top, top]


def _split(x: Value, axis: Array, num_splits: int = 1, split_sizes: Sequence[int] = ()) -> list[Value]:
    sizes = list(split_sizes) or [shape(x)[int(axis)] // int(num_splits)] * int(num_splits)
    return ai.split(x, counts(*sizes), np.int32(axis))


def _slice_by_index(x: Value, begin: Array, end: Array, **given: Any) -> Value:
    return ai.slice_(x, ints(*begin), ints(*end), ints(*[1] * len(begin)))


def _slice_update(x: Value, update: Value, begin: Value, **given: Any) -> Value:
    """What has no beginning of its own begins at 0, and the update is as long as the slice."""
    end = ai.broadcasting_add(begin, constant(ints(*shape(update))))
    return ai.slice_update(x, begin, end, ints(*[1] * len(shape(x))), update)


def _concat(values: Sequence[Value], axis: Array, **given: Any) -> Value:
    return ai.concat(np.int32(axis), [tensor(value) for value in values])


RESHAPES = ("reshape", "expand_dims", "squeeze")
OPERATORS: dict[str, Callable[..., Any]] = {
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_lut_to_dense": _palettes,
    "add": lambda x, y: ai.broadcasting_add(tensor(x), tensor(y)),
    "sub": lambda x, y: ai.broadcasting_sub(tensor(x), tensor(y)),
    "mul": lambda x, y: ai.broadcasting_mul(tensor(x), tensor(y)),
    "real_div": lambda x, y: ai.broadcasting_divide(tensor(x), tensor(y)),
    "greater_equal": lambda x, y: ai.not_(ai.broadcasting_greater(tensor(y), tensor(x))),
    "rsqrt": lambda x, epsilon: ai.rsqrt(ai.broadcasting_add(x, _like(x, float(epsilon)))),
    "identity": lambda x: x,
    "tanh": lambda x: ai.tanh(x),
    "relu": lambda x: ai.relu(x),
    "sigmoid": lambda x: ai.sigmoid(x),
    "gelu": _gelu,
    "softmax": lambda x, axis: ai.softmax(x, np.int32(axis)),
    "layer_norm": _layer_norm,
    "reduce_mean": lambda x, axes, keep_dims: ai.reduce_mean(x, ints(*axes)),
    "reduce_sum": lambda x, axes, keep_dims: ai.reduce_sum(x, ints(*axes)),
    "reduce_min": lambda x, axes, keep_dims: ai.reduce_min(x, ints(*axes)),
    "matmul": _matmul,
    "linear": _linear,
    "conv": _conv,
    "topk": _topk,
    "split": _split,
    "concat": _concat,
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    **{kind: lambda x, shape: ai.reshape(tensor(x), counts(*shape)) for kind in RESHAPES},
    "transpose": lambda x, perm: ai.transpose(x, counts(*perm)),
    "cast": lambda x, dtype: ai.cast(tensor(x), CAST[dtype]),
}
