"""What AWQ and GPTQ checkpoints share: `<path>.qweight`, `.qzeros` and `.scales` where others have
`<path>.weight`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import Checkpoint, Entry, to_float32
from edgekit.errors import InvalidFile, UnsupportedModel

HIDDEN = (".qzeros", ".scales", ".g_idx")


class PackedCheckpoint(Checkpoint):
    """Packed matrices come back as float32 `[d_out, d_in]`; `decode` says how they are packed.

    Raises InvalidFile for sizes that do not fit together.
    """

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        super().__init__(path, check=check)
        given = self.config.pop("quantization_config", None)
        self.quantization: dict[str, Any] = given if isinstance(given, dict) else {}
        self._packed = {n.removesuffix(".qweight") for n in self.tensors if n.endswith(".qweight")}
        self._last: tuple[str, dict[str, NDArray[Any]]] | None = (
            None  # slabs of one matrix come one after another
        )

    def bits(self, *known: int) -> int:
        bits = self.quantization.get("bits", self.quantization.get("w_bit"))
        if bits not in known:
            raise UnsupportedModel(
                f"{self.path.name}: {bits!r} bits; {', '.join(map(str, known))} are read",
                hint="take the unquantized checkpoint",
            )
        return int(bits)

    def names(self) -> list[str]:
        hidden = {f"{path}{tail}" for path in self._packed for tail in HIDDEN}
        return sorted(
            f"{n.removesuffix('.qweight')}.weight" if n.endswith(".qweight") else n
            for n in self.tensors
            if n not in hidden
        )

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        path = name.removesuffix(".weight")
        if path not in self._packed:
            return super().info(name)
        return "F16", self.shape(path)

    def read(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32]:
        path = name.removesuffix(".weight")
        if path not in self._packed:
            return super().read(name, rows)
        n, _ = self.shape(path)
        first, last = rows or (0, n)
        if not 0 <= first <= last <= n:
            raise InvalidFile(f"tensor {name!r}: rows {first}..{last} of {n} do not exist")
        return np.ascontiguousarray(self.decode(path, self._parts(path), first, last).T)

    def shape(self, path: str) -> tuple[int, int]:
        """`[d_out, d_in]`"""
        raise NotImplementedError

    def decode(self, path: str, parts: dict[str, NDArray[Any]], first: int, last: int) -> NDArray[np.float32]:
        """Columns `[first, last)` of `[d_in, d_out]`, from the tensors after `path` by their last word."""
        raise NotImplementedError

    def entry(self, path: str, tail: str, *dtypes: str, dims: int = 2) -> Entry:
        """A packed tensor's entry, checked."""
        entry = self.tensors.get(f"{path}.{tail}")
        if entry is None or entry.dtype not in dtypes or len(entry.shape) != dims or 0 in entry.shape:
            seen = "missing" if entry is None else f"{entry.dtype} {list(entry.shape)}"
            raise InvalidFile(
                f"{path}.{tail} is {seen}; {' or '.join(dtypes)} of {dims} dimensions is expected"
            )
        return entry

    def _parts(self, path: str) -> dict[str, NDArray[Any]]:
        if self._last is None or self._last[0] != path:
            parts = {}
            for tail in ("qweight", "qzeros", "scales", "g_idx"):
                entry = self.tensors.get(f"{path}.{tail}")
                if entry is not None:
                    bits = self._bits(f"{path}.{tail}", entry, None)
                    parts[tail] = to_float32(entry.dtype, bits) if tail == "scales" else bits
            self._last = (path, parts)
        return self._last[1]
