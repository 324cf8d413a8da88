"""A spec as an ONNX graph of ONNX Runtime's operators: MatMulNBits, GatherBlockQuantized,
GroupQueryAttention.

    input_ids           int64 [batch, sequence]
    attention_mask      int64 [batch, past + sequence]
    past_key_values.N.key | value     [batch, n_kv_heads, past, head_dim]
    past_conv.N         [batch, d_model, kernel - 1]        of short convolutions
    logits              float32 [batch, sequence, vocab_size]
    present.N.key | value | present_conv.N                  what was past, with the sequence added
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import decoder
from edgekit.converters.convert import ConvertInput
from edgekit.converters.decoder import SWIGLU_LIMIT, SWIGLU_SLOPE
from edgekit.converters.formats._onnx_graph import Block, Dim, Graph, Weight
from edgekit.converters.formats._parallel import in_order, row_slabs
from edgekit.converters.formats._parts import PARTS, require
from edgekit.converters.quant.blocks import Blocks
from edgekit.converters.quant.dense import Dense, narrowed
from edgekit.converters.quant.grid import Grid
from edgekit.converters.spec import MATRICES, Layer, Rope
from edgekit.errors import UnsupportedModel

MAX_POSITIONS = 131072  # of the tables of angles
SINKS_INPUT = 11  # of GroupQueryAttention
EMBED_BITS = (4, 8)  # of GatherBlockQuantized
QUANTIZED = MATRICES - {"router"}
GATHERED = ("embed", "ple_embed")  # of which a token reads a row


@dataclass(frozen=True)
class Scheme:
    """What matrices become: codes of `bits` in blocks, or with `bits` 0 plain `type`, which is also the type
    of activations. `accuracy_level` 4 lets ONNX Runtime round activations to 8 bits.
    """

    type: str = "F32"
    bits: int = 0
    block: int = 32
    accuracy_level: int = 0


class Decoder(decoder.Decoder[str]):
    """Builds the graph; each primitive appends nodes and returns the name of its output."""

    unwritten = ("latent attention", "norms of experts")  # by standard operators neither
    lacking: tuple[str, ...] = (
        "recurrent layers",
        "layers without a feed-forward part",
        "mixers beside each other",
    )

    def __init__(self, model: ConvertInput, scheme: Scheme) -> None:
        self.model = model
        self.spec = model.spec
        self.scheme = scheme
        self.graph = Graph()
        self.type = scheme.type
        self.positions = ""
        self.here: dict[int, list[str]] = {}
        require(model, "ONNX output", PARTS.keys() - set(self.unwritten))
        require(model, "ONNX output", PARTS.keys() - set(self.lacking), "--opset-only has, or --format edge")
        self.check()
        self.context = min(self.spec.context or MAX_POSITIONS, MAX_POSITIONS)

    def check(self) -> None:
        """Raises UnsupportedModel for what the operators cannot do."""
        for layer in self.spec.layers:
            if layer.head_dim % 8:
                raise UnsupportedModel(
                    f"ONNX Runtime's GroupQueryAttention takes heads of multiples of 8, not {layer.head_dim}",
                    hint="--format edge runs it on every CPU",
                )

    def build(self) -> Graph:
        spec, graph = self.spec, self.graph
        ids = graph.input("input_ids", "I64", ["batch_size", "sequence_length"])
        self.begin()
        x = self.scaled(self.gathered("embed", ids), spec.embed_scale, "embed.scaled")
        x = self.norm(x, "embed_norm")
        x = self.blocks(x, self.gathered("ple_embed", ids) if spec.ple else None)
        x = self.norm(x, "final_norm")
        logits = self.linear(x, "embed" if spec.tied else "head", path="head")
        logits = self.softcap(
            self.scaled(logits, spec.logit_scale, "logits.scaled"), spec.logit_softcap, "logits.capped"
        )
        if self.type != "F32":
            logits = graph.node("Cast", [logits], "logits.f32", to=1)
        graph.rename(logits, "logits")
        graph.output("logits", "F32", ["batch_size", "sequence_length", spec.vocab_size])
        return graph

    def begin(self) -> None:
        """Lengths, from the mask."""
        mask = self.graph.input("attention_mask", "I64", ["batch_size", "total_sequence_length"])
        graph = self.graph
        ones = graph.node("ReduceSum", [mask, graph.constant([1], "I64")], "lengths.sum", keepdims=0)
        self.last = graph.node("Sub", [ones, graph.constant([1], "I64")], "lengths.last")
        self.seqlens_k = graph.node("Cast", [self.last], "seqlens_k", to=6)
        shape = graph.node("Shape", [mask], "lengths.shape")
        total = graph.node("Gather", [shape, graph.constant(1, "I64")], "lengths.total", axis=0)
        self.total_length = graph.node("Cast", [total], "total_length", to=6)

    # ---- parts

    def gathered(self, name: str, ids: str) -> str:
        """Rows of an embedding."""
        grid = self.grid(name)
        if isinstance(grid, Dense):
            return self.graph.node("Gather", [self.dense(name), ids], name)
        codes, scales = self.quantized(name, flat=True)
        return self.graph.contrib(
            "GatherBlockQuantized", [codes, ids, scales], name,
            gather_axis=0, quantize_axis=1, block_size=grid.group, bits=grid.bits,
        )  # fmt: skip

    def grid(self, name: str) -> Grid:
        """Of a matrix. GatherBlockQuantized, which reads the embedding, is the stricter operator."""
        k = self.spec.shape(name)[1]
        bits, block = self.scheme.bits, self.scheme.block
        if not bits or name.rsplit(".", 1)[-1] not in QUANTIZED:
            return Dense(self.type)
        if name in GATHERED and (bits not in EMBED_BITS or k % block):
            return Dense(self.type)
        wanted = Blocks(bits, block, self.type)
        own = self.model.grid(name, wanted)
        return own if self.holds(name, own) else wanted

    def holds(self, name: str, grid: Grid) -> bool:
        """Whether the operators take a checkpoint's own codes."""
        return isinstance(grid, Blocks) and (
            name not in GATHERED or (grid.bits in EMBED_BITS and not grid.zeros)
        )

    def linear(self, x: str, name: str, path: str | None = None) -> str:
        path = path or name
        n, k = self.spec.shape(name)
        if not isinstance(grid := self.grid(name), Dense):
            y = self.graph.contrib(
                "MatMulNBits", [x, *self.quantized(name)], path,
                K=k, N=n, bits=grid.bits, block_size=grid.group, accuracy_level=self.scheme.accuracy_level,
            )  # fmt: skip
        else:
            y = self.graph.contrib("FusedMatMul", [x, self.dense(name)], path, transB=1)
        bias = f"{path}_bias"
        return (
            self.graph.node("Add", [y, self.vector(bias)], f"{path}.biased")
            if bias in self.model.tensors
            else y
        )

    def norm(self, x: str, name: str) -> str:
        """Over the last axis; `x` itself when the model has no such norm."""
        return (
            self.normalized(x, self.vector(name), name, self.spec.norm) if name in self.model.tensors else x
        )

    def normalized(self, x: str, weight: str, path: str, kind: str) -> str:
        if kind == "rms":
            return self.graph.node(
                "SimplifiedLayerNormalization",
                [x, weight],
                path,
                axis=-1,
                epsilon=self.spec.norm_eps,
                stash_type=1,
            )
        bias = [self.vector(f"{path}_bias")] if f"{path}_bias" in self.model.tensors else []
        return self.graph.node(
            "LayerNormalization", [x, weight, *bias], path, axis=-1, epsilon=self.spec.norm_eps, stash_type=1
        )

    def heads(self, x: str, name: str, heads: int, head_dim: int) -> str:
        """`[batch, sequence, heads * head_dim]`: split only while their norm is taken."""
        kind, norm = self.norm_of_heads(name), f"{name}_norm"
        if kind == "full":
            return self.norm(x, norm)
        kinds = ("head", "layer_per_head")
        return self.normed_heads(x, norm, heads, head_dim) if kind in kinds else x

    def normed_heads(self, x: str, norm: str, heads: int, head_dim: int) -> str:
        graph = self.graph
        split = graph.node("Reshape", [x, graph.constant([0, 0, heads, head_dim], "I64")], f"{norm}.split")
        joined = graph.constant([0, 0, heads * head_dim], "I64")
        return graph.node("Reshape", [self.head_norm(split, norm), joined], f"{norm}.joined")

    def head_norm(self, x: str, name: str) -> str:
        if name in self.model.tensors and self.spec.qk_norm != "layer_per_head":
            return self.norm(x, name)
        ones = self.graph.constant(np.ones(self.spec.shape(name)[-1]), self.type)
        if name not in self.model.tensors:
            return self.normalized(x, ones, name, self.spec.norm)
        plain = self.normalized(x, ones, f"{name}.plain", "layer")
        return self.graph.node("Mul", [plain, self.tensor(name)], name)

    def split_heads(self, x: str, path: str, heads: int, head_dim: int) -> str:
        """As they are: GroupQueryAttention takes the heads side by side."""
        return x

    def attend(self, q: str, k: str, v: str, at: str, layer: Layer) -> str:
        graph, own = self.graph, layer.kv_layer is None
        index = decoder.number(at) if own else layer.kv_layer
        past = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
        present = [f"present.{index}.{kind}" for kind in ("key", "value")]
        shape: list[Dim] = ["batch_size", layer.n_kv_heads, "past_sequence_length", layer.head_dim]
        for before, after in zip(past, present, strict=True):
            if own:
                graph.input(before, self.type, shape)
                graph.output(after, self.type, [*shape[:2], "total_sequence_length", shape[3]])
        rotates = layer.rope is not None and self.rotated_by_operator(layer)
        if not rotates:
            q = self.placed(q, f"{at}.q", layer.n_heads, layer)
            k = self.placed(k, f"{at}.k", layer.n_kv_heads, layer)
        inputs = [q, k, v, *past, self.seqlens_k, self.total_length]
        if layer.rope is not None and rotates:
            inputs += self.angles(layer.rope)
        if f"{at}.sinks" in self.model.tensors:
            inputs += [""] * (SINKS_INPUT - len(inputs))
            inputs.append(self.vector(f"{at}.sinks"))
        mixed, *caches = graph.contrib(
            "GroupQueryAttention", inputs, f"{at}.attention", outputs=3,
            num_heads=layer.n_heads, kv_num_heads=layer.n_kv_heads, scale=self.spec.attn_scale,
            softcap=self.spec.attn_softcap, do_rotary=int(rotates), rotary_interleaved=0,
            local_window_size=layer.window or -1,
        )  # fmt: skip
        for ours, promised in zip(caches, present, strict=True):
            if own:  # the others are what the layer that has them promises
                graph.rename(ours, promised)
        return str(mixed)

    def rotated_by_operator(self, layer: Layer) -> bool:
        """GroupQueryAttention rotates whole lines of 8 numbers, by one table of angles."""
        if layer.rope is None:
            return False
        rope = self.spec.ropes[layer.rope]
        return (
            layer.head_dim % 16 == 0
            and rope.dim % 16 == 0
            and rope.long_inv_freq is None
            and self.spec.qk_norm != "head_after_rope"
        )

    def placed(self, x: str, path: str, heads: int, layer: Layer) -> str:
        """Queries or keys, rotated, and what norm comes after."""
        if layer.rope is not None:
            x = self.rotated(x, path, heads, layer.head_dim, layer.rope)
        if self.spec.qk_norm != "head_after_rope":
            return x
        return self.normed_heads(x, f"{path}_norm", heads, layer.head_dim)

    def rotated(self, x: str, path: str, heads: int, head_dim: int, index: int) -> str:
        """`[batch, sequence, heads * head_dim]`, the first numbers of each head rotated."""
        graph, dim = self.graph, self.spec.ropes[index].dim
        cos, sin = self.angles_here(index)
        split = graph.node("Reshape", [x, graph.constant([0, 0, heads, head_dim], "I64")], f"{path}.heads")
        sizes = [dim // 2, dim // 2] + ([head_dim - dim] if head_dim > dim else [])
        a, b, *rest = graph.node(
            "Split", [split, graph.constant(sizes, "I64")], f"{path}.parts", outputs=len(sizes), axis=-1
        )

        def product(left: str, right: str, name: str) -> str:
            return graph.node("Mul", [left, right], f"{path}.{name}")

        first = graph.node("Sub", [product(a, cos, "a_cos"), product(b, sin, "b_sin")], f"{path}.first")
        second = graph.node("Add", [product(b, cos, "b_cos"), product(a, sin, "a_sin")], f"{path}.second")
        joined = graph.node("Concat", [first, second, *rest], f"{path}.rotated", axis=-1)
        return graph.node(
            "Reshape", [joined, graph.constant([0, 0, heads * head_dim], "I64")], f"{path}.joined"
        )

    def angles_here(self, index: int) -> list[str]:
        """Cosines and sines of this step's positions, `[batch, sequence, 1, dim / 2]`."""
        graph = self.graph
        if not self.positions:
            shape = graph.node("Shape", ["input_ids"], "positions.shape")
            length = graph.node("Gather", [shape, graph.constant(1, "I64")], "positions.length", axis=0)
            steps = graph.node(
                "Range", [graph.constant(0, "I64"), length, graph.constant(1, "I64")], "positions.steps"
            )
            first = graph.node("Sub", [self.last, length], "positions.before")
            first = graph.node("Add", [first, graph.constant(1, "I64")], "positions.first")
            column = graph.node("Unsqueeze", [first, graph.constant([1], "I64")], "positions.column")
            self.positions = graph.node("Add", [column, steps], "positions")
        if index not in self.here:
            rows = self.positions
            if self.spec.ropes[index].long_inv_freq is not None:
                first = self.first_long_row(self.spec.ropes[index])
                rows = graph.node("Add", [rows, first], f"rope.{index}.rows")
            self.here[index] = [
                graph.node(
                    "Unsqueeze",
                    [
                        graph.node("Gather", [table, rows], f"{table}.rows", axis=0),
                        graph.constant([2], "I64"),
                    ],
                    f"{table}.here",
                )
                for table in self.angles(index)
            ]
        return self.here[index]

    def first_long_row(self, rope: Rope) -> str:
        """Where this step's angles begin in the tables of longrope: at its long ones when the text so far, or
        the buffers of keys (shared by past and present), have more than its original context.
        """
        graph = self.graph
        first = next(i for i, layer in enumerate(self.spec.layers) if layer.mixer == "attention")
        shape = graph.node("Shape", [f"past_key_values.{first}.key"], "buffers.shape")
        capacity = graph.node("Gather", [shape, graph.constant(2, "I64")], "buffers.length", axis=0)
        text = graph.node("Cast", [self.total_length], "text.length", to=7)
        length = graph.node("Max", [capacity, text], "context.length")
        original = graph.constant(rope.original_context, "I64")
        is_long = graph.node("Greater", [length, original], "context.is_long")
        return str(graph.node("Where", [is_long, original, graph.constant(0, "I64")], "rope.first_row"))

    def gate(self, x: str, gate: str, path: str, layer: Layer) -> str:
        graph, share = self.graph, self.graph.node("Sigmoid", [gate], f"{path}.share")
        if self.spec.attn_gate == "full":
            return graph.node("Mul", [x, share], f"{path}.gated")
        share = graph.node("Unsqueeze", [share, graph.constant([-1], "I64")], f"{path}.of_heads")
        heads = graph.constant([0, 0, layer.n_heads, layer.head_dim], "I64")
        split = graph.node("Reshape", [x, heads], f"{path}.heads")
        joined = graph.constant([0, 0, layer.n_heads * layer.head_dim], "I64")
        return graph.node(
            "Reshape", [graph.node("Mul", [split, share], f"{path}.split"), joined], f"{path}.gated"
        )

    def parts(self, x: str, count: int, path: str) -> Sequence[str]:
        return list(self.graph.node("Split", [x], path, outputs=count, axis=-1, num_outputs=count))

    def convolve(self, x: str, at: str, layer: Layer) -> str:
        return self.causal(x, f"{at}.conv", str(decoder.number(at)))

    def causal(self, x: str, name: str, place: str) -> str:
        """The convolution with the taps `name`. Its state, `past_conv.{place}`, is its last inputs."""
        graph, (channels, kernel) = self.graph, self.spec.shape(name)
        turned = graph.node("Transpose", [x], f"{name}.turned", perm=[0, 2, 1])
        past = graph.input(f"past_conv.{place}", self.type, ["batch_size", channels, kernel - 1])
        padded = graph.node("Concat", [past, turned], f"{name}.padded", axis=-1)
        last = [graph.constant([value], "I64") for value in (-(kernel - 1), 1 << 62, 2)]
        state = graph.node("Slice", [padded, *last], f"{name}.state")
        graph.rename(state, f"present_conv.{place}")
        graph.output(f"present_conv.{place}", self.type, ["batch_size", channels, kernel - 1])
        bias = [self.vector(f"{name}_bias")] if f"{name}_bias" in self.model.tensors else []
        taps = self.tensor(name, (channels, 1, kernel))
        mixed = graph.node("Conv", [padded, taps, *bias], name, group=channels, kernel_shape=[kernel])
        return graph.node("Transpose", [mixed], f"{name}.back", perm=[0, 2, 1])

    def activate(self, x: str, path: str) -> str:
        graph, kind = self.graph, self.spec.activation
        if kind == "silu":
            return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{path}.sigmoid")], f"{path}.silu")
        if kind == "gelu_tanh":
            return graph.node("Gelu", [x], f"{path}.gelu", approximate="tanh")
        if kind == "gelu":
            return graph.node("Gelu", [x], f"{path}.gelu", approximate="none")
        if kind == "xielu":
            return self.xielu(x, path)
        if kind == "swiglu_oai":
            x = graph.node("Min", [x, graph.constant(SWIGLU_LIMIT, self.type)], f"{path}.bounded")
            slope = self.scaled(x, SWIGLU_SLOPE, f"{path}.steep")
            return graph.node("Mul", [x, graph.node("Sigmoid", [slope], f"{path}.sigmoid")], f"{path}.swish")
        kept = graph.node("Relu", [x], f"{path}.relu")
        return graph.node("Mul", [kept, kept], f"{path}.squared") if kind == "relu2" else kept

    def xielu(self, x: str, path: str) -> str:
        """The square of what is positive; what is negative by the exponential."""
        graph, at = self.graph, path.rpartition(".")[0]
        below = graph.node("Min", [x, graph.constant(0, self.type)], f"{path}.below")
        curve = graph.node("Elu", [below], f"{path}.curve")  # e ** x - 1
        curve = graph.node("Sub", [curve, below], f"{path}.bend")
        kept = graph.node("Relu", [x], f"{path}.relu")
        sides = (graph.node("Mul", [kept, kept], f"{path}.squared"), "alpha_p"), (curve, "alpha_n")
        weighed = [graph.node("Mul", [y, self.vector(f"{at}.{a}")], f"{path}.{a}") for y, a in sides]
        return graph.node("Sum", [*weighed, self.scaled(x, 0.5, f"{path}.half")], f"{path}.xielu")

    def raised(self, x: str, path: str) -> str:
        limits = [self.graph.constant(limit, self.type) for limit in (-SWIGLU_LIMIT, SWIGLU_LIMIT)]
        bounded = self.graph.node("Clip", [x, *limits], f"{path}.clipped")
        return self.graph.node("Add", [bounded, self.graph.constant(1, self.type)], f"{path}.raised")

    def route(self, logits: str, at: str, layer: Layer) -> Sequence[str]:
        graph, moe = self.graph, self.spec.moe
        assert moe is not None
        if moe.score == "softmax":
            weights = graph.node("Softmax", [logits], f"{at}.weights", axis=-1)
        else:
            weights = graph.node("Sigmoid", [logits], f"{at}.weights")
        ranked, favour = weights, f"{at}.router_choice"
        if favour in self.model.tensors:
            ranked = graph.node("Add", [weights, self.vector(favour)], f"{at}.ranked")
        top, chosen = graph.node(
            "TopK", [ranked, graph.constant([moe.top_k], "I64")], f"{at}.top", outputs=2, axis=-1
        )
        if ranked != weights:
            top = graph.node("GatherElements", [weights, chosen], f"{at}.top_weights", axis=-1)
        if moe.normalize:
            total = graph.node("ReduceSum", [top, graph.constant([-1], "I64")], f"{at}.total", keepdims=1)
            top = graph.node("Div", [top, total], f"{at}.normalized")
        top = self.scaled(top, moe.scale, f"{at}.top_scaled")
        nothing = graph.node("Mul", [weights, graph.constant(0, self.type)], f"{at}.nothing")
        kept = graph.node("ScatterElements", [nothing, chosen, top], f"{at}.kept", axis=-1)
        count = layer.n_experts
        each = graph.node("Split", [kept], f"{at}.each", outputs=count, axis=-1, num_outputs=count)
        return each if isinstance(each, list) else [each]

    def add(self, a: str, b: str, path: str) -> str:
        return self.graph.node("Add", [a, b], path)

    def multiply(self, a: str, b: str, path: str) -> str:
        return self.graph.node("Mul", [a, b], path)

    def times(self, x: str, name: str) -> str:
        if name not in self.model.tensors:
            return x
        return self.graph.node("Mul", [x, self.tensor(name)], f"{name}.product")

    def total(self, values: Iterable[str], path: str) -> str:
        return self.graph.node("Sum", list(values), path)

    def scaled(self, x: str, factor: float, path: str) -> str:
        return (
            x if factor == 1.0 else self.graph.node("Mul", [x, self.graph.constant(factor, self.type)], path)
        )

    def softcap(self, x: str, cap: float, path: str) -> str:
        if not cap:
            return x
        graph, value = self.graph, self.graph.constant(cap, self.type)
        inner = graph.node("Tanh", [graph.node("Div", [x, value], f"{path}.in")], f"{path}.tanh")
        return graph.node("Mul", [inner, value], path)

    # ---- weights

    def angles(self, index: int) -> list[str]:
        """Tables of cosines and sines, `[context, dim / 2]`; of longrope the short ones of the original
        context before the long ones.
        """
        names = [f"rope.{index}.{kind}" for kind in ("cos", "sin")]
        if names[0] not in self.graph.weights | self.graph.inline:
            for name, table in zip(names, angle_tables(self.spec.ropes[index], self.context), strict=True):
                stored = table.astype("<f2" if self.type == "F16" else "<f4")
                self.graph.constant(stored, self.type, name)
        return names

    def vector(self, name: str) -> str:
        return self.tensor(name)

    def tensor(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """A small tensor of the spec."""
        values = self.model.load(name)
        if values is None:
            raise UnsupportedModel(f"the checkpoint has no tensor {name!r}")
        return self.graph.constant(values.reshape(shape or values.shape), self.type, f"{name}.weight")

    def dense(self, name: str) -> str:
        n, k = self.spec.shape(name)

        def blocks() -> Iterator[Block]:
            return in_order(lambda slab: narrowed(self.rows(name, slab), self.type), row_slabs(n, k))

        return self.graph.weight(Weight(f"{name}.weight", self.type, (n, k), blocks))

    def quantized(self, name: str, *, flat: bool = False) -> tuple[str, ...]:
        """Names of codes `[n, blocks, bytes]` (flat: `[n, blocks * bytes]`), scales `[n, blocks]` and, where
        groups have zeros of their own, those `[n, bytes]`; they follow the codes in the file.
        """
        n, k = self.spec.shape(name)
        grid = self.grid(name)
        assert isinstance(grid, Blocks)
        count = grid.groups(k)
        later: list[list[Block]] = []  # emptied as it is written

        def pack(slab: tuple[int, int]) -> tuple[Block, ...]:
            return grid.pack(self.model.fitted(name, grid, slab))

        def codes() -> Iterator[Block]:
            for packed, *rest in in_order(pack, row_slabs(n, k)):
                later.append(rest)
                yield packed

        def beside() -> Iterator[Block]:
            return (rest.pop(0) for rest in later)

        size = grid.group * grid.bits // 8
        shape = (n, count * size) if flat else (n, count, size)
        if not flat and f"{name}.codes" in self.graph.weights:  # the embedding, as the output matrix
            alias = Weight(f"{name}.blocks", "U8", shape, lambda: iter(()), alias=f"{name}.codes")
            return self.graph.weight(alias), f"{name}.scales"
        found = [
            self.graph.weight(Weight(f"{name}.codes", "U8", shape, codes)),
            self.graph.weight(Weight(f"{name}.scales", self.type, (n, count), beside)),
        ]
        if grid.zeros:
            packed = (n, -(-count * grid.bits // 8))
            found.append(self.graph.weight(Weight(f"{name}.zeros", "U8", packed, beside)))
        return tuple(found)

    def rows(self, name: str, slab: tuple[int, int]) -> NDArray[np.float32]:
        values = self.model.load(name, slab)
        assert values is not None
        return values


def angle_tables(rope: Rope, positions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines as `Decoder.angles` has them, times the rope's factor."""

    def table(inv_freq: tuple[float, ...], count: int) -> NDArray[np.float64]:
        return np.arange(count, dtype=np.float64)[:, None] * np.array(inv_freq, np.float64)

    if rope.long_inv_freq is None or rope.original_context is None:
        angles = table(rope.inv_freq, positions)
    else:
        short = table(rope.inv_freq, rope.original_context)
        angles = np.concatenate([short, table(rope.long_inv_freq, positions)])
    return np.cos(angles) * rope.factor, np.sin(angles) * rope.factor
