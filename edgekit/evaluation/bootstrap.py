"""Intervals from draws with replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000

F64 = NDArray[np.float64]
Interval = tuple[float, float]


def interval(statistic: Callable[[F64], Any], values: F64) -> Interval:
    """95% of the statistic's values over rows of `values` drawn with replacement: the same draws for the same
    number of rows, so that figures of one text or of one list of tasks may be compared pair by pair.
    """
    random = np.random.default_rng(0)
    drawn = [statistic(values[random.integers(0, len(values), len(values))]) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
