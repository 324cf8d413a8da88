"""A Hugging Face config that remembers which of its members were read.

A family reads what its class in Transformers reads, so that what is left over changes nothing there; but none
of it is ignored in silence, unless it is known to say nothing of the forward pass.
"""

from __future__ import annotations

import math
from typing import Any, overload

from edgekit.errors import InvalidFile, UnsupportedModel

REQUIRED: Any = object()
MAX_INTEGER = (1 << 31) - 1

# Far beyond any model; without a limit, a hostile config could ask for lists of any length.
MAX_LAYERS = 1000
MAX_HEADS = 1000
MAX_EXPERTS = 1000
MAX_HEAD_DIM = 1 << 16

# Members that say how to train, to sample, to store or to display, never what the forward pass computes.
HARMLESS = frozenset(
    """
    architectures attn_implementation auto_map bad_words_ids begin_suppress_tokens cache_implementation
    chunk_size_feed_forward diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size
    ep_size exponential_decay_length_penalty finetuning_task gradient_checkpointing hidden_dropout id2label
    initializer_range is_decoder is_llama_config label2id length_penalty mask_value max_length
    max_sequence_length min_length model_max_length model_type no_repeat_ngram_size num_beam_groups num_beams
    num_labels num_return_sequences output_attentions output_hidden_states output_router_logits
    output_scores prefix pretraining_tp problem_type remove_invalid_values repetition_penalty return_dict
    return_dict_in_generate router_aux_loss_coef suppress_tokens
    task_specific_params temperature tf_legacy_loss tokenizer tokenizer_class top_k top_p torch_dtype
    torchscript transformers.js_config transformers_version typical_p unsloth_fixed unsloth_version
    use_bfloat16 use_cache
    """.split()
)
HARMLESS_SUFFIXES = ("_token_id", "_token_ids", "_dropout", "_pdrop", "_loss_coef")
# Read by Transformers itself, whatever the family: never left to a warning.
MATTERS = frozenset(["quantization_config", "is_encoder_decoder"])


class Config:
    """Typed reading of a config. Raises InvalidFile for missing members and wrong types."""

    def __init__(self, data: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
        self.data = data
        self.defaults = defaults or {}
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The member, or when it is missing the family's default; when that is missing or null, `default`."""
        self.read.add(key)
        value = self.data.get(key, self.defaults.get(key))
        if value is None:
            value = default
        if value is REQUIRED:
            raise InvalidFile(
                f"config: {key!r} is missing", hint="take config.json from where the weights came from"
            )
        return value

    @overload
    def integer(self, key: str, default: int = REQUIRED, *, minimum: int = 1, maximum: int = ...) -> int: ...
    @overload
    def integer(self, key: str, default: None, *, minimum: int = 1, maximum: int = ...) -> int | None: ...
    def integer(
        self, key: str, default: int | None = REQUIRED, *, minimum: int = 1, maximum: int = MAX_INTEGER
    ) -> int | None:
        """A whole number from `minimum` to `maximum`."""
        value = self.get(key, default)
        if value is not None and (type(value) is not int or not minimum <= value <= maximum):
            raise InvalidFile(
                f"config: {key!r} is {value!r}; a whole number from {minimum} to {maximum} is expected"
            )
        return value

    @overload
    def number(self, key: str, default: float = REQUIRED, *, zero: bool = False) -> float: ...
    @overload
    def number(self, key: str, default: None, *, zero: bool = False) -> float | None: ...
    def number(self, key: str, default: float | None = REQUIRED, *, zero: bool = False) -> float | None:
        """A finite number above 0, or with `zero` at least 0."""
        value = self.get(key, default)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value < math.inf or (value == 0 and not zero):
            raise InvalidFile(f"config: {key!r} is {value!r}; a number above 0 is expected")
        return float(value)

    def integers(
        self, key: str, default: list[int] = REQUIRED, *, minimum: int = 0, maximum: int = MAX_INTEGER
    ) -> list[int]:
        """A list of whole numbers from `minimum` to `maximum`."""
        value = self.get(key, default)
        if not isinstance(value, list) or not all(type(i) is int and minimum <= i <= maximum for i in value):
            raise InvalidFile(
                f"config: {key!r} is {value!r}; whole numbers from {minimum} to {maximum} are expected"
            )
        return value

    def numbers(self, key: str, length: int, default: Any = REQUIRED, *, zero: bool = False) -> list[float]:
        """A list of `length` finite numbers above 0, or with `zero` at least 0."""
        return [Config({key: value}).number(key, zero=zero) for value in self.items(key, length, default)]

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if type(value) is not bool:
            raise InvalidFile(f"config: {key!r} is {value!r}; true or false is expected")
        return value

    def members(self, key: str) -> dict[str, Any]:
        """An object; empty when it is missing."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise InvalidFile(f"config: {key!r} is {value!r}; an object is expected")
        return value

    def items(self, key: str, length: int, default: Any = REQUIRED) -> list[Any]:
        """A list of `length` members."""
        value = self.get(key, default)
        if not isinstance(value, list) or len(value) != length:
            raise InvalidFile(f"config: {key!r} is {value!r}; a list of {length} is expected")
        return value

    def only(self, key: str, *values: Any) -> None:
        """Accept a member that changes the maths only at values that switch it off; missing and null are
        accepted.
        """
        value = self.get(key)
        if value is not None and value not in values:
            raise UnsupportedModel(
                f"config: {key} = {value!r} is not supported; only {', '.join(map(repr, values))}"
            )

    def ignore(self, *keys: str) -> None:
        """Members that this family's forward pass does not depend on."""
        self.read.update(keys)

    def unread(self) -> dict[str, Any]:
        """Members that nobody read, but for those known to be harmless and those that are off."""
        return {
            key: value
            for key, value in sorted(self.data.items())
            if key not in self.read and not _harmless(key) and value not in (None, False, "", [], {})
        }


def unread_warnings(config: Config) -> tuple[str, ...]:
    """Raises UnsupportedModel where an unread member may change what is computed: a checkpoint with code of
    its own may read anything.
    """
    unread = config.unread()
    named = ", ".join(f"{key} = {_short(value)}" for key, value in unread.items())
    if unread and ("auto_map" in config.data or MATTERS & unread.keys()):
        raise UnsupportedModel(
            f"config: not known to edgekit, and may change what the model computes: {named}",
            hint="if a member only matters for training, remove it from config.json",
        )
    if unread:
        return (f"config: members that models of type {config.get('model_type')} do not have: {named}",)
    return ()


def _harmless(key: str) -> bool:
    return key in HARMLESS or key.startswith("_") or key.endswith(HARMLESS_SUFFIXES)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
