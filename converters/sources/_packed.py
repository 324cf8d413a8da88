"""What checkpoints with packed matrices share: `<path>.qweight`, or whatever the tensor of codes is called,
and others beside it where a plain checkpoint has `<path>.weight`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import Checkpoint, Entry, to_float32
from edgekit.converters.codes import Codes, Layout
from edgekit.errors import InvalidFile, UnsupportedModel

Parts = dict[str, NDArray[Any]]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


class PackedCheckpoint(Checkpoint):
    """Packed matrices come back as float32 `[d_out, d_in]`:

        weight[out, in] = scale[out, group_of[in]] * (code[out, in] - zero[out, group_of[in]])

    Raises InvalidFile for sizes that do not fit together.
    """

    WEIGHT: str  # the tensor of codes
    BESIDE: tuple[str, ...]  # the others
    SCALES: str
    ORDER: str  # the group of each input

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        super().__init__(path, check=check)
        given = self.config.pop("quantization_config", None)
        self.quantization: dict[str, Any] = given if isinstance(given, dict) else {}
        tail = f".{self.WEIGHT}"
        self._packed = {
            n.removesuffix(tail)
            for n in self.tensors
            if n.endswith(tail) and f"{n.removesuffix(tail)}.{self.SCALES}" in self.tensors
        }
        self._layouts: dict[str, Layout] = {}
        # Slabs of one matrix come one after another.
        self._last: tuple[str, Parts] | None = None

    def bits(self, path: str) -> int:
        """The width of a matrix's codes. Raises UnsupportedModel for others than are read."""
        raise NotImplementedError

    def shape(self, path: str) -> tuple[int, int, int]:
        """`(d_out, d_in, groups)`, checked against every tensor of the matrix."""
        raise NotImplementedError

    def unpack(self, path: str, parts: Parts, first: int, last: int) -> U8:
        """Codes of rows `[first, last)`, `[rows, d_in]`, from the tensors after `path` by their last word."""
        raise NotImplementedError

    def grid(self, path: str, parts: Parts, first: int, last: int) -> tuple[F32, U8]:
        """Scales and zeros of these rows, `[rows, groups]`."""
        raise NotImplementedError

    def names(self) -> list[str]:
        hidden = {f"{path}.{tail}" for path in self._packed for tail in (self.WEIGHT, *self.BESIDE)}
        return sorted([n for n in self.tensors if n not in hidden] + [f"{p}.weight" for p in self._packed])

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        path = name.removesuffix(".weight")
        if path not in self._packed:
            return super().info(name)
        return self.tensors[f"{path}.{self.SCALES}"].dtype, self.shape(path)[:2]

    def read(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32]:
        path = name.removesuffix(".weight")
        if path not in self._packed:
            return super().read(name, rows)
        n, _, _ = self.shape(path)
        scale, zero = self._grid(path, *(rows or (0, n)))
        group_of = self._group_of(path)
        values = self.unpack(path, self._parts(path), *(rows or (0, n))).astype(np.float32)
        values -= zero.astype(np.float32)[:, group_of]
        values *= scale[:, group_of]
        return values

    def layout(self, name: str) -> Layout | None:
        path = name.removesuffix(".weight")
        if path not in self._packed:
            return None
        if path not in self._layouts:
            n, k, groups = self.shape(path)
            bits, size = self.bits(path), k // groups
            in_order = np.array_equal(self._group_of(path), np.arange(k) // size)
            middle = in_order and bool((self._grid(path, 0, n)[1] == 1 << (bits - 1)).all())
            self._layouts[path] = Layout(bits, size, "middle" if middle else "whole" if in_order else "other")
        return self._layouts[path]

    def codes(self, name: str, rows: tuple[int, int]) -> Codes:
        path = name.removesuffix(".weight")
        scale, zero = self._grid(path, *rows)
        codes = self.unpack(path, self._parts(path), *rows)
        return Codes(codes, scale, -scale * zero.astype(np.float32), zero)

    def entry(self, path: str, tail: str, *dtypes: str, dims: int = 2) -> Entry:
        """A packed tensor's entry, checked."""
        entry = self.tensors.get(f"{path}.{tail}")
        if entry is None or entry.dtype not in dtypes or len(entry.shape) != dims or 0 in entry.shape:
            seen = "missing" if entry is None else f"{entry.dtype} {list(entry.shape)}"
            raise InvalidFile(
                f"{path}.{tail} is {seen}; {' or '.join(dtypes)} of {dims} dimensions is expected"
            )
        return entry

    def unsupported(self, what: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self.path.name}: {what}", hint="take the unquantized checkpoint")

    def _grid(self, path: str, first: int, last: int) -> tuple[F32, U8]:
        n, _, _ = self.shape(path)
        if not 0 <= first <= last <= n:
            raise InvalidFile(f"tensor {path + '.weight'!r}: rows {first}..{last} of {n} do not exist")
        scale, zero = self.grid(path, self._parts(path), first, last)
        if self.check and not np.isfinite(scale).all():
            raise InvalidFile(f"{path}.{self.SCALES} has NaN or infinite values")
        return scale, zero

    def _group_of(self, path: str) -> NDArray[np.int64]:
        """The group of each input, `[d_in]`."""
        _, k, groups = self.shape(path)
        given = self._parts(path).get(self.ORDER)
        if given is None or (given < 0).all():  # compressed-tensors fills an unused one with -1
            return np.arange(k, dtype=np.int64) // (k // groups)
        if given.shape != (k,) or given.min() < 0 or given.max() >= groups:
            raise InvalidFile(f"{path}.{self.ORDER} names groups that do not exist")
        return given.astype(np.int64)

    def _parts(self, path: str) -> Parts:
        last = self._last  # once: slabs are read by several threads
        if last is None or last[0] != path:
            parts = {}
            for tail in (self.WEIGHT, *self.BESIDE):
                entry = self.tensors.get(f"{path}.{tail}")
                if entry is not None:
                    bits = self._bits(f"{path}.{tail}", entry, None)
                    parts[tail] = to_float32(entry.dtype, bits) if tail == self.SCALES else bits
            self._last = last = (path, parts)
        return last[1]


def bit_stream(words: NDArray[np.int32], bits: int) -> NDArray[np.uint8]:
    """`[n, words]` -> codes `[n, words * 32 / bits]`: one stream of bits per row, low bits first."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return np.packbits(stream.reshape(len(words), -1, bits), axis=-1, bitorder="little")[..., 0]
