"""What is written at once, so that the page cache keeps it in large pages."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.converters.formats._large_blocks import BLOCK_BYTES, large_blocks


@pytest.mark.parametrize(
    "sizes",
    [[], [0, 5, 0], [BLOCK_BYTES], [BLOCK_BYTES - 1, 1, 3], [7, 3 * BLOCK_BYTES + 1, BLOCK_BYTES - 8]],
)
def test_blocks_are_full_and_hold_the_parts_in_order(sizes: list[int]) -> None:
    random = np.random.default_rng(0)
    parts = [random.bytes(size) for size in sizes]
    blocks = list(large_blocks(parts))
    assert b"".join(blocks) == b"".join(parts)
    assert all(len(block) == BLOCK_BYTES for block in blocks[:-1])
    assert all(blocks)


def test_arrays_are_taken_as_their_bytes() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert b"".join(large_blocks([b"ab", array.data])) == b"ab" + array.tobytes()
