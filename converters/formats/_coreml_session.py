"""What a program that runs a Core ML package does between the calls: the slots, masks and angles of a step.

The package has two functions, `decode` (one token) and `prefill` (up to `chunk`), over the same weights and
states. `docs/coreml.md` describes their inputs; this is the same in numpy, without Core ML itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.spec import Layer, ModelSpec, Rope
from edgekit.errors import UsageError

Array = NDArray[Any]
SLOT_MULTIPLE = 16
HIDDEN = -4e4  # a mask's value for slots that a token does not see; float16 holds it


@dataclass(frozen=True)
class Ring:
    """Position p lies in slot `p` while `p < sinks`, then in `sinks + (p - sinks) % (slots - sinks)`. A token
    sees the last `window` positions, its own included, and the sinks.
    """

    sinks: int
    window: int
    slots: int

    def slot(self, position: int) -> int:
        return (
            position
            if position < self.sinks
            else self.sinks + (position - self.sinks) % (self.slots - self.sinks)
        )

    def mask(self, positions: NDArray[np.int64], last: int) -> Array:
        """float32 `[len(positions), slots]` to add to scores, when positions up to `last` have been
        written.
        """
        slots = np.arange(self.slots)
        turn = self.slots - self.sinks
        held = np.where(slots < self.sinks, slots, last - (last - slots) % turn)  # the position in a slot
        written = (held <= last) & (held >= np.minimum(slots, self.sinks))
        distance = positions[:, None] - held
        seen = written & (distance >= 0) & ((distance < self.window) | (held < self.sinks))
        return np.where(seen, 0, HIDDEN).astype(np.float32)


@dataclass(frozen=True)
class Cache:
    """The first `sinks` positions and the last `window` stay in view; up to `chunk` tokens at a step."""

    window: int
    sinks: int
    chunk: int

    def __post_init__(self) -> None:
        if self.window < 1 or self.sinks < 0 or self.chunk < 1:
            raise UsageError(
                f"a window of {self.window}, {self.sinks} sinks and steps of {self.chunk} tokens; at least "
                "1, 0 and 1 are needed"
            )

    @property
    def capacity(self) -> int:
        return self.window + self.sinks

    def ring(self, layer: Layer) -> Ring:
        """A layer with a window of its own that fits keeps it as it was trained, without sinks. Besides its
        window a ring holds one step, which is written before its first token looks back.
        """
        sinks, window = self.sinks, self.window
        if layer.window is not None and layer.window <= window:
            sinks, window = 0, layer.window
        slots = sinks + window + self.chunk - 1
        return Ring(sinks, window, -(-slots // SLOT_MULTIPLE) * SLOT_MULTIPLE)

    def rings(self, spec: ModelSpec) -> list[Ring]:
        """The different ones, in the order of their first layer."""
        return list(dict.fromkeys(self.ring(layer) for layer in spec.layers if layer.mixer == "attention"))

    def inv_freq(self, rope: Rope) -> tuple[float, ...]:
        """The long angles of longrope when the cache is longer than the original context."""
        long = rope.long_inv_freq is not None and self.capacity > (rope.original_context or 0)
        return rope.long_inv_freq if long and rope.long_inv_freq is not None else rope.inv_freq


def facts(spec: ModelSpec, cache: Cache) -> dict[str, Any]:
    """What a driver needs to know, as the package's metadata carry it."""
    kernels = {layer.conv_kernel for layer in spec.layers if layer.mixer == "conv"}
    return {
        "vocab_size": spec.vocab_size,
        "window": cache.window,
        "sinks": cache.sinks,
        "chunk": cache.chunk,
        "rings": [asdict(ring) for ring in cache.rings(spec)],
        "ropes": [{"inv_freq": cache.inv_freq(rope), "factor": rope.factor} for rope in spec.ropes],
        "conv_kernel": max(kernels, default=0),
    }


class Session:
    """One text. `predict(function, inputs)` runs a function of the package on its states and gives the
    logits.

    `inputs` names, for each function, what it takes.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        inputs: Mapping[str, Sequence[str]],
        predict: Callable[[str, dict[str, Array]], Array],
    ) -> None:
        self.facts = facts
        self.inputs = inputs
        self.predict = predict
        self.rings = [Ring(**ring) for ring in facts["rings"]]
        self.position = 0

    def feed(self, ids: Sequence[int]) -> Array:
        """Appends tokens, in steps; the logits `[vocab_size]` after the last one."""
        logits = np.empty(0, np.float32)
        chunk = self.facts["chunk"]
        for first in range(0, len(ids), chunk):
            part = ids[first : first + chunk]
            logits = self.step("decode" if len(part) == 1 else "prefill", part)
        return logits

    def step(self, function: str, ids: Sequence[int]) -> Array:
        """Up to as many tokens as `function` takes."""
        every = self.step_inputs(ids, 1 if function == "decode" else self.facts["chunk"])
        logits = self.predict(function, {name: every[name] for name in self.inputs[function]})
        self.position += len(ids)
        return logits.reshape(-1)

    def step_inputs(self, ids: Sequence[int], tokens: int) -> dict[str, Array]:
        """Every input that a function of `tokens` tokens may have; tokens past `len(ids)` are padding."""
        count = len(ids)
        positions = self.position + np.arange(tokens)
        given: dict[str, Array] = {"input_ids": np.array([[*ids, *[ids[-1]] * (tokens - count)]], np.int32)}
        for index, ring in enumerate(self.rings):
            mask = ring.mask(positions, self.position + count - 1)
            write = np.zeros((ring.slots, tokens), np.float16)
            for token in range(count):
                write[ring.slot(self.position + token), token] = 1
            given[f"mask_{index}"] = mask[None, None]
            given[f"write_{index}"] = write[None, None]
            given[f"slot_{index}"] = np.array([ring.slot(self.position)], np.int32)
        last_sink = self.facts["window"] + self.facts["sinks"] - 1
        for index, rope in enumerate(self.facts["ropes"]):
            for prefix, seen in (("", positions), ("sink_", np.minimum(positions, last_sink))):
                angles = seen[:, None] * np.array(rope["inv_freq"], np.float64)
                for name, table in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
                    given[f"{prefix}{name}_{index}"] = (table * rope["factor"])[None, None]
        given["select"] = np.zeros((1, 1, tokens))
        given["select"][..., count - 1] = 1
        if kernel := self.facts["conv_kernel"]:  # the last inputs, of those before and these
            tail = np.zeros((kernel - 1 + tokens, kernel - 1))
            tail[count + np.arange(kernel - 1), np.arange(kernel - 1)] = 1
            given["conv_tail"] = tail[None, None]
        return given
