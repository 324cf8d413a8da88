"""weight.bin of a Core ML package: tensors streamed into the file that an ML Program's constants point into.

    header    64 bytes   uint32 number of records, uint32 version 2
    record    64 bytes   uint32 0xDEADBEEF, uint32 type, uint64 size of the data in bytes, uint64 where they
                         begin, uint64 bits of the last byte that are not used
    data                 little-endian, low bits first

Every record and all data begin on a multiple of 64 bytes. A constant names its record's offset. A record may
point into another tensor's data: that is how rows of the embedding are the output matrix too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Block = NDArray[Any]

ALIGNMENT = 64
SENTINEL = 0xDEADBEEF
VERSION = 2


@dataclass(frozen=True)
class Type:
    """`code` in a record; `numpy` holds one value a byte where several share one in the file."""

    code: int
    bits: int
    numpy: str


TYPES = {
    "fp16": Type(1, 16, "<f2"),
    "fp32": Type(2, 32, "<f4"),
    "uint8": Type(3, 8, "u1"),
    "int8": Type(4, 8, "i1"),
    "int4": Type(8, 4, "i1"),
    "uint4": Type(11, 4, "u1"),
    "uint6": Type(13, 6, "u1"),
    "int32": Type(14, 32, "<i4"),
}
TYPE_OF_NUMPY = {np.dtype(t.numpy): name for name, t in TYPES.items() if t.bits % 8 == 0}


@dataclass(frozen=True)
class Tensor:
    """`blocks` are its values in order, one a number; their count is `rows * row_size`."""

    type: str
    rows: int
    row_size: int
    blocks: Callable[[], Iterator[Block]]

    @property
    def bits(self) -> int:
        return self.rows * self.row_size * TYPES[self.type].bits


class WeightFile:
    """Places are given as tensors are added; the bytes are written at the end, in one pass."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._data: dict[str, int] = {}
        self._records: dict[tuple[str, int, int], int] = {}
        self._parts: list[tuple[int, bytes, str | None]] = []  # offset, record, the tensor whose data follow
        self._end = ALIGNMENT

    def add(self, name: str, tensor: Tensor) -> None:
        """Once for each name."""
        if name not in self.tensors:
            self.tensors[name] = tensor
            self._data[name] = self._end + ALIGNMENT
            self._place(name, 0, tensor.rows, name)

    def add_array(self, values: Block) -> int:
        """The record of a small tensor; equal ones are stored once."""
        kind = TYPE_OF_NUMPY[values.dtype]
        name = f"{kind} {values.tobytes().hex()}"
        self.add(name, Tensor(kind, 1, values.size, lambda: iter([values.reshape(-1)])))
        return self.record(name)

    def record(self, name: str, rows: tuple[int, int] | None = None) -> int:
        """Offset of the record of a tensor, or of some of its rows, which must begin on a multiple of 64
        bytes.
        """
        first, last = rows or (0, self.tensors[name].rows)
        if (name, first, last) not in self._records:
            self._place(name, first, last, None)
        return self._records[name, first, last]

    @property
    def size_bytes(self) -> int:
        return self._end

    def save(self, path: Path, progress: Callable[[str, int, int], None]) -> None:
        with path.open("wb") as file:
            file.write(struct.pack("<II", len(self._parts), VERSION).ljust(ALIGNMENT, b"\0"))
            for done, (offset, record, name) in enumerate(self._parts, 1):
                file.write(b"\0" * (offset - file.tell()))
                file.write(record)
                if name is not None:
                    tensor = self.tensors[name]
                    for packed in pack(tensor.blocks(), TYPES[tensor.type].bits):
                        file.write(packed.data)
                    if file.tell() != offset + ALIGNMENT + -(-tensor.bits // 8):
                        raise AssertionError(f"{name}: not as many values as its shape has")
                progress("writing tensors", done, len(self._parts))
            file.write(b"\0" * (self._end - file.tell()))
            file.flush()
            os.fsync(file.fileno())

    def _place(self, name: str, first: int, last: int, data_of: str | None) -> None:
        tensor = self.tensors[name]
        width = TYPES[tensor.type].bits
        begin, bits = divmod(first * tensor.row_size * width, 8)
        if bits or begin % ALIGNMENT:
            raise AssertionError(f"{name}: row {first} begins on no multiple of {ALIGNMENT} bytes")
        size_bits = (last - first) * tensor.row_size * width
        size = -(-size_bits // 8)
        spare = size * 8 - size_bits if width % 8 else 0
        record = struct.pack(
            "<IIQQQ", SENTINEL, TYPES[tensor.type].code, size, self._data[name] + begin, spare
        )
        self._records[name, first, last] = self._end
        self._parts.append((self._end, record.ljust(ALIGNMENT, b"\0"), data_of))
        self._end += ALIGNMENT + (-(-size // ALIGNMENT) * ALIGNMENT if data_of else 0)


def pack(blocks: Iterator[Block], bits: int) -> Iterator[Block]:
    """A stream of bytes, low bits first, from values of which only the low `bits` are kept."""
    if bits % 8 == 0:
        yield from (np.ascontiguousarray(block).reshape(-1) for block in blocks)
        return
    left = np.empty(0, np.uint8)  # until they fill whole bytes
    for block in blocks:
        values = np.concatenate((left, block.reshape(-1).view(np.uint8)))
        whole = values.size - values.size % 4
        yield _packed(values[:whole], bits)
        left = values[whole:]
    if left.size:
        yield _packed(np.pad(left, (0, 4 - left.size)), bits)[: -(-left.size * bits // 8)]


def _packed(values: NDArray[np.uint8], bits: int) -> Block:
    """Four values in `bits / 2` bytes."""
    groups = (values.reshape(-1, 4) & np.uint8((1 << bits) - 1)).astype(np.uint32)
    words = groups[:, 0].copy()
    for i in range(1, 4):
        words |= groups[:, i] << np.uint32(i * bits)
    return np.ascontiguousarray(words.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : bits // 2]).reshape(-1)
