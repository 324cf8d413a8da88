"""What the reference says of a text, kept on disk so that any number of models costs one run of it.

A row for each scored position: its logits less the largest of them, as float16, `[positions, vocab_size]`.
The rounding costs a divergence of about 1e-6 nats.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.convert import Progress
from edgekit.errors import IoFailure
from edgekit.evaluation.scorers import Scorer
from edgekit.files import files_of
from edgekit.in_place_of import in_place_of

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]


def targets(
    scorer: Scorer, path: Path, pieces: Sequence[Sequence[int]], last: int, folder: Path, progress: Progress
) -> F16:
    """Of the last `last` of each piece's tokens, from `folder` when they lie there already.

    Raises IoFailure when the disk has no room for them.
    """
    kept = folder / f"{_key(path, pieces, last)}.npy"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with in_place_of(kept) as temporary:
            _write(scorer, temporary, pieces, last, progress)
    return np.load(kept, mmap_mode="r")


def _write(
    scorer: Scorer, path: Path, pieces: Sequence[Sequence[int]], last: int, progress: Progress
) -> None:
    rows: F16 | None = None
    for done, ids in enumerate(pieces):
        progress("computing the reference", done, len(pieces))
        scorer.reset()
        logits = scorer.feed(ids, last)
        if rows is None:
            shape = (len(pieces) * last, logits.shape[1])
            needed, free = 2 * shape[0] * shape[1], shutil.disk_usage(path.parent).free
            if needed > free:
                raise IoFailure(
                    f"the reference's logits take {needed:,} bytes, and {path.parent} has {free:,}",
                    hint="evaluate on fewer --tokens, or give another folder with --cache",
                )
            rows = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        rows[done * last : (done + 1) * last] = logits - logits.max(1, keepdims=True)
    progress("computing the reference", len(pieces), len(pieces))


def _key(path: Path, pieces: Sequence[Sequence[int]], last: int) -> str:
    """Of the reference's files as they are now, and of the ids."""
    digest = hashlib.sha256(str(path.resolve()).encode())
    for file in files_of(path):
        stat = file.stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    for ids in pieces:
        digest.update(np.array(ids, np.int32).tobytes() + bytes(4))
    digest.update(last.to_bytes(4, "little"))
    return digest.hexdigest()[:32]
