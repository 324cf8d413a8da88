"""Every error edgekit raises.

    EdgekitError
    ├── UsageError           2    a value the caller passed is out of range, unknown or inconsistent
    ├── UnsupportedModel     3    a model, version or feature edgekit does not have
    ├── InvalidFile          4    bytes that are not what they should be: truncated, corrupt, unreadable
    ├── VerificationFailed   5    the package does not compute what its checkpoint computes
    ├── OutOfBudget          6    the memory budget is too small (`needed_bytes` would do)
    ├── OutOfMemory          6    the system refused an allocation
    ├── TemplateError        1    the chat template rejected the messages
    ├── ContextFull          1    the cache is full and the session does not evict
    ├── Cancelled          130    another thread cancelled the session
    ├── IoFailure            4    the operating system refused a read or a write
    └── InternalError        1    a bug in edgekit

The number is the exit code of the command line. A message says what is wrong, the value seen, and what to do;
what to do may stand apart, in `hint`.
"""

from __future__ import annotations

EXIT_CODES = {
    0: "done",
    1: "any other failure: the chat template's refusal, a full context, a bug in edgekit",
    2: "usage",
    3: "unsupported model, with what is missing",
    4: "input that is missing, unreadable or corrupt; failures of disk and network",
    5: "verification failed",
    6: "out of memory, or of the memory budget, with the budget that would do",
    130: "interrupted",
}
"""What the command line's exit codes mean."""


class EdgekitError(Exception):
    """Base of all errors. `exit_code` is what the command line exits with; `hint` says what to do, or is
    None.
    """

    exit_code: int = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(EdgekitError):
    exit_code = 2


class UnsupportedModel(EdgekitError):
    exit_code = 3


class InvalidFile(EdgekitError):
    exit_code = 4


class VerificationFailed(EdgekitError):
    exit_code = 5


class OutOfBudget(EdgekitError):
    """The memory budget is too small; `needed_bytes` is the smallest that would do, None when unknown."""

    exit_code = 6

    def __init__(self, message: str, *, needed_bytes: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.needed_bytes = needed_bytes


class OutOfMemory(EdgekitError):
    exit_code = 6


class TemplateError(EdgekitError):
    pass


class ContextFull(EdgekitError):
    pass


class Cancelled(EdgekitError):
    exit_code = 130


class IoFailure(EdgekitError):
    exit_code = 4


class InternalError(EdgekitError):
    pass
