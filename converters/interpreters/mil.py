"""Runs the functions of a saved Core ML package in numpy: the program of `model.mlmodel`, the values of
`weight.bin`, states that stay between the calls. It knows the operators that edgekit emits, no others.

    program = MilProgram(Path("model.mlpackage"))
    state = program.make_state("decode")
    outputs = program.predict("decode", {"input_ids": …}, state)

`exact=True` rounds every float16 value to float16, as an engine does that adds up in float32; `exact=False`
computes float16 programs in float32, states too: what differs then from float32 logits is wrong.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from coremltools import proto
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from edgekit.errors import InvalidFile

Array = NDArray[Any]

MIL = proto.MIL_pb2
DATA = Path("Data") / "com.apple.CoreML"
NUMPY: dict[int, np.dtype[Any]] = {
    MIL.FLOAT16: np.dtype("<f2"),
    MIL.FLOAT32: np.dtype("<f4"),
    MIL.INT32: np.dtype("<i4"),
    MIL.INT8: np.dtype("i1"),
    MIL.UINT8: np.dtype("u1"),
    MIL.UINT16: np.dtype("<u2"),
    MIL.BOOL: np.dtype("?"),
}
BITS: dict[int, int] = {
    MIL.FLOAT32: 32, MIL.FLOAT16: 16, MIL.INT32: 32, MIL.INT8: 8, MIL.UINT8: 8, MIL.UINT6: 6, MIL.INT4: 4,
    MIL.UINT4: 4,
}  # fmt: skip
CAST = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4"), "int32": np.dtype("<i4")}
# type in a record of weight.bin -> type of the program
STORED: dict[int, int] = {
    1: MIL.FLOAT16, 2: MIL.FLOAT32, 3: MIL.UINT8, 4: MIL.INT8,
    8: MIL.INT4, 11: MIL.UINT4, 13: MIL.UINT6, 14: MIL.INT32,
}  # fmt: skip


class WeightBin:
    """Apple's layout of a file of weights, read from its bytes."""

    def __init__(self, path: Path) -> None:
        self.bytes = np.memmap(path, np.uint8, "r")
        self.count, version = struct.unpack("<II", self.bytes[:8].tobytes().ljust(8, b"\0"))
        _expect(version == 2, f"{path}: version {version} of a file of weights; 2 is expected")

    def read(self, offset: int, type: int, shape: tuple[int, ...]) -> Array:
        """Numbers of a record, which must be `type` and as many as `shape` has."""
        return unpacked(self.data(offset, type, shape), type, shape)

    def data(self, offset: int, type: int, shape: tuple[int, ...]) -> Array:
        """Their bytes."""
        sentinel, code, size, begin, spare = struct.unpack(
            "<IIQQQ", self.bytes[offset : offset + 32].tobytes().ljust(32, b"\0")
        )
        record = sentinel == 0xDEADBEEF and offset % 64 == 0 and begin % 64 == 0 and code in STORED
        _expect(record, f"weight.bin: there is no record at {offset}")
        stored, bits = STORED[code], BITS[STORED[code]]
        _expect(stored == type, f"weight.bin: type {stored} at {offset}, the program says {type}")
        _expect(
            size * 8 - spare == math.prod(shape) * bits,
            f"weight.bin: {size} bytes at {offset} for {math.prod(shape)} values of {bits} bits",
        )
        data = np.asarray(self.bytes[begin : begin + size])
        _expect(data.size == size, f"weight.bin: it ends before byte {begin + size}")
        return data


def unpacked(data: Array, type: int, shape: tuple[int, ...]) -> Array:
    """Numbers of a program's type from their bytes."""
    bits, count = BITS[type], math.prod(shape)
    if bits % 8 == 0:
        return data.view(NUMPY[type]).reshape(shape)
    stream = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
    values = (stream.astype(np.int16) << np.arange(bits, dtype=np.int16)).sum(1).astype(np.int16)
    if type == MIL.INT4:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.reshape(shape)


def model_of(package: Path) -> Any:
    """Its protobuf message. Raises InvalidFile."""
    model, file = proto.Model_pb2.Model(), package / DATA / "model.mlmodel"
    try:
        model.ParseFromString(file.read_bytes())
    except (DecodeError, OSError):
        raise InvalidFile(f"{file}: no Core ML model, or a damaged one") from None
    return model


