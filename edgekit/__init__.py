"""edgekit: small language models, packaged and run in constant memory.

    model = edgekit.Model("model.edge")
    for event in model.session().generate("Once upon a time", max_tokens=64):
        print(event.text, end="", flush=True)

Names load when first used, so that `edgekit --help` does not wait for the engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.chat import ChatSession, generate
    from edgekit.conversion import ConvertReport, convert
    from edgekit.distillation import DistillReport, distill
    from edgekit.engines.edge import isas
    from edgekit.errors import (
        Cancelled,
        ContextFull,
        EdgekitError,
        InternalError,
        InvalidFile,
        IoFailure,
        OutOfBudget,
        OutOfMemory,
        TemplateError,
        UnsupportedModel,
        UsageError,
        VerificationFailed,
    )
    from edgekit.events import DoneEvent, Event, EvictedEvent, MemoryPlan, Statistics, TextEvent
    from edgekit.hub import resolve
    from edgekit.model import Model, Session, can_load
    from edgekit.text import ChatTemplate, Tokenizer
    from edgekit.verification import VerifyReport, verify

    __version__: str

_HOMES = {
    "edgekit.chat": ("ChatSession", "generate"),
    "edgekit.conversion": ("ConvertReport", "convert"),
    "edgekit.distillation": ("DistillReport", "distill"),
    "edgekit.engines.edge": ("isas",),
    "edgekit.errors": (
        "Cancelled",
        "ContextFull",
        "EdgekitError",
        "InternalError",
        "InvalidFile",
        "IoFailure",
        "OutOfBudget",
        "OutOfMemory",
        "TemplateError",
        "UnsupportedModel",
        "UsageError",
        "VerificationFailed",
    ),
    "edgekit.events": ("DoneEvent", "Event", "EvictedEvent", "MemoryPlan", "Statistics", "TextEvent"),
    "edgekit.hub": ("resolve",),
    "edgekit.model": ("Model", "Session", "can_load"),
    "edgekit.text": ("ChatTemplate", "Tokenizer"),
    "edgekit.verification": ("VerifyReport", "verify"),
}

__all__ = [
    "Cancelled",
    "ChatSession",
    "ChatTemplate",
    "ContextFull",
    "ConvertReport",
    "DistillReport",
    "DoneEvent",
    "EdgekitError",
    "Event",
    "EvictedEvent",
    "InternalError",
    "InvalidFile",
    "IoFailure",
    "MemoryPlan",
    "Model",
    "OutOfBudget",
    "OutOfMemory",
    "Session",
    "Statistics",
    "TemplateError",
    "TextEvent",
    "Tokenizer",
    "UnsupportedModel",
    "UsageError",
    "VerificationFailed",
    "VerifyReport",
    "__version__",
    "can_load",
    "convert",
    "distill",
    "generate",
    "isas",
    "resolve",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("edgekit")
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
