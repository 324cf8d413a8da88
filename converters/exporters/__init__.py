"""Ways to an ONNX directory for architectures that edgekit's own converters do not know.

A module `converters/exporters/<name>.py`, found by name, has

    SCHEMES: tuple[str, ...]                                  what `--scheme` takes, the default first
    check(checkpoint) -> None                                 raises what stops it, before any work
    export(checkpoint, path, scheme, progress) -> Exported    writes a directory that the onnx backend runs
    verify(checkpoint, path, scheme, logits) -> Quality       raises VerificationFailed; `logits(path, ids)`
                                                              are those of what runs the output
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exported:
    """What was written."""

    model_type: str
    n_parameters: int