class MilProgram:
    """`keep`: constants stay in memory, decompressed, from one call to the next."""

    def __init__(self, package: Path, *, exact: bool = True, keep: bool = True) -> None:
        self.model = model_of(package)
        self.weights = WeightBin(package / DATA / "weights" / "weight.bin")
        self.exact, self.keep = exact, keep
        self._values: dict[tuple[int, int, tuple[int, ...]], Array] = {}
        self._constants: dict[tuple[str, str], Array] = {}
        self._definitions = {
            name: {
                operation.outputs[0].name: operation
                for operation in program.block_specializations[program.opset].operations
                if operation.type.startswith("const")
            }
            for name, program in self.model.mlProgram.functions.items()
        }

    @property
    def functions(self) -> dict[str, Any]:
        return {function.name: function for function in self.model.description.functions}

    def make_state(self, function: str) -> dict[str, Array]:
        """Zeros, as Core ML's new states are."""
        kind = np.float16 if self.exact else np.float32
        return {
            given.name: np.zeros(tuple(given.type.stateType.arrayType.shape), kind)
            for given in self.functions[function].state
        }

    def predict(self, function: str, inputs: dict[str, Array], state: dict[str, Array]) -> dict[str, Array]:
        """Runs a function, which changes `state`; its outputs."""
        declared = self.functions[function]
        wanted = {given.name for given in declared.input}
        _expect(wanted == inputs.keys(), f"{function} takes {sorted(wanted)}, not {sorted(inputs)}")
        program = self.model.mlProgram.functions[function]
        scope: dict[str, Any] = {}
        for given in program.inputs:
            if given.name in state:
                scope[given.name] = State(state, given.name)
                shape = given.type.stateType.wrappedType.tensorType.dimensions
            else:
                kind = NUMPY[given.type.tensorType.dataType]
                if not self.exact and kind == np.float16:
                    kind = np.dtype(np.float32)
                scope[given.name] = np.asarray(inputs[given.name]).astype(kind)
                shape = given.type.tensorType.dimensions
            expected = tuple(dim.constant.size for dim in shape)
            found = state.get(given.name, scope[given.name])
            _expect(found.shape == expected, f"{given.name} is {found.shape}, the program takes {expected}")
        block = program.block_specializations[program.opset]
        for operation in block.operations:
            self._run(function, operation, scope)
        return {name: np.asarray(scope[name]) for name in block.outputs}

    def constants(self, function: str) -> dict[str, Array]:
        """The constants of a function by name, decompressed."""
        return {name: self.constant(function, name) for name in self._definitions[function]}

    def constant_names(self, function: str) -> list[str]:
        return list(self._definitions[function])

    def constant(self, function: str, name: str) -> Array:
        """Decompressed."""
        if (function, name) in self._constants:
            return self._constants[function, name]
        operation = self._definitions[function][name]
        if operation.type == "const":
            value = self._value(operation.attributes["val"])
        else:
            given = {part: self._argument(function, one) for part, one in operation.inputs.items()}
            value = self._rounded(OPERATORS[operation.type](**given))
        if self.keep:
            self._constants[function, name] = value
        return value

    def bits(self, function: str, name: str) -> tuple[int, bool]:
        """Of a number of a constant, as the file has it, and whether they are codes."""
        operation = self._definitions[function][name]
        if operation.type == "const":
            return BITS[operation.outputs[0].type.tensorType.dataType], False
        codes = operation.inputs["data" if "data" in operation.inputs else "indices"].arguments[0]
        return BITS[codes.value.type.tensorType.dataType], True

    def stored(self, function: str, name: str) -> tuple[str, dict[str, tuple[int, tuple[int, ...], Array]]]:
        """A constant as it is stored: the operation that decompresses it ("const": none), and the type, shape
        and bytes of each of its parts.
        """
        operation = self._definitions[function][name]
        if operation.type == "const":
            return "const", {"val": self._record(operation.attributes["val"])}
        given = {part: one.arguments[0] for part, one in operation.inputs.items()}
        return operation.type, {
            part: self._record(
                self._definitions[function][binding.name].attributes["val"]
                if binding.WhichOneof("binding") == "name"
                else binding.value
            )
            for part, binding in given.items()
        }

    def _record(self, value: Any) -> tuple[int, tuple[int, ...], Array]:
        kind, shape = value.type.tensorType.dataType, _dims(value.type)
        if value.WhichOneof("value") != "blobFileValue":
            return kind, shape, np.ascontiguousarray(self._value(value)).view(np.uint8).reshape(-1)
        return kind, shape, self.weights.data(value.blobFileValue.offset, kind, shape)

    def _argument(self, function: str, given: Any) -> Any:
        """Of an operation on constants."""
        binding = given.arguments[0]
        if binding.WhichOneof("binding") == "name":
            return self.constant(function, binding.name)
        return self._value(binding.value)

    def _rounded(self, value: Array) -> Array:
        if not self.exact and value.dtype == np.float16:
            return value.astype(np.float32)
        return value

    def _run(self, function: str, operation: Any, scope: dict[str, Any]) -> None:
        if operation.type.startswith("const"):
            return  # found by name where it is used
        given: dict[str, Any] = {}
        for name, argument in operation.inputs.items():
            values = [self._operand(function, binding, scope) for binding in argument.arguments]
            given[name] = values if name == "values" else values[0]
        if not self.exact and given.get("dtype") == "fp16":
            given["dtype"] = "fp32"
        _expect(operation.type in OPERATORS, f"the program has the unknown operator {operation.type!r}")
        results = OPERATORS[operation.type](**given)
        several = results if isinstance(results, (list, tuple)) else [results]
        for output, result in zip(operation.outputs, several, strict=operation.type != "write_state"):
            declared = output.type.tensorType
            shape = tuple(dim.constant.size for dim in declared.dimensions)
            _expect(result.shape == shape, f"{output.name} is {result.shape}, the program says {shape}")
            scope[output.name] = self._rounded(
                result.astype(NUMPY[declared.dataType]) if self.exact else result
            )

    def _operand(self, function: str, binding: Any, scope: dict[str, Any]) -> Any:
        if binding.WhichOneof("binding") != "name":
            return self._value(binding.value)
        found = scope.get(binding.name)
        return self.constant(function, binding.name) if found is None else found

    def _value(self, value: Any) -> Any:
        shape, kind = _dims(value.type), value.type.tensorType.dataType
        if value.WhichOneof("value") == "blobFileValue":
            file = value.blobFileValue.fileName
            _expect(file == "@model_path/weights/weight.bin", f"the program's weights lie in {file!r}")
            key = (value.blobFileValue.offset, kind, shape)
            if key in self._values:
                return self._values[key]
            values = self._rounded(self.weights.read(*key))
            if self.keep:
                self._values[key] = values
            return values
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        values = getattr(tensor, field).values
        if kind == MIL.STRING:
            return values[0]
        if field == "bytes":
            return self._rounded(np.frombuffer(values, NUMPY[kind]).reshape(shape))
        return np.array(values, NUMPY[kind]).reshape(shape)


