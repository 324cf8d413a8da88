"""Apple's published rules for programs that suit the Neural Engine, held against a saved program; and what a
step moves of its cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from edgekit.converters.interpreters.mil import MIL, MilProgram

SIZES = {MIL.FLOAT16: 2, MIL.FLOAT32: 4}
VIEWS = ("reshape", "split", "slice_by_index")  # of a cache: what follows reads them


def operations(program: MilProgram, function: str) -> list[Any]:
    found = program.model.mlProgram.functions[function]
    return list(found.block_specializations[found.opset].operations)


def shape(type: Any) -> tuple[int, ...]:
    return tuple(dim.constant.size for dim in type.tensorType.dimensions)


def names(operation: Any) -> list[str]:
    """The values that it takes, constants too."""
    bindings = [binding for given in operation.inputs.values() for binding in given.arguments]
    return [binding.name for binding in bindings if binding.WhichOneof("binding") == "name"]


def broken_rules(program: MilProgram) -> list[str]:
    """Each rule that is broken, with the function and the operation or the input."""
    return [
        f"{function}: {found}"
        for function in program.functions
        for check in (_declared, _operations)
        for found in check(program, function)
    ]


def _declared(program: MilProgram, function: str) -> Iterator[str]:
    """Inputs, outputs and states."""
    declared, known = program.functions[function], program.model.mlProgram.functions[function]
    types = {given.name: given.type for given in known.inputs}
    for given in known.inputs:
        if given.type.WhichOneof("type") == "stateType":
            dims = shape(given.type.stateType.wrappedType)
            if dims[-1] % 32:
                yield f"state {given.name} {dims} is not a multiple of 32 wide"
        elif types[given.name].tensorType.dataType == MIL.FLOAT16:
            dims = shape(given.type)
            if dims[-1] * 2 % 64:
                yield f"input {given.name} {dims}: its last axis is no multiple of 64 bytes"
            if given.name.startswith("mask_") and dims[2] != 1:
                yield f"input {given.name} {dims}: a mask is (1, key, 1, query)"
        elif types[given.name].tensorType.dataType != MIL.INT32:
            yield f"input {given.name} is float32"
    for given in declared.output:
        dims = tuple(given.type.multiArrayType.shape)
        if dims[-1] * 2 % 64:
            yield f"output {given.name} {dims}: its last axis is no multiple of 64 bytes"


def _operations(program: MilProgram, function: str) -> Iterator[str]:
    shapes = {given.name: shape(given.type) for given in program.model.mlProgram.functions[function].inputs}
    for operation in operations(program, function):
        for result in operation.outputs:
            name, dims = f"{operation.type} {result.name}", shape(result.type)
            shapes[result.name] = dims
            if len(dims) > 5:
                yield f"{name} has rank {len(dims)}"
            if result.type.tensorType.dataType == MIL.FLOAT32:
                yield f"{name} is float32"
            if operation.type == "const":
                continue
            if any(dim <= 0 for dim in dims):
                yield f"{name} has no static shape"
            if operation.type in ("transpose", "gather", "linear", "silu", "einsum"):
                yield f"{name}: a {operation.type}, where 1x1 convolutions of columns are expected"
            if operation.type in ("reshape", "expand_dims", "squeeze"):
                before = shapes[operation.inputs["x"].arguments[0].name]
                if before[-1] != dims[-1]:
                    yield f"{name}: {before} -> {dims} touches the last axis"
            if operation.type == "softmax" and dims[0] * dims[2] != 1:
                yield f"{name} {dims}: heads are taken one by one"
            if operation.type == "constexpr_blockwise_shift_scale":
                scale = operation.inputs["scale"].arguments[0]
                if (shapes[scale.name] if scale.name else shape(scale.value.type))[1] != 1:
                    yield f"{name}: blocks along k"


def cache_traffic(program: MilProgram, function: str) -> int:
    """Bytes of keys and values that one call reads and writes.

    A slice that is written to a state and what only looks at it are no copies; every other operation reads
    what it takes of a cache whole, and writes what it makes of it.
    """
    known = program.model.mlProgram.functions[function]
    states = {given.name for given in known.inputs if given.type.WhichOneof("type") == "stateType"}
    caches: set[str] = set()  # values that are a cache or a part of one
    moved, sizes = 0, {}
    for operation in operations(program, function):
        taken = names(operation)
        for result in operation.outputs:
            width = SIZES.get(result.type.tensorType.dataType, 0)
            sizes[result.name] = math.prod(shape(result.type)) * width
        results = [result.name for result in operation.outputs]
        if operation.type == "read_state" and taken[0] in states:
            caches.update(results)
        elif operation.type == "slice_update" and operation.inputs["x"].arguments[0].name in caches:
            moved += sizes[operation.inputs["update"].arguments[0].name]
            caches.update(results)
        elif operation.type == "write_state":
            if operation.inputs["data"].arguments[0].name not in caches:
                moved += sizes[operation.inputs["data"].arguments[0].name]
        elif operation.type in VIEWS and any(name in caches for name in taken):
            caches.update(results)
        else:
            moved += sum(sizes[name] for name in taken if name in caches)
    return moved
