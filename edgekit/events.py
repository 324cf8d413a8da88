"""What a generation tells as it runs, and what a session allocates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

KvType: TypeAlias = Literal["auto", "f32", "f16", "int8", "int4"]
Finish: TypeAlias = Literal["eos", "length", "stop", "cancelled", "context_full"]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a generation did. Times in milliseconds; `first_token_ms` counts from the call of `generate`."""

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    prefill_ms: float
    first_token_ms: float
    decode_ms: float

    @property
    def prefill_tok_s(self) -> float:
        """Prompt tokens computed (not found in the cache) per second; 0 when there were none."""
        computed = self.prompt_tokens - self.cached_tokens
        return 1e3 * computed / self.prefill_ms if computed > 0 and self.prefill_ms > 0 else 0.0

    @property
    def decode_tok_s(self) -> float:
        """Tokens per second after the first, which prefill pays for; 0 when there was one at most."""
        decoded = self.generated_tokens - 1
        return 1e3 * decoded / self.decode_ms if decoded > 0 and self.decode_ms > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TextEvent:
    """Whole code points (possibly none yet), and the tokens sampled since the last event."""

    text: str
    tokens: tuple[int, ...]
    kind: ClassVar[Literal["text"]] = "text"


@dataclass(frozen=True, slots=True)
class EvictedEvent:
    """Positions [first, first + count) left the cache: the model no longer sees them."""

    first: int
    count: int
    kind: ClassVar[Literal["evicted"]] = "evicted"
    text: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The last event of a generation: why it ended, what it did, and the seed that gives the same text again.

    After the finish "stop", `taken_back` tokens of the stop have left the cache again, so that it holds no
    more than the text says. `relayed`: why the processor went on with the text of another backend, which had
    failed; "" when none did.
    """

    finish: Finish
    stats: Statistics
    seed: int
    taken_back: int = 0
    relayed: str = ""
    kind: ClassVar[Literal["done"]] = "done"
    text: ClassVar[str] = ""


Event: TypeAlias = TextEvent | EvictedEvent | DoneEvent


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a model and a session of it allocate, to the byte (`total_bytes` = cache + activations + model),
    and what is mapped. A model's further sessions take cache + activations each.
    """

    weight_bytes: int
    tokenizer_bytes: int
    cache_bytes: int
    activation_bytes: int
    model_bytes: int
    total_bytes: int
    window: int
    sinks: int
    chunk: int
    kv: KvType
