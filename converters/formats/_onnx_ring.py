"""A spec as an ONNX graph of standard operators alone (opset 24), in constant memory: attention sinks and a
ring of keys and values, one token at a step.

    input_ids      int64 [1, 1]
    position       int64 [1]        tokens before this one
    past_key_values.N.key | value   [1, n_kv_heads, slots, head_dim]
    past_conv.N                     [1, d_model, kernel - 1]
    past_conv.N.q | k | v           [1, channels, kernel - 1]   of a recurrent layer, as is
    past_state.N                    [1, n_key_heads, n_heads / n_key_heads, key_dim, value_dim]   float32,
                                    or of RWKV-7 [1, n_heads, head_dim, head_dim], past_conv.N [1, d_model, 1]
    logits         float32 [1, 1, vocab_size]
    present.N.key | value | present_conv.N | present_state.N   the same shapes: bind them to the inputs'
                                                               buffers

A position lies in slot `p` while `p < sinks`, then in `sinks + (p - sinks) % window`. Keys carry the rotation
of their own position. A query sees the last `window` positions at their distance, and the first `sinks` as if
it stood at `min(p, sinks + window - 1)`, as in edgekit's own engine: no distance exceeds the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgekit.converters import decoder
from edgekit.converters.convert import ConvertInput
from edgekit.converters.decoder import FASTEST_DECAY, LEAST_LENGTH
from edgekit.converters.formats._onnx_decoder import GATHERED, Decoder, Scheme
from edgekit.converters.formats._onnx_graph import Block, Graph, Weight
from edgekit.converters.formats._parallel import in_order, row_slabs
from edgekit.converters.quant import blocks
from edgekit.converters.quant.blocks import Blocks
from edgekit.converters.quant.dense import Dense
from edgekit.converters.quant.grid import Grid
from edgekit.converters.spec import UNIT_EPS, Layer
from edgekit.errors import UsageError

OPSET = 24
STORED = {4: "I4", 8: "I8"}  # codes of so many bits
BATCH, LENGTH = 1, 1


class RingDecoder(Decoder):
    """`window` recent positions and the first `sinks` stay in view."""

    lacking = ()

    def __init__(self, model: ConvertInput, scheme: Scheme, window: int, sinks: int) -> None:
        if window < 1 or sinks < 0:
            raise UsageError(f"a window of {window} and {sinks} sinks; at least 1 and 0 are needed")
        super().__init__(model, scheme)
        self.window, self.sinks = window, sinks
        self.columns: dict[tuple[int, int], str] = {}
        self.known_angles: set[str] = set()
        self.here_position = ""

    def check(self) -> None:
        pass

    def build(self) -> Graph:
        graph = super().build()
        for value in (*graph.inputs, *graph.outputs):  # one text, one token
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_value = 1
        return graph

    def begin(self) -> None:
        graph = self.graph
        self.position = graph.input("position", "I64", [1])
        last = graph.constant([self.sinks + self.window - 1], "I64")
        self.sink_position = graph.node("Min", [self.position, last], "position.of_sinks")

    def cache_of(self, layer: Layer) -> tuple[int, int]:
        """(sinks, window) of a layer: its own window where the cache is larger, as it was trained."""
        if layer.window is not None and layer.window <= self.window:
            return 0, layer.window
        return self.sinks, self.window

    def attend(self, q: str, k: str, v: str, at: str, layer: Layer) -> str:
        graph, index = self.graph, decoder.number(at)
        sinks, window = self.cache_of(layer)
        slots, heads, dim = sinks + window, layer.n_kv_heads, layer.head_dim
        near_q = self.turned(q, f"{at}.q", layer.n_heads, layer, self.position)
        key = self.turned(k, f"{at}.k", heads, layer, self.position)
        sink_q = self.turned(q, f"{at}.q", layer.n_heads, layer, self.sink_position) if sinks else near_q
        slot = self.slot(sinks, window)
        caches = [f"present.{layer.kv_layer}.{kind}" for kind in ("key", "value")]
        for kind, value in (("key", key), ("value", v)) if layer.kv_layer is None else ():
            past = graph.input(f"past_key_values.{index}.{kind}", self.type, [BATCH, heads, slots, dim])
            new = graph.node(
                "Reshape", [value, graph.constant([1, heads, 1, dim], "I64")], f"{at}.{kind}.new"
            )
            present = graph.node("TensorScatter", [past, new, slot], f"present.{index}.{kind}", axis=2)
            graph.output(present, self.type, [BATCH, heads, slots, dim])
            caches[("key", "value").index(kind)] = present
        columns = [self.scores(near_q, caches[0], at, layer, sinks, slots, "near")]
        if sinks:
            columns.insert(0, self.scores(sink_q, caches[0], at, layer, 0, sinks, "sinks"))
        scores = graph.node("Concat", columns, f"{at}.scores", axis=2) if sinks else columns[0]
        scores = self.softcap(
            self.scaled(scores, self.spec.attn_scale, f"{at}.scaled"), self.spec.attn_softcap, f"{at}.capped"
        )
        scores = graph.node("Add", [scores, self.mask(slots)], f"{at}.masked")
        if f"{at}.sinks" in self.model.tensors:
            group = layer.n_heads // heads
            none = self.tensor(f"{at}.sinks", (1, heads, 1, group))
            scores = graph.node("Concat", [scores, none], f"{at}.scores_and_none", axis=2)
        weights = graph.node("Softmax", [scores], f"{at}.weights", axis=2)
        if f"{at}.sinks" in self.model.tensors:
            bounds = [graph.constant([value], "I64") for value in (0, slots, 2)]
            weights = graph.node("Slice", [weights, *bounds], f"{at}.weights_of_keys")
        turned = graph.node("Transpose", [weights], f"{at}.by_head", perm=[0, 1, 3, 2])
        mixed = graph.node("MatMul", [turned, caches[1]], f"{at}.mixed_heads")
        joined = graph.constant([1, 1, layer.n_heads * dim], "I64")
        return graph.node("Reshape", [mixed, joined], f"{at}.attention")

    def scores(self, q: str, keys: str, at: str, layer: Layer, first: int, last: int, kind: str) -> str:
        """`[1, n_kv_heads, slots, group]` of some slots."""
        graph, group = self.graph, layer.n_heads // layer.n_kv_heads
        shape = graph.constant([1, layer.n_kv_heads, group, layer.head_dim], "I64")
        heads = graph.node("Reshape", [q, shape], f"{at}.{kind}.q")
        heads = graph.node("Transpose", [heads], f"{at}.{kind}.q_turned", perm=[0, 1, 3, 2])
        bounds = [graph.constant([value], "I64") for value in (first, last, 2)]
        some = graph.node("Slice", [keys, *bounds], f"{at}.{kind}.keys")
        return graph.node("MatMul", [some, heads], f"{at}.{kind}.scores")

    def recur(self, q: str, k: str, v: str, dt: str, beta: str | None, at: str, layer: Layer) -> str:
        of, graph, index = layer.recurrence, self.graph, decoder.number(at)
        assert of is not None
        groups, each = of.n_key_heads, of.n_heads // of.n_key_heads
        path = f"{at}.state"

        def node(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
            return str(graph.node(op, inputs, f"{path}.{name}", **attributes))

        def number(value: float) -> str:
            return graph.constant(value, "F32")

        def wide(x: str, name: str, shape: list[int]) -> str:
            """In float32: a state sums up whole texts."""
            x = node("Reshape", [x, graph.constant(shape, "I64")], f"{name}.apart")
            return x if self.type == "F32" else node("Cast", [x], f"{name}.wide", to=1)

        if of.kernel:
            q, k, v = (
                self.silu(self.causal(x, f"{at}.taps_{part}", f"{index}.{part}"), f"{at}.taps_{part}")
                for part, x in zip("qkv", (q, k, v), strict=True)
            )
        q, k = (wide(x, part, [1, groups, 1, 1, of.key_dim]) for part, x in (("q", q), ("k", k)))
        if of.unit_keys:
            q, k = (self.unit(x, f"{path}.{part}") for part, x in (("q", q), ("k", k)))
        q = node("Mul", [q, number(of.q_scale)], "query")
        v = wide(v, "v", [1, groups, each, 1, of.value_dim])
        per_head = [1, groups, each, 1, 1]
        step = node("Softplus", [wide(dt, "dt", per_head)], "step")
        step = node("Max", [step, number(of.dt_min)], "step.least")
        rate = node("Exp", [self.wide_tensor(f"{at}.state_a", per_head)], "rate")
        decay = node("Exp", [node("Neg", [node("Mul", [rate, step], "faded")], "left")], "decay")
        past = graph.input(f"past_state.{index}", "F32", [BATCH, *per_head[1:3], of.key_dim, of.value_dim])
        kept = node("Mul", [past, decay], "kept")
        weight = step
        if beta is not None:
            share = node("Sigmoid", [wide(beta, "beta", per_head)], "share")
            weight = node("Mul", [share, number(of.beta_scale)], "weight")
        new = v if beta is None else node("Sub", [v, node("MatMul", [k, kept], "known")], "new")
        column = node("Transpose", [k], "column", perm=[0, 1, 2, 4, 3])
        added = node("Mul", [column, node("Mul", [new, weight], "weighed")], "added")
        state = graph.node("Add", [kept, added], f"present_state.{index}")
        graph.output(state, "F32", [BATCH, *per_head[1:3], of.key_dim, of.value_dim])
        out = node("MatMul", [q, state], "read")
        if f"{at}.state_d" in self.model.tensors:
            skipped = node("Mul", [v, self.wide_tensor(f"{at}.state_d", per_head)], "skipped")
            out = node("Add", [out, skipped], "out")
        if self.type != "F32":
            out = node("Cast", [out], "narrow", to=10)
        return node("Reshape", [out, graph.constant([1, 1, of.values], "I64")], "joined")

    def shifted(self, x: str, name: str) -> Sequence[str]:
        graph, d = self.graph, self.spec.d_model
        at = name.rpartition(".")[0]
        index = decoder.number(at)
        past = graph.input(f"past_conv.{index}", self.type, [BATCH, d, 1])
        before = graph.node("Reshape", [past, graph.constant([1, 1, d], "I64")], f"{name}.before")
        graph.node("Reshape", [x, graph.constant([1, d, 1], "I64")], f"present_conv.{index}")
        graph.output(f"present_conv.{index}", self.type, [BATCH, d, 1])
        change = graph.node("Sub", [before, x], f"{name}.change")
        values = self.model.load(name)
        assert values is not None
        shares = [
            graph.constant(share.reshape(1, 1, d), self.type, f"{name}.{i}")
            for i, share in enumerate(values.reshape(-1, d))
        ]
        moved = [self.multiply(change, share, f"{share}.moved") for share in shares]
        return [self.add(x, each, f"{each}.mixed") for each in moved]

    def bent(self, x: str, kind: str) -> str:
        return str(self.graph.node(kind.capitalize(), [x], f"{x}.{kind}"))

    def fade(
        self, r: str, k: str, v: str, w: str, a: str, share: str | None, gate: str, at: str, layer: Layer,
    ) -> str:  # fmt: skip
        of, graph, index = layer.rwkv, self.graph, decoder.number(at)
        assert of is not None
        path, heads, dim = f"{at}.fade", of.n_heads, of.head_dim

        def node(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
            return str(graph.node(op, inputs, f"{path}.{name}", **attributes))

        def apart(x: str, name: str) -> str:
            """Heads of numbers in a row."""
            return node("Reshape", [x, graph.constant([1, heads, 1, dim], "I64")], f"{name}.apart")

        def column(x: str, name: str) -> str:
            return node("Transpose", [x], f"{name}.column", perm=[0, 1, 3, 2])

        def of_heads(name: str) -> str:
            return self.tensor(f"{at}.rwkv_{name}", (1, heads, 1, dim))

        def total(x: str, name: str) -> str:
            return node("ReduceSum", [x, graph.constant([-1], "I64")], f"{name}.total", keepdims=1)

        r, k, v, w, a = (apart(x, name) for x, name in ((r, "r"), (k, "k"), (v, "v"), (w, "w"), (a, "a")))
        if share is None:
            self.first_values = v
        else:
            part = node("Sigmoid", [apart(share, "u")], "share")
            nearer = node("Mul", [node("Sub", [self.first_values, v], "apart_from_first"), part], "nearer")
            v = node("Add", [v, nearer], "values")
        least, fastest, one = (graph.constant(x, self.type) for x in (LEAST_LENGTH, FASTEST_DECAY, 1.0))
        decay = node("Exp", [node("Mul", [node("Sigmoid", [w], "fading"), fastest], "faded")], "decay")
        rate = node("Sigmoid", [a], "rate")
        removed = node("Mul", [k, of_heads("removed")], "removed.long")
        length = node("Sqrt", [total(node("Mul", [removed, removed], "squares"), "length")], "length")
        removed = node("Div", [removed, node("Max", [length, least], "length.least")], "removed")
        less = node("Mul", [node("Sub", [rate, one], "rate.less"), of_heads("replaced")], "less")
        k = node("Mul", [k, node("Add", [less, one], "left")], "keys")
        past = graph.input(f"past_state.{index}", self.type, [BATCH, heads, dim, dim])
        known = node("MatMul", [removed, past], "known")
        kept = node("Mul", [past, column(decay, "decay")], "kept")
        gone = node("Mul", [column(node("Mul", [removed, rate], "replaced"), "replaced"), known], "gone")
        added = node("Mul", [column(k, "k"), v], "added")
        state = graph.node("Add", [kept, node("Sub", [added, gone], "change")], f"present_state.{index}")
        graph.output(state, self.type, [BATCH, heads, dim, dim])
        out = node("MatMul", [r, state], "read")
        ones = graph.constant(np.ones(dim), self.type)
        out = node("LayerNormalization", [out, ones], "normed", axis=-1, epsilon=of.norm_eps, stash_type=1)
        out = node("Add", [node("Mul", [out, of_heads("norm")], "scaled"), of_heads("norm_bias")], "norm")
        bonus = total(node("Mul", [node("Mul", [r, k], "met"), of_heads("bonus")], "weighed"), "bonus")
        out = node("Add", [out, node("Mul", [bonus, v], "more")], "out")
        joined = node("Reshape", [out, graph.constant([1, 1, heads * dim], "I64")], "joined")
        return node("Mul", [joined, gate], "gated")

    def gated_norm(self, x: str, z: str, at: str, layer: Layer) -> str:
        of, graph, path = layer.recurrence, self.graph, f"{at}.state_scale"
        assert of is not None
        gate = self.silu(z, f"{at}.state_z")
        if of.gate_first:
            x = self.multiply(x, gate, f"{path}.gated")
        if of.norm != "none":
            groups = of.n_heads if of.norm == "head" else of.n_key_heads
            split = graph.constant([1, 1, groups, of.values // groups], "I64")
            apart = graph.node("Reshape", [x, split], f"{path}.apart")
            ones = graph.constant(np.ones(of.values // groups), self.type)
            normed = graph.node(
                "RMSNormalization",
                [apart, ones],
                f"{path}.normed",
                axis=-1,
                epsilon=of.norm_eps,
                stash_type=1,
            )
            scale = self.tensor(path, (1, 1, 1 if of.norm == "head" else groups, of.values // groups))
            scaled = graph.node("Mul", [normed, scale], f"{path}.scaled")
            x = graph.node("Reshape", [scaled, graph.constant([1, 1, of.values], "I64")], f"{path}.joined")
        return x if of.gate_first else self.multiply(x, gate, f"{path}.gated")

    def silu(self, x: str, path: str) -> str:
        return self.multiply(x, self.graph.node("Sigmoid", [x], f"{path}.sigmoid"), f"{path}.silu")

    def unit(self, x: str, path: str) -> str:
        """Brought to length 1."""
        graph, last = self.graph, self.graph.constant([-1], "I64")
        total = graph.node(
            "ReduceSum", [graph.node("Mul", [x, x], f"{path}.squares"), last], f"{path}.sum", keepdims=1
        )
        total = graph.node("Add", [total, graph.constant(UNIT_EPS, "F32")], f"{path}.some")
        return graph.node("Div", [x, graph.node("Sqrt", [total], f"{path}.length")], f"{path}.unit")

    def wide_tensor(self, name: str, shape: list[int]) -> str:
        """A small tensor of the spec in float32."""
        values = self.model.load(name)
        assert values is not None
        return self.graph.constant(values.reshape(shape), "F32", f"{name}.weight")

    def slot(self, sinks: int, window: int) -> str:
        """Where this position's key and value go, int64 `[1]`."""
        if (sinks, window) not in self.columns:
            graph, path = self.graph, f"slot.{sinks}.{window}"
            start = graph.constant([sinks], "I64")
            after = graph.node("Sub", [self.position, start], f"{path}.after")
            turned = graph.node("Mod", [after, graph.constant([window], "I64")], f"{path}.turned")
            later = graph.node("Add", [turned, start], f"{path}.later")
            early = graph.node("Less", [self.position, start], f"{path}.early")
            self.columns[sinks, window] = graph.node("Where", [early, self.position, later], path)
        return self.columns[sinks, window]

    def mask(self, slots: int) -> str:
        """0 for slots that have been written, else a large negative number; `[1, 1, slots, 1]`."""
        if (slots, 0) not in self.columns:
            graph, path = self.graph, f"mask.{slots}"
            numbers = graph.constant(np.arange(slots).reshape(1, 1, slots, 1), "I64")
            empty = graph.node("Greater", [numbers, self.position], f"{path}.empty")
            values = [
                graph.constant(value, self.type) for value in (-1e30 if self.type == "F32" else -6e4, 0)
            ]
            self.columns[slots, 0] = graph.node("Where", [empty, *values], path)
        return self.columns[slots, 0]

    def turned(self, x: str, path: str, heads: int, layer: Layer, position: str) -> str:
        """`placed`, at a position of one's choice."""
        self.here_position = position
        return self.placed(x, path, heads, layer)

    def angles_here(self, index: int) -> list[str]:
        """Angles in float64 and less than a turn, so that no text is too long; `[1, 1, 1, dim / 2]`."""
        graph, rope = self.graph, self.spec.ropes[index]
        path = f"rope.{index}.{self.here_position}"
        known = f"{path}.cos", f"{path}.sin"
        if path not in self.known_angles:
            self.known_angles.add(path)
            wide = graph.node("Cast", [self.here_position], f"{path}.f64", to=11)
            is_long = self.sinks + self.window > (rope.original_context or 0)
            inv_freq = (is_long and rope.long_inv_freq) or rope.inv_freq
            frequency = graph.constant(np.array(inv_freq).reshape(1, 1, 1, -1), "F64")
            angle = graph.node("Mul", [wide, frequency], f"{path}.angle")
            turn = graph.constant(2 * math.pi, "F64")
            turns = graph.node("Floor", [graph.node("Div", [angle, turn], f"{path}.turns")], f"{path}.whole")
            angle = graph.node(
                "Sub", [angle, graph.node("Mul", [turns, turn], f"{path}.past")], f"{path}.rest"
            )
            narrow = graph.node("Cast", [angle], f"{path}.f32", to=1)
            for op, name in zip(("Cos", "Sin"), known, strict=True):
                value = graph.node(op, [narrow], f"{name}.plain")
                value = graph.node("Mul", [value, graph.constant(rope.factor, "F32")], f"{name}.gain")
                graph.node("Cast", [value], name, to=1 if self.type == "F32" else 10)
        return list(known)

    # ---- parts in standard operators

    def normalized(self, x: str, weight: str, path: str, kind: str) -> str:
        if kind != "rms":
            return super().normalized(x, weight, path, kind)
        return self.graph.node(
            "RMSNormalization", [x, weight], path, axis=-1, epsilon=self.spec.norm_eps, stash_type=1
        )

    def grid(self, name: str) -> Grid:
        """The embedding has 8 bits: Gather knows no narrower type."""
        grid, k = super().grid(name), self.spec.shape(name)[1]
        if name in GATHERED and isinstance(grid, Blocks):
            grid = self.model.grid(name, Blocks(8, self.scheme.block))
        return Dense(self.type) if grid.group and k % grid.group else grid

    def holds(self, name: str, grid: Grid) -> bool:
        return isinstance(grid, Blocks) and grid.bits in STORED

    def gathered(self, name: str, ids: str) -> str:
        grid = self.grid(name)
        if isinstance(grid, Dense):
            return self.graph.node("Gather", [self.dense(name), ids], name)
        graph, k = self.graph, self.spec.shape(name)[1]
        codes, scales = self.quantized(name)
        rows = graph.node("Gather", [codes, ids], f"{name}.codes_here", axis=1)  # [k, 1, 1]
        some = graph.node("Gather", [scales, ids], f"{name}.scales_here", axis=1)
        flat = [
            graph.node("Reshape", [part, graph.constant([-1, 1], "I64")], f"{part}.flat")
            for part in (rows, some)
        ]
        values = graph.node("DequantizeLinear", flat, f"{name}.values", axis=0, block_size=grid.group)
        return graph.node("Reshape", [values, graph.constant([1, 1, k], "I64")], name)

    def linear(self, x: str, name: str, path: str | None = None) -> str:
        graph, path = self.graph, path or name
        n, k = self.spec.shape(name)
        if not isinstance(grid := self.grid(name), Dense):
            weight = graph.node(
                "DequantizeLinear", [*self.quantized(name)], f"{path}.matrix", axis=0, block_size=grid.group
            )
            y = graph.node("MatMul", [x, weight], path)
        else:
            row = graph.node("Reshape", [x, graph.constant([1, k], "I64")], f"{path}.row")
            y = graph.node("Gemm", [row, self.dense(name)], f"{path}.column", transB=1)
            y = graph.node("Reshape", [y, graph.constant([1, 1, n], "I64")], path)
        bias = f"{path}_bias"
        return (
            graph.node("Add", [y, self.vector(bias)], f"{path}.biased") if bias in self.model.tensors else y
        )

    def quantized(self, name: str, *, flat: bool = False) -> tuple[str, ...]:
        """Signed codes `[k, n]`, scales `[k / block, n]` and, where groups have zeros of their own, those:
        the layout ONNX Runtime fuses into one operator.
        """
        n, k = self.spec.shape(name)
        grid = self.grid(name)
        assert isinstance(grid, Blocks)
        bits = 8 if name in GATHERED else grid.bits
        shape = (grid.groups(k), n)
        later: list[Block] = []

        def pack(slab: tuple[int, int]) -> tuple[Block, ...]:
            fitted = self.model.fitted(name, grid, slab)
            scale, *zeros = fitted.parameters.groups
            return _signed(fitted.codes, grid), scale.T, *(_signed(zero, grid) for zero in zeros)

        def codes() -> Iterator[Block]:
            whole, scales, zeros = (
                np.empty((k, n), np.int8),
                np.empty(shape, np.float32),
                np.empty(shape, np.int8),
            )
            for (first, last), (part, scale, *zero) in zip(
                row_slabs(n, k), in_order(pack, row_slabs(n, k)), strict=True
            ):
                whole[:, first:last], scales[:, first:last] = part, scale
                if zero:
                    zeros[:, first:last] = zero[0]
            later.extend([scales, _stored(zeros, bits)])
            yield _stored(whole, bits)

        def beside() -> Iterator[Block]:
            yield later.pop(0)

        found = [
            self.graph.weight(Weight(f"{name}.codes", STORED[bits], (k, n), codes)),
            self.graph.weight(Weight(f"{name}.scales", "F32", shape, beside)),
        ]
        if grid.zeros:
            found.append(self.graph.weight(Weight(f"{name}.zeros", STORED[bits], shape, beside)))
        return tuple(found)


def _signed(codes: Block, grid: Blocks) -> Block:
    """Codes `[n, k]` as int8 `[k, n]` around 0."""
    return (codes.astype(np.int16) - grid.half).astype(np.int8).T


def _stored(values: Block, bits: int) -> Block:
    if bits == 8:
        return values
    nibbles = values.reshape(-1).view(np.uint8) & np.uint8(15)
    return blocks.pack(np.pad(nibbles, (0, nibbles.size % 2)).reshape(1, -1), 4)