def _dims(type: Any) -> tuple[int, ...]:
    return tuple(dim.constant.size for dim in type.tensorType.dimensions)


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise InvalidFile(f"a Core ML package that edgekit did not write, or a damaged one: {otherwise}")


class State:
    """A buffer that outlives the call."""

    def __init__(self, all: dict[str, Array], name: str) -> None:
        self.all, self.name = all, name

    def read(self) -> Array:
        return self.all[self.name].copy()

    def write(self, data: Array) -> None:
        assert data.shape == self.all[self.name].shape
        self.all[self.name] = data.astype(self.all[self.name].dtype)


def _float32(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic in float32, whatever the operands; the caller rounds the result."""

    def run(**given: Any) -> Any:
        return operator(
            **{
                name: value.astype(np.float32)
                if isinstance(value, np.ndarray) and value.dtype == np.float16
                else value
                for name, value in given.items()
            }
        )

    return run


def _softmax(x: Array, axis: Array) -> Array:
    weights = np.exp(x - x.max(int(axis), keepdims=True))
    return weights / weights.sum(int(axis), keepdims=True)


def _layer_norm(x: Array, axes: Array, epsilon: Array) -> Array:
    over = tuple(int(axis) for axis in axes)
    centred = x - x.mean(over, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(over, keepdims=True) + np.float32(epsilon))


def _gelu(x: Array, mode: str) -> Array:
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(np.sqrt(np.float32(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))
    assert mode == "EXACT"
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)).astype(np.float32))


def _conv(
    x: Array, weight: Array, pad_type: str, groups: Array, strides: Array, dilations: Array, pad: Array,
    bias: Array | None = None,
) -> Array:  # fmt: skip
    """`[1, channels, 1, length]` by `[filters, channels / groups, 1, kernel]`."""
    assert pad_type == "valid" and set(strides.tolist()) == set(dilations.tolist()) == {1} and not pad.any()
    _, channels, _, length = x.shape
    filters, _, _, kernel = weight.shape
    windows = np.stack([x[0, :, 0, i : i + length - kernel + 1] for i in range(kernel)])
    if groups == channels == filters:
        out = np.einsum("kcl,ck->cl", windows, weight[:, 0, 0])
    else:
        assert groups == 1
        out = np.einsum("kcl,fck->fl", windows, weight[:, :, 0], optimize=True)
    if bias is not None:
        out = out + bias[:, None]
    return out[None, :, None]


def _blockwise(data: Array, scale: Array, offset: Array | None = None) -> Array:
    values = data.astype(np.float32)
    if offset is not None:
        values = values - _repeated(offset.astype(np.float32), data.shape)
    return (values * _repeated(scale.astype(np.float32), data.shape)).astype(scale.dtype)


def _repeated(x: Array, shape: tuple[int, ...]) -> Array:
    for axis, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
        assert want % have == 0
        x = np.repeat(x, want // have, axis)
    return x


def _palettes(indices: Array, lut: Array, vector_axis: Array | None = None) -> Array:
    assert vector_axis is None and lut.shape[-1] == 1
    *groups, count, _ = lut.shape
    table = np.arange(math.prod(groups)).reshape(groups)
    chosen = _repeated(table, indices.shape) * count + indices
    return lut.reshape(-1)[chosen]


def _slices(x: Array, begin: Array, end: Array, given: dict[str, Any]) -> tuple[slice, ...]:
    begin_mask, end_mask = (given.get(name, np.zeros(x.ndim, bool)) for name in ("begin_mask", "end_mask"))
    assert np.all(given.get("stride", np.ones(1)) == 1) and not np.any(given.get("squeeze_mask", False))
    return tuple(
        slice(0 if begin_mask[i] else int(begin[i]), x.shape[i] if end_mask[i] else int(end[i]))
        for i in range(x.ndim)
    )


def _slice_by_index(x: Array, begin: Array, end: Array, **given: Any) -> Array:
    return x[_slices(x, begin, end, given)]


def _slice_update(x: Array, update: Array, begin: Array, end: Array, **given: Any) -> Array:
    whole = x.copy()
    target = whole[_slices(x, begin, end, given)]
    assert target.shape == update.shape
    target[...] = update
    return whole


def _split(
    x: Array, axis: Array, num_splits: Array | None = None, split_sizes: Array | None = None
) -> list[Array]:
    if num_splits is not None:
        return np.split(x, int(num_splits), int(axis))
    assert split_sizes is not None and split_sizes.sum() == x.shape[int(axis)]
    return np.split(x, np.cumsum(split_sizes)[:-1], int(axis))


def _topk(x: Array, k: Array, axis: Array, **given: Any) -> tuple[Array, Array]:
    assert not given["ascending"]
    chosen = np.argsort(-x, int(axis), kind="stable").take(np.arange(int(k)), int(axis))
    return np.take_along_axis(x, chosen, int(axis)), chosen.astype(np.int32)


def _matmul(x: Array, y: Array, transpose_x: Array, transpose_y: Array) -> Array:
    x = x.swapaxes(-1, -2) if transpose_x else x
    return np.matmul(x, y.swapaxes(-1, -2) if transpose_y else y)


def _linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    y = x @ weight.astype(np.float32).T
    return y if bias is None else y + bias


def _axes(axes: Array) -> tuple[int, ...]:
    return tuple(int(axis) for axis in axes)


OPERATORS: dict[str, Callable[..., Any]] = {
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_lut_to_dense": _palettes,
    "read_state": lambda input: input.read(),
    "write_state": lambda input, data: (input.write(data), [])[1],
    "add": _float32(lambda x, y: x + y),
    "sub": _float32(lambda x, y: x - y),
    "mul": _float32(lambda x, y: x * y),
    "real_div": _float32(lambda x, y: x / y),
    "greater_equal": lambda x, y: x >= y,
    "rsqrt": _float32(lambda x, epsilon: 1 / np.sqrt(x + epsilon)),
    "tanh": _float32(lambda x: np.tanh(x)),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": _float32(lambda x: 1 / (1 + np.exp(-np.maximum(x, -80)))),
    "gelu": _float32(_gelu),
    "softmax": _float32(_softmax),
    "layer_norm": _float32(_layer_norm),
    "reduce_mean": _float32(lambda x, axes, keep_dims: x.mean(_axes(axes), keepdims=bool(keep_dims))),
    "reduce_sum": _float32(lambda x, axes, keep_dims: x.sum(_axes(axes), keepdims=bool(keep_dims))),
    "reduce_min": lambda x, axes, keep_dims: x.min(_axes(axes), keepdims=bool(keep_dims)),
    "matmul": _float32(_matmul),
    "linear": _float32(_linear),
    "conv": _float32(_conv),
    "topk": _topk,
    "split": _split,
    "concat": lambda values, axis, interleave: np.concatenate(values, int(axis)),
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, perm: x.transpose(perm),
    "identity": lambda x: x,
    "expand_dims": lambda x, axes: np.expand_dims(x, _axes(axes)),
    "squeeze": lambda x, axes: np.squeeze(x, _axes(axes)),
    "cast": lambda x, dtype: x.astype(CAST[dtype]),
}
