"""MLX directories, quantized or not, as checkpoints.

A matrix is quantized when `<path>.scales` lies beside `<path>.weight`. Experts, which MLX keeps in one tensor
`switch_mlp`, come back as `experts.E`; depthwise taps come back with their channels in the middle, norms
that mlx-lm made whole without the 1.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.checkpoint import FLOAT_TYPES, Checkpoint, Entry, to_float32
from edgekit.converters.codes import Codes, Layout
from edgekit.converters.quant import affine, microscaling
from edgekit.converters.quant.microscaling import Microscaling
from edgekit.errors import InvalidFile, UnsupportedModel

BESIDE = (".scales", ".biases")
TAPS = re.compile(r"\.(conv\.conv|conv1d)\.weight$")
# Families whose norms are stored minus 1 elsewhere, and those norms.
WHOLE_NORMS = ("qwen3_5", "qwen3_5_text", "qwen3_next")
WHOLE = re.compile(r"(layernorm|model\.norm|[qk]_norm)\.weight$")


class MlxCheckpoint(Checkpoint):
    """Raises InvalidFile for sizes that do not fit together, UnsupportedModel for unknown modes."""

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        super().__init__(path, check=check)
        given = self.config.pop("quantization", None)
        if given is not None and not isinstance(given, dict):
            raise InvalidFile(f"config: 'quantization' is {given!r}; an object is expected")
        self.quantization: dict[str, Any] = given or {}
        self.config.pop("quantization_config", None)
        self._where: dict[str, tuple[str, int | None]] = {}  # a name -> the tensor here, and the expert in it
        for name, entry in self.tensors.items():
            if name.endswith(BESIDE) and name.rsplit(".", 1)[0] + ".weight" in self.tensors:
                continue
            if ".switch_mlp." in name and len(entry.shape) == 3:
                for expert in range(entry.shape[0]):
                    theirs = name.replace(".switch_mlp.", f".experts.{expert}.")
                    theirs = theirs.replace(".fc1.", ".up_proj.").replace(".fc2.", ".down_proj.")
                    self._where[theirs] = (name, expert)
            else:
                self._where[name] = (name, None)

    def names(self) -> list[str]:
        return sorted(self._where)

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        theirs, expert = self._find(name)
        entry = self.tensors[theirs]
        shape = entry.shape if expert is None else entry.shape[1:]
        scales = self._scales(theirs)
        if scales is None:
            return entry.dtype, self._turned(theirs, shape)
        bits, group, mode = self._scheme(theirs)
        k = scales.shape[-1] * group
        if len(scales.shape) != len(entry.shape) or scales.shape[:-1] != entry.shape[:-1]:
            raise InvalidFile(f"{theirs!r} has shape {list(entry.shape)}, its scales {list(scales.shape)}")
        if entry.dtype != "U32" or entry.shape[-1] * 32 != k * bits:
            raise InvalidFile(
                f"{theirs!r}: {entry.shape[-1]} words of type {entry.dtype} for {k} codes of {bits} bits"
            )
        return (scales.dtype if mode == "affine" else "BF16"), (*shape[:-1], k)

    def read(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.float32]:
        theirs, expert = self._find(name)
        scales = self._scales(theirs)
        if scales is None and expert is None and not TAPS.search(theirs):
            values = super().read(theirs, rows)
            whole = self.config.get("model_type") in WHOLE_NORMS and WHOLE.search(theirs)
            return values - np.float32(1) if whole else values
        _, shape = self.info(name)
        begin, end = rows or (0, shape[0])
        if not 0 <= begin <= end <= shape[0]:
            raise InvalidFile(f"tensor {name!r}: rows {begin}..{end} of shape {list(shape)} do not exist")
        if scales is None:
            values = to_float32(self.tensors[theirs].dtype, self._part(theirs, expert, begin, end))
            return values.reshape(end - begin, *shape[1:])
        bits, _, mode = self._scheme(theirs)
        path = theirs.removesuffix(".weight")
        packed = self._part(theirs, expert, begin, end)
        if mode != "affine":
            grid = Microscaling(mode)
            return grid.restore(grid.unpack(packed, self._part(f"{path}.scales", expert, begin, end)))
        codes = affine.unpack(packed, bits)
        return affine.values(codes, *self._line(theirs, expert, (begin, end)))

    def layout(self, name: str) -> Layout | None:
        theirs, _ = self._find(name)
        if self._scales(theirs) is None:
            return None
        bits, group, mode = self._scheme(theirs)
        return Layout(bits, group, "free" if mode == "affine" else "other")

    def codes(self, name: str, rows: tuple[int, int]) -> Codes:
        theirs, expert = self._find(name)
        _, shape = self.info(name)
        if not 0 <= rows[0] <= rows[1] <= shape[0]:
            raise InvalidFile(f"tensor {name!r}: rows {rows[0]}..{rows[1]} of {shape[0]} do not exist")
        bits, _, _ = self._scheme(theirs)
        codes = affine.unpack(self._part(theirs, expert, *rows), bits)
        scale, offset = self._line(theirs, expert, rows)
        return Codes(codes, scale, offset)

    def _line(self, name: str, expert: int | None, rows: tuple[int, int]) -> list[NDArray[np.float32]]:
        """Scales and biases of rows, `[n, groups]`."""
        path, found = name.removesuffix(".weight"), []
        for tail in BESIDE:
            entry = self.tensors.get(f"{path}{tail}")
            shape = self.tensors[f"{path}.scales"].shape
            if entry is None or entry.shape != shape or entry.dtype not in FLOAT_TYPES:
                seen = "missing" if entry is None else f"{entry.dtype} {list(entry.shape)}"
                raise InvalidFile(f"{path}{tail} is {seen}; floats of shape {list(shape)} are expected")
            found.append(to_float32(entry.dtype, self._part(f"{path}{tail}", expert, *rows)))
        if self.check and not all(np.isfinite(values).all() for values in found):
            raise InvalidFile(f"{path}: scales or biases are NaN or infinite")
        return found

    def _find(self, name: str) -> tuple[str, int | None]:
        if name not in self._where:
            raise InvalidFile(f"{self.path}: no tensor named {name!r}")
        return self._where[name]

    def _scales(self, name: str) -> Entry | None:
        return (
            self.tensors.get(name.removesuffix(".weight") + ".scales") if name.endswith(".weight") else None
        )

    def _scheme(self, name: str) -> tuple[int, int, str]:
        """(bits, group size, mode) of a quantized matrix."""
        own = self.quantization.get(name.removesuffix(".weight")) or {}
        if not isinstance(own, dict):
            raise InvalidFile(f"config: the quantization of {name} is {own!r}; an object is expected")
        given = self.quantization | own
        mode, bits, group = given.get("mode", "affine"), given.get("bits", 0), given.get("group_size", 0)
        known = bits in affine.BITS and group in (16, *affine.GROUPS)
        if isinstance(mode, str) and mode in microscaling.GROUP:
            known = group == microscaling.GROUP[mode] and bits == (8 if mode == "mxfp8" else 4)
        elif mode != "affine":
            raise UnsupportedModel(f"{name}: quantization mode {mode!r} is not supported")
        if not known:
            raise InvalidFile(f"{name}: {bits!r} bits in groups of {group!r} ({mode}) is no scheme of MLX")
        return int(bits), int(group), str(mode)

    def _part(self, name: str, expert: int | None, begin: int, end: int) -> NDArray[Any]:
        """Rows of a tensor (of one expert of it) `[rows, columns]`, as stored."""
        entry = self.tensors[name]
        if expert is None:
            bits = self._bits(name, entry, (begin, end))
        else:
            bits = self._bits(name, entry, (expert, expert + 1))[0, begin:end]
        return bits.reshape(end - begin, -1)

    def _turned(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        taps = TAPS.search(name) and len(shape) == 3 and shape[2] == 1
        return (shape[0], 1, shape[1]) if taps else shape
