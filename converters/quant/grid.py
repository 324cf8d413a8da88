"""One protocol for all quantizations: the house's, MLX's, ONNX Runtime's, ggml's, Core ML's.

A grid is the set of values that stored weights can take. Fitting chooses its parameters for rows of a matrix
(scales, offsets, palettes), rounded as they will be stored; codes are then chosen for those. The two steps
lie apart because calibration (GPTQ) moves weights between them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.codes import Codes, Layout

F32 = NDArray[np.float32]
Array = NDArray[Any]


@dataclass(frozen=True)
class Parameters:
    """What codes of n rows mean, as stored: `groups` are arrays `[n, groups]`, a number for each group of
    columns of a row; `header` arrays `[n, …]` of what all groups of a row share.
    """

    groups: tuple[Array, ...]
    header: tuple[Array, ...] = ()

    def at(self, rows: slice | Sequence[int]) -> Parameters:
        return Parameters(
            tuple(each[rows] for each in self.groups), tuple(each[rows] for each in self.header)
        )

    def columns(self, first: int, last: int) -> Parameters:
        """Of the groups `[first, last)`."""
        return Parameters(tuple(each[:, first:last] for each in self.groups), self.header)

    @staticmethod
    def beside(parts: Sequence[Parameters]) -> Parameters:
        """Groups of the same rows, one after another."""
        groups = (np.concatenate(each, 1) for each in zip(*(part.groups for part in parts), strict=True))
        return Parameters(tuple(groups), parts[0].header)


@dataclass(frozen=True)
class Fitted:
    """Rows of a matrix on a grid: integer codes `[n, k]` and what they mean."""

    codes: Array
    parameters: Parameters

    def at(self, rows: slice | Sequence[int]) -> Fitted:
        return Fitted(self.codes[rows], self.parameters.at(rows))

    def rows(self, first: int, last: int) -> Fitted:
        return self.at(slice(first, last))

    @staticmethod
    def joined(parts: Sequence[Fitted]) -> Fitted:
        """Rows below rows."""
        groups, header = (
            tuple(map(np.concatenate, zip(*lists, strict=True)))
            for lists in (
                [part.parameters.groups for part in parts],
                [part.parameters.header for part in parts],
            )
        )
        return Fitted(np.concatenate([part.codes for part in parts]), Parameters(groups, header))


class Grid(ABC):
    """`bits` of a code; `group` columns of a row share parameters, 0: all of a row do; `name` tells it from
    all others of its class.

    `importance` weighs the error of each column: the second moment of its activation, `[k]`, in any unit.
    """

    def __init__(self, name: str, bits: int, group: int) -> None:
        self.name, self.bits, self.group = name, bits, group

    @property
    def span(self) -> int:
        """Columns that are fitted together: several groups where those share what is stored of them."""
        return self.group

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self.name)

    @abstractmethod
    def fit(self, rows: F32, importance: F32 | None = None, header: tuple[Array, ...] = ()) -> Parameters:
        """Parameters of small squared error for `rows[n, k]`. With the `header` of whole rows `rows` may be
        some spans of their columns.
        """

    @abstractmethod
    def nearest(self, rows: F32, parameters: Parameters) -> Array:
        """Codes `[n, k]`. `rows` may be any columns of one group, with that group's parameters."""

    @abstractmethod
    def restore(self, fitted: Fitted) -> F32:
        """The weights `[n, k]` that the codes stand for, to the bit as an engine has them."""

    @abstractmethod
    def pack(self, fitted: Fitted) -> tuple[Array, ...]:
        """What is stored: packed codes, then what lies beside them; each `[rows, …]`."""

    @abstractmethod
    def size_bytes(self, n: int, k: int) -> int:
        """Of all that is stored of a matrix."""

    def rescaled(self, parameters: Parameters, factors: F32) -> Parameters | None:
        """Under which the same codes stand for weights `factors[n, groups]` times as large, as near as can be
        stored; None for a grid whose scales are too coarse for that, or whose codes leave nothing to gain.
        """
        return None

    def keeping(self, layout: Layout) -> Grid | None:
        """The grid of this kind that holds a checkpoint's codes as they are, no wider than this one."""
        return None

    def taken(self, codes: Codes) -> Fitted:
        """A checkpoint's codes, on the grid that `keeping` gave."""
        raise TypeError(f"{self.name} takes over no codes")

    def quantize(self, rows: F32, importance: F32 | None = None) -> Fitted:
        parameters = self.fit(rows, importance)
        return Fitted(self.nearest(rows, parameters), parameters)

    def changed(self, rows: F32, importance: F32 | None = None) -> F32:
        """`rows[n, k]` as they come back."""
        return self.restore(self.quantize(rows, importance))

    def groups(self, k: int) -> int:
        """In a row of `k` columns."""
        return -(-k // self.group) if self.group else 1

    def __str__(self) -> str:
        return self.name


def by_group(values: Array, groups: int, group: int) -> Array:
    """`[n, k]` -> `[n, groups, group]`, zeros after column k; a single group has the columns that there
    are.
    """
    n, k = values.shape
    if groups == 1:
        return values[:, None]
    return np.pad(values, ((0, 0), (0, groups * group - k))).reshape(n, groups, group)


def inverse(scale: F32) -> F32:
    """1 / scale, and 0 where there is none."""
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
