"""How codes are chosen by what a model does with a text.

An algorithm is a file of this folder, and goes over any `Grid`:

    second_moments   of each matrix's inputs, which weigh the errors of a grid's own fit
    gptq             codes that make up for the errors of those before them
    sensitivity      what errors in each matrix cost, for choosing grids by (`converters/mix.py`)
    tuning           scales by which the model's probabilities come nearest to the unquantized one's

What they found is a `Calibrated`, the `Calibration` of a `ConvertInput`, from which every format takes codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.calibrate.store import Store
from edgekit.converters.quant.grid import Fitted, Grid


@dataclass(frozen=True)
class Calibrated:
    """Second moments of the inputs of matrices, the codes that have been chosen for some, and those whose
    scales have been tuned, each on the grid that it is for.
    """

    moments: Mapping[str, NDArray[np.float32]]
    chosen: Store | None = None
    tuned: Mapping[tuple[str, Grid], Fitted] = field(default_factory=dict)

    def importance(self, name: str) -> NDArray[np.float32] | None:
        return self.moments.get(name)

    def fitted(self, name: str, grid: Grid, rows: tuple[int, int]) -> Fitted | None:
        found = self.tuned.get((name, grid)) or (self.chosen.get(name, grid) if self.chosen else None)
        return found.rows(*rows) if found else None
