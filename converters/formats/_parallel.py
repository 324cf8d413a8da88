"""Work on slabs of rows side by side: numpy lets go of the interpreter lock."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")

SLAB_WEIGHTS = 1 << 19  # weights at a time by a thread: a few megabytes of float32
# glibc gives freed blocks back to the system, and faults them in anew for the next slab, unless a larger one
# was freed before (mallopt(3), M_MMAP_THRESHOLD): that costs half the time of a conversion.
_KEPT_BYTES = 1 << 24
WORKERS = min(8, os.cpu_count() or 1)


def row_slabs(n: int, k: int) -> list[tuple[int, int]]:
    """`[first, last)` of slabs of `n` rows of `k` weights."""
    step = max(1, SLAB_WEIGHTS // max(k, 1))
    return [(first, min(first + step, n)) for first in range(0, n, step)]


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map`, by several threads, with at most a few results in memory."""
    np.empty(_KEPT_BYTES, np.uint8)  # allocated and freed at once
    remaining = iter(items)
    with ThreadPoolExecutor(WORKERS) as pool:
        pending = deque(pool.submit(work, item) for item in itertools.islice(remaining, WORKERS + 1))
        while pending:
            result = pending.popleft().result()
            for item in itertools.islice(remaining, 1):
                pending.append(pool.submit(work, item))
            yield result
