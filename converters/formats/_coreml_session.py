"""What a program that runs a Core ML package does between the calls: which function takes a step, and the
slots, masks, angles and embeddings of its tokens.

A package's functions share weights and states. `docs/coreml.md` describes their inputs; this is the same in
numpy, without Core ML itself.
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
SLOT_MULTIPLE = 64  # of float16: 128 bytes; the Neural Engine wants the last axis in multiples of 64 bytes
SHORTEST = 256  # slots that the function for the shortest texts reads; others read twice as many each
STATE_WIDTH = 32  # inputs that a convolution's state holds: narrower states fail on the Neural Engine
HIDDEN = -4e4  # a mask's value for slots that a token does not see; float16 holds it


@dataclass(frozen=True)
class Ring:
    """Position p lies in slot `p` while `p < sinks`, then in `sinks + (p - sinks) % turn`. A token sees the
    last `window` positions, its own included, and the sinks. Slots past the turn take what a step writes
    beyond it, and are never seen.
    """

    sinks: int
    window: int
    turn: int
    slots: int

    def slot(self, position: int) -> int:
        return position if position < self.sinks else self.sinks + (position - self.sinks) % self.turn

    def mask(self, positions: NDArray[np.int64], last: int) -> Array:
        """float32 `[len(positions), slots]` to add to scores, when positions up to `last` have been
        written.
        """
        slots = np.arange(self.slots)
        held = np.where(slots < self.sinks, slots, last - (last - slots) % self.turn)  # a slot's position
        written = (held <= last) & (held >= np.minimum(slots, self.sinks)) & (slots < self.sinks + self.turn)
        distance = positions[:, None] - held
        seen = written & (distance >= 0) & ((distance < self.window) | (held < self.sinks))
        return np.where(seen, 0, HIDDEN).astype(np.float32)


@dataclass(frozen=True)
class Step:
    """A function: it takes `tokens` tokens, reads the first `context` slots of a ring (all, of a shorter one)
    and gives logits, or fills the cache alone.
    """

    tokens: int
    context: int
    logits: bool

    @property
    def name(self) -> str:
        return f"{'extend' if self.logits else 'prompt'}_{self.context}_{self.tokens}"


@dataclass(frozen=True)
class Cache:
    """The first `sinks` positions and the last `window` stay in view. A step of a prompt takes `chunk`
    tokens, one that gives logits `width`.
    """

    window: int
    sinks: int
    chunk: int
    width: int = 1

    def __post_init__(self) -> None:
        if self.window < 1 or self.sinks < 0 or self.chunk < 1:
            raise UsageError(
                f"a window of {self.window}, {self.sinks} sinks and steps of {self.chunk} tokens; at least "
                "1, 0 and 1 are needed"
            )
        if self.chunk % self.width:
            raise UsageError(
                f"steps of {self.chunk} tokens; this scheme takes multiples of {self.width}",
                hint=f"chunk={self.width}",
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
        turn = window + self.chunk - 1
        slots = sinks + turn + self.width - 1
        return Ring(sinks, window, turn, -(-slots // SLOT_MULTIPLE) * SLOT_MULTIPLE)

    def rings(self, spec: ModelSpec) -> list[Ring]:
        """Each kind once."""
        return list(dict.fromkeys(self.ring(layer) for layer in spec.layers if layer.mixer == "attention"))

    def contexts(self, spec: ModelSpec) -> list[int]:
        """Numbers of slots for which there are functions, ascending; the last is all of the longest ring. In
        the others every position is still in its first slot, and sinks are no further than they were trained.
        """
        longest = max((ring.slots for ring in self.rings(spec)), default=SLOT_MULTIPLE)
        found, context = [], SHORTEST
        while context < longest and context <= self.capacity:
            found.append(context)
            context *= 2
        return [*found, longest]

    def steps(self, spec: ModelSpec) -> list[Step]:
        """Every function."""
        contexts = self.contexts(spec)
        kinds = [(self.width, True), (self.chunk, False)]
        return [Step(n, c, logits) for n, logits in kinds for c in contexts if n <= c or c == contexts[-1]]

    def inv_freq(self, rope: Rope) -> Sequence[float]:
        """Of longrope the long angles when more positions are in view than the original context."""
        long = rope.long_inv_freq is not None and self.capacity > (rope.original_context or 0)
        return rope.long_inv_freq if long and rope.long_inv_freq is not None else rope.inv_freq


def facts(spec: ModelSpec, cache: Cache, *, columns: bool) -> dict[str, Any]:
    """What a driver needs to know, as the package's metadata carry it. `columns`: a token is a column of
    every input.
    """
    kernels = {layer.conv_kernel for layer in spec.layers if layer.mixer == "conv"}
    return {
        "vocab_size": spec.vocab_size,
        "d_model": spec.d_model,
        "window": cache.window,
        "sinks": cache.sinks,
        "chunk": cache.chunk,
        "width": cache.width,
        "contexts": cache.contexts(spec),
        "columns": columns,
        "rings": [asdict(ring) for ring in cache.rings(spec)],
        "ropes": [{"inv_freq": cache.inv_freq(rope), "factor": rope.factor} for rope in spec.ropes],
        "conv_kernel": max(kernels, default=0),
    }


class Session:
    """One text. `predict(function, inputs)` runs a function of the package on its states and gives the
    logits, of a function that has some; `embed(ids)` gives the embeddings `[len(ids), d_model]`.

    `inputs` names, for each function, what it takes.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        inputs: Mapping[str, Sequence[str]],
        embed: Callable[[Sequence[int]], Array],
        predict: Callable[[str, dict[str, Array]], Array | None],
    ) -> None:
        self.facts = facts
        self.inputs = inputs
        self.embed = embed
        self.predict = predict
        self.rings = [Ring(**ring) for ring in facts["rings"]]
        self.position = 0

    def feed(self, ids: Sequence[int]) -> Array:
        """Appends tokens, in steps; the logits `[vocab_size]` after the last one."""
        logits, left = None, list(ids)
        while left:
            step, count = self.next_step(len(left))
            logits = self.step(step, left[:count])
            left = left[count:]
        assert logits is not None
        return logits[: self.facts["vocab_size"]]

    def next_step(self, left: int) -> tuple[Step, int]:
        """The function for the next of `left` tokens, and how many of them it takes: no step goes past a
        ring's turn, and the last gives logits.
        """
        width, chunk = self.facts["width"], self.facts["chunk"]
        slots = [(ring, ring.slot(self.position)) for ring in self.rings]
        room = min((ring.sinks + ring.turn - slot for ring, slot in slots), default=left)
        fits = all(slot + chunk <= ring.slots for ring, slot in slots)
        logits = left <= width + 1 or not fits
        tokens, most = (width, left) if logits else (chunk, left - 1)
        *shorter, longest = self.facts["contexts"]
        context = next((c for c in shorter if self.position + tokens <= c), longest)
        return Step(tokens, context, logits), min(tokens, most, room)

    def step(self, step: Step, ids: Sequence[int]) -> Array | None:
        """Up to as many tokens as the function takes; logits, and what fills their last axis."""
        every = self.step_inputs(step, ids)
        logits = self.predict(step.name, {name: every[name] for name in self.inputs[step.name]})
        self.position += len(ids)
        return None if logits is None else logits.reshape(-1)

    def step_inputs(self, step: Step, ids: Sequence[int]) -> dict[str, Array]:
        """Every input that the function may have; tokens past `len(ids)` are padding."""
        tokens, count = step.tokens, len(ids)
        positions = self.position + np.arange(tokens)
        columns = self.facts["columns"]
        given: dict[str, Array] = {}

        def put(name: str, values: Array) -> None:
            """Rows of tokens."""
            given[name] = values.T[None, None] if columns else values[None, None]

        rows = self.embed([*ids, *[ids[-1]] * (tokens - count)])
        given["embeddings"] = rows.T[None, :, None] if columns else rows[None]
        for index, ring in enumerate(self.rings):
            mask = ring.mask(positions, self.position + count - 1)[:, : step.context]
            given[f"mask_{index}"] = mask.T[None, :, None] if columns else mask[None, None]
            given[f"slot_{index}"] = np.array([ring.slot(self.position)], np.int32)
        last_sink = self.facts["window"] + self.facts["sinks"] - 1
        for index, rope in enumerate(self.facts["ropes"]):
            for prefix, seen in (("", positions), ("sink_", np.minimum(positions, last_sink))):
                angles = seen[:, None] * np.array(rope["inv_freq"], np.float64)
                for name, table in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
                    put(f"{prefix}{name}_{index}", table * rope["factor"])
        given["select"] = np.zeros((1, 1, 1, tokens))
        given["select"][..., count - 1] = 1
        if self.facts["conv_kernel"]:  # the last inputs, of those before and these
            tail = np.zeros((STATE_WIDTH + tokens, STATE_WIDTH))
            tail[count + np.arange(STATE_WIDTH), np.arange(STATE_WIDTH)] = 1
            given["conv_tail"] = tail[None, None]
        return given
