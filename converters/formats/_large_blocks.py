"""Bytes in blocks that a file system keeps as large pages.

Linux holds what was written at once, up to 2 MB, in one piece of the page cache (ext4 since 6.16, XFS), and
an engine that maps the file then finds pages of 2 MB instead of 4 KB: fewer faults, and weights that stream
faster (docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BLOCK_BYTES = 2 << 20


def large_blocks(parts: Iterable[bytes | memoryview]) -> Iterator[bytearray]:
    """What `parts` hold, one after the other, in blocks of `BLOCK_BYTES`; the last one may be shorter."""
    block = bytearray()
    for part in parts:
        left = memoryview(part).cast("B")
        while left:
            taken = left[: BLOCK_BYTES - len(block)]
            block += taken
            left = left[len(taken) :]
            if len(block) == BLOCK_BYTES:
                yield block
                block = bytearray()
    if block:
        yield block
