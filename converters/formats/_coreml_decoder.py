"""A spec as functions of an ML Program (iOS 18, macOS 15), through coremltools' builder.

    embeddings                   the tokens' rows of the embedding
    cos_R, sin_R                 angles of rope R at the tokens' positions
    sink_cos_R, sink_sin_R       at the positions from which they see the sinks
    mask_K                       0 or a large negative number, for rings of kind K
    slot_K         int32 [1]     where the first token goes; the others follow
    select         [1, 1, 1, tokens]     1 for the token whose logits are wanted, where there are several
    conv_tail      [1, 1, STATE_WIDTH + tokens, STATE_WIDTH]   1 for the inputs that a convolution keeps
    key_cache_N, value_cache_N   state, float16 [1, n_kv_heads * head_dim, 1, slots]
    conv_cache_N                 state, float16 [1, d_model, 1, STATE_WIDTH]
    logits         [1, vocab_size], or [1, 1, 1, vocab_size and what fills it up]

`Decoder` is laid out for GPUs: `[1, tokens, d_model]`, linear layers, the residual in float32, the heads of a
group of queries side by side. `NeuralEngineDecoder` is laid out for the Neural Engine: a token is a column,
`[1, d_model, 1, tokens]`, 1x1 convolutions, float16 throughout, a head of keys at a time, nothing that moves
the last axis; a step is `WIDTH` tokens, because narrower rows are filled up to that. Constants are only
shapes while the program is built; `WeightFile` streams their values.

A model of several parts is as many programs: the next takes the residual, `hidden`, that the last one gives.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import coremltools
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Function, types
from coremltools.converters.mil.mil.program import Placeholder, StateTensorPlaceholder
from numpy.typing import NDArray

from edgekit.converters import decoder
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats._coreml_codes import BUILTIN, Scheme, SignedBlocks
from edgekit.converters.formats._coreml_session import HIDDEN, STATE_WIDTH, Cache, Ring, Step
from edgekit.converters.formats._coreml_weights import Tensor, WeightFile
from edgekit.converters.formats._parallel import SLAB_WEIGHTS, in_order, row_slabs
from edgekit.converters.quant.dense import Dense, narrowed
from edgekit.converters.quant.grid import Grid
from edgekit.converters.quant.palette import ROWS as PALETTE_ROWS
from edgekit.converters.quant.palette import Palette
from edgekit.converters.spec import Layer, ModelSpec
from edgekit.errors import UnsupportedModel

TARGET = coremltools.target.iOS18
QUANTIZED = frozenset(["embed", "head", "q", "k", "v", "o", "gate", "up", "down", "conv_in", "conv_out"])
HEAD_ROWS = 16384  # of the output matrix in one convolution
ALIGNED = 32  # float16 numbers in 64 bytes

Value = Any  # a coremltools Var
Slab = tuple[int, int]


class Decoder(decoder.Decoder[Value]):
    """Builds the functions of some layers; each primitive appends operations and returns the value they
    give.
    """

    channels = -1  # axis of d_model
    head_axis = -1  # of head_dim, in what `split_heads` gives
    wide = types.fp32  # of the residual and the norms
    gain = 1.0  # on the residual, a power of 2 that no norm lets through

    def __init__(self, model: ConvertInput, scheme: Scheme, cache: Cache, layers: Slab | None = None) -> None:
        self.model = model
        self.spec = model.spec
        self.scheme = scheme
        self.cache = cache
        self.layers = layers or (0, len(model.spec.layers))
        self.rings = cache.rings(model.spec)
        self.weights = WeightFile()
        self.type = types.fp16 if scheme.type == "F16" else types.fp32
        if len({layer.conv_kernel for layer in self.spec.layers if layer.mixer == "conv"}) > 1:
            raise UnsupportedModel(
                "the short convolutions of this model differ in length, Core ML output takes one"
            )

    def functions(self, steps: Sequence[Step]) -> dict[str, Any]:
        """Programs by name."""
        return {step.name: self.function(step) for step in steps}

    def function(self, step: Step) -> Any:
        self.at, self.tokens = step, step.tokens
        self.known: dict[Any, Value] = {}
        self.keys_values = {}
        first, last = self.layers
        function = Function(self.placeholders(), opset_version=TARGET)
        self.inputs = function.inputs
        with function:
            if first:
                x = self.inputs["hidden"]
            else:
                x = self.widened(self.inputs["embeddings"])
                x = self.scaled(x, self.spec.embed_scale * self.gain)
            for index in range(first, last):
                x = self.block(x, f"layers.{index}", self.spec.layers[index])
            if step.logits and last == len(self.spec.layers):
                function.set_outputs([self.head(self.norm(x, "final_norm"))])
            else:
                function.set_outputs([mb.identity(x=x, name="hidden_out")])
        return function

    def placeholders(self) -> dict[str, Any]:
        spec, tokens = self.spec, self.tokens
        given: dict[str, Any] = {}
        states: dict[str, Any] = {}

        def take(name: str, shape: tuple[int, ...], dtype: Any = None) -> None:
            given[name] = Placeholder(shape, dtype=dtype or self.type)

        first, last = self.layers
        if first:
            take("hidden", self.residual_shape(), self.wide)
        else:
            take("embeddings", self.residual_shape())
        for index in range(first, last):
            layer = spec.layers[index]
            if layer.mixer == "conv":
                take("conv_tail", (1, 1, STATE_WIDTH + tokens, STATE_WIDTH))
                shape: tuple[int, ...] = (1, spec.d_model, 1, STATE_WIDTH)
                states[f"conv_cache_{index}"] = StateTensorPlaceholder(shape, dtype=types.fp16)
                continue
            ring = self.cache.ring(layer)
            kind = self.rings.index(ring)
            take(f"mask_{kind}", self.mask_shape(self.read(ring)))
            take(f"slot_{kind}", (1,), types.int32)
            if layer.rope is not None:
                half = spec.ropes[layer.rope].dim // 2
                for prefix in ("", "sink_") if self.sees_sinks_apart(ring) else ("",):
                    for part in ("cos", "sin"):
                        take(f"{prefix}{part}_{layer.rope}", self.angles_shape(half))
            shape = (1, layer.n_kv_heads * layer.head_dim, 1, ring.slots)
            for part in ("key", "value"):
                states[f"{part}_cache_{index}"] = StateTensorPlaceholder(shape, dtype=types.fp16)
        if self.at.logits and tokens > 1 and last == len(spec.layers):
            take("select", (1, 1, 1, tokens))
        return given | states

    def read(self, ring: Ring) -> int:
        """How many of its slots this step sees."""
        return min(self.at.context, ring.slots)

    def sees_sinks_apart(self, ring: Ring) -> bool:
        """As if they were nearer than they are: in steps that are for any position."""
        return ring.sinks > 0 and self.read(ring) == ring.slots

    def addend(self, x: Value, norm: str) -> Value:
        """What a part of a layer adds to the residual; its norm, if there is one, does the scaling."""
        factor = self.spec.residual_scale * self.gain
        if norm in self.model.tensors:
            return self.widened(self.norm(x, norm, factor))
        return self.scaled(self.widened(x), factor)

    # ---- layout

    def residual_shape(self) -> tuple[int, ...]:
        return (1, self.tokens, self.spec.d_model)

    def mask_shape(self, slots: int) -> tuple[int, ...]:
        return (1, 1, self.tokens, slots)

    def angles_shape(self, half: int) -> tuple[int, ...]:
        return (1, 1, self.tokens, half)

    def linear(self, x: Value, name: str) -> Value:
        bias = {"bias": self.vector(f"{name}_bias")} if f"{name}_bias" in self.model.tensors else {}
        return mb.linear(x=self.narrowed(x), weight=self.matrix(name), **bias)

    def head(self, x: Value) -> Value:
        bias = {"bias": self.vector("head_bias")} if "head_bias" in self.model.tensors else {}
        matrix = self.matrix("embed" if self.spec.tied else "head")
        logits = self.finished(mb.linear(x=self.narrowed(x), weight=matrix, **bias))
        return mb.reshape(x=logits, shape=[1, self.spec.vocab_size], name="logits")

    def split_heads(self, x: Value, path: str, heads: int, head_dim: int) -> Value:
        """-> `[1, heads, tokens, head_dim]`"""
        apart = mb.reshape(x=self.narrowed(x), shape=[1, self.tokens, heads, head_dim])
        return mb.transpose(x=apart, perm=[0, 2, 1, 3])

    def head_columns(self, x: Value) -> Value:
        """What `split_heads` gave as columns of tokens: `[1, heads * head_dim, 1, tokens]`."""
        columns = mb.transpose(x=x, perm=[0, 1, 3, 2])
        return mb.reshape(x=columns, shape=[1, x.shape[1] * x.shape[3], 1, self.tokens])

    def channels_first(self, x: Value) -> Value:
        """-> `[1, channels, 1, tokens]`"""
        return mb.expand_dims(x=mb.transpose(x=x, perm=[0, 2, 1]), axes=[2])

    def channels_back(self, x: Value) -> Value:
        """Inverse of `channels_first`."""
        return mb.transpose(x=mb.squeeze(x=x, axes=[2]), perm=[0, 2, 1])

    def along(self, axis: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A vector in the shape in which it multiplies along `axis`."""
        return values

    # ---- parts

    def norm(self, x: Value, name: str, factor: float = 1.0) -> Value:
        """Over the channels, times a factor; `x` itself when the model has no such norm."""
        if name not in self.model.tensors:
            return x
        weight = self.along(self.channels, self.values(name)) * np.float32(factor)
        return self.normalized(x, name, weight, self.spec.norm, self.channels, factor)

    def normalized(
        self, x: Value, name: str, weight: NDArray[np.float32], kind: str, axis: int, factor: float = 1.0
    ) -> Value:
        x = self.widened(x)
        eps = self.spec.norm_eps
        if name.endswith(("attn_norm", "ffn_norm", "final_norm")):  # of the residual
            eps = max(eps * self.gain**2, 2.0**-24 if self.gain < 1 else 0)  # which float16 holds
        epsilon = self.number(eps, x.dtype)
        if kind == "rms":
            y = self.rms_normalized(x, axis, epsilon)
        else:
            y = mb.layer_norm(x=x, axes=[axis], epsilon=epsilon)
        y = mb.mul(x=y, y=self.small(name, weight, y.dtype))
        if f"{name}_bias" not in self.model.tensors:
            return y
        bias = self.along(axis, self.values(f"{name}_bias")) * np.float32(factor)
        return mb.add(x=y, y=self.small(f"{name}_bias", bias, y.dtype))

    def rms_normalized(self, x: Value, axis: int, epsilon: Any) -> Value:
        mean = mb.reduce_mean(x=mb.mul(x=x, y=x), axes=[axis], keep_dims=True)
        return mb.mul(x=x, y=mb.rsqrt(x=mean, epsilon=epsilon))

    def head_norm(self, x: Value, name: str) -> Value:
        kind, weight = self.spec.norm, self.along(self.head_axis, self.values(name))
        if self.spec.qk_norm == "layer_per_head":
            kind = "layer"
            weight = np.expand_dims(self.values(name), (0, 2 if self.head_axis == -1 else 3))
        return self.narrowed(self.normalized(x, name, weight, kind, self.head_axis))

    def attend(self, q: Value, k: Value, v: Value, at: str, layer: Layer) -> Value:
        index, ring = decoder.number(at), self.cache.ring(layer)
        keys = self.stored(f"key_cache_{index}", self.rotated(k, layer), ring)
        values = self.stored(f"value_cache_{index}", v, ring)
        apart = self.sees_sinks_apart(ring) and layer.rope is not None
        near, far = (
            self.scaled(self.rotated(q, layer, prefix), self.spec.attn_scale) if apart or not prefix else None
            for prefix in ("", "sink_")
        )
        return self.mixed(near, far, keys, values, ring)

    def mixed(self, q: Value, far: Value | None, keys: Value, values: Value, ring: Ring) -> Value:
        """The heads' values, as channels; sinks are seen by the queries `far` if there are some. Keys and
        values are `[1, n_kv_heads, head_dim, slots]`.
        """
        _, heads, tokens, dim = q.shape
        kv_heads = keys.shape[1]
        scores = self.scores(q, keys)
        if far is not None:
            sinks = self.scores(far, self.part(keys, 3, 0, ring.sinks))
            scores = mb.concat(values=[sinks, self.part(scores, 3, ring.sinks, ring.slots)], axis=-1)
        weights = self.softmax(scores, ring, -1)
        grouped = mb.reshape(x=weights, shape=[1, kv_heads, heads // kv_heads * tokens, keys.shape[3]])
        mixed = mb.matmul(x=grouped, y=values, transpose_y=True)
        apart = mb.transpose(x=mb.reshape(x=mixed, shape=[1, heads, tokens, dim]), perm=[0, 2, 1, 3])
        return mb.reshape(x=apart, shape=[1, tokens, heads * dim])

    def scores(self, q: Value, keys: Value) -> Value:
        """`[1, heads, tokens, slots]`; the heads of a group share their keys."""
        _, heads, tokens, dim = q.shape
        kv_heads, slots = keys.shape[1], keys.shape[3]
        grouped = mb.reshape(x=q, shape=[1, kv_heads, heads // kv_heads * tokens, dim])
        return mb.reshape(x=mb.matmul(x=grouped, y=keys), shape=[1, heads, tokens, slots])

    def softmax(self, scores: Value, ring: Ring, axis: int) -> Value:
        """Of what a step's tokens see."""
        scores = self.softcap(scores, self.spec.attn_softcap)
        return mb.softmax(x=mb.add(x=scores, y=self.mask(ring, scores.shape[3])), axis=axis)

    def mask(self, ring: Ring, last: int) -> Value:
        """In the shape of scores, whose last axis is `last`."""
        return self.inputs[f"mask_{self.rings.index(ring)}"]

    def rotated(self, x: Value, layer: Layer, prefix: str = "") -> Value:
        """What `split_heads` gives, the first numbers of each head rotated."""
        if layer.rope is None:
            return x
        dim, axis = self.spec.ropes[layer.rope].dim, self.head_axis
        cos, sin = (self.inputs[f"{prefix}{part}_{layer.rope}"] for part in ("cos", "sin"))
        sizes = [dim // 2, dim // 2, *([layer.head_dim - dim] if layer.head_dim > dim else [])]
        a, b, *rest = mb.split(x=x, split_sizes=sizes, axis=axis)
        first = mb.sub(x=mb.mul(x=a, y=cos), y=mb.mul(x=b, y=sin))
        second = mb.add(x=mb.mul(x=b, y=cos), y=mb.mul(x=a, y=sin))
        return mb.concat(values=[first, second, *rest], axis=axis)

    def stored(self, name: str, new: Value, ring: Ring) -> Value:
        """The cache `[1, heads, head_dim, slots]` with this step's `new`, as `split_heads` shapes it, in
        it.
        """
        heads, dim = new.shape[1], new.shape[self.head_axis]
        state, columns = self.inputs[name], self.cast(self.head_columns(new), types.fp16)
        begin, end = self.bounds(self.rings.index(ring))
        mask = [True, True, True, False]
        # Read, updated and written in a row, which Core ML does in place.
        old = mb.read_state(input=state)
        whole = mb.slice_update(x=old, update=columns, begin=begin, end=end, begin_mask=mask, end_mask=mask)
        whole = mb.coreml_update_state(state=state, value=whole)
        seen = self.read(ring)
        if seen < ring.slots:
            whole = self.part(whole, 3, 0, seen)
        return self.cast(mb.reshape(x=whole, shape=[1, heads, dim, seen]), self.type)

    def bounds(self, kind: int) -> tuple[Value, Value]:
        """The slice of the slots of this step's tokens."""
        if ("bounds", kind) not in self.known:
            slot, zero = self.inputs[f"slot_{kind}"], np.zeros(1, np.int32)
            after = mb.add(x=slot, y=np.int32(self.tokens))
            self.known["bounds", kind] = tuple(
                mb.concat(values=[zero, zero, zero, at], axis=0) for at in (slot, after)
            )
        return self.known["bounds", kind]

    def parts(self, x: Value, count: int, path: str) -> Sequence[Value]:
        return list(mb.split(x=x, num_splits=count, axis=self.channels))

    def convolve(self, x: Value, at: str, layer: Layer) -> Value:
        """Its state is its last inputs."""
        d, kernel = self.spec.d_model, layer.conv_kernel
        state = self.inputs[f"conv_cache_{decoder.number(at)}"]
        new = self.cast(self.channels_first(x), types.fp16)
        padded = mb.concat(values=[mb.read_state(input=state), new], axis=-1)
        tail = self.cast(self.inputs["conv_tail"], types.fp16)
        mb.coreml_update_state(state=state, value=mb.matmul(x=padded, y=tail))
        taps = self.small(f"{at}.conv", self.values(f"{at}.conv").reshape(d, 1, 1, kernel), self.type)
        bias = {"bias": self.vector(f"{at}.conv_bias")} if f"{at}.conv_bias" in self.model.tensors else {}
        used = self.part(padded, 3, STATE_WIDTH - kernel + 1, STATE_WIDTH + self.tokens)
        mixed = mb.conv(x=self.cast(used, self.type), weight=taps, groups=d, pad_type="valid", **bias)
        return self.channels_back(mixed)

    def activate(self, x: Value, path: str) -> Value:
        kind = self.spec.activation
        if kind == "silu":  # as one operation it is computed in float32
            return mb.mul(x=x, y=mb.sigmoid(x=x))
        if kind in ("gelu", "gelu_tanh"):
            return mb.gelu(x=x, mode="EXACT" if kind == "gelu" else "TANH_APPROXIMATION")
        kept = mb.relu(x=x)
        return mb.mul(x=kept, y=kept) if kind == "relu2" else kept

    def route(self, logits: Value, at: str, layer: Layer) -> Sequence[Value]:
        moe, axis = self.spec.moe, self.channels
        assert moe is not None
        weights = mb.softmax(x=logits, axis=axis)
        top, _ = mb.topk(x=weights, k=moe.top_k, axis=axis)
        least = mb.reduce_min(x=top, axes=[axis], keep_dims=True)
        weights = mb.mul(x=weights, y=self.cast(mb.greater_equal(x=weights, y=least), weights.dtype))
        if moe.normalize:
            weights = mb.real_div(x=weights, y=mb.reduce_sum(x=weights, axes=[axis], keep_dims=True))
        return list(mb.split(x=weights, num_splits=layer.n_experts, axis=axis))

    def add(self, a: Value, b: Value, path: str) -> Value:
        return mb.add(x=a, y=b)

    def multiply(self, a: Value, b: Value, path: str) -> Value:
        return mb.mul(x=a, y=b)

    def times(self, x: Value, name: str) -> Value:
        if name not in self.model.tensors:
            return x
        return mb.mul(x=x, y=self.small(name, self.values(name), x.dtype))

    def total(self, values: Iterable[Value], path: str) -> Value:
        return functools.reduce(lambda a, b: mb.add(x=a, y=b), values)

    def finished(self, logits: Value) -> Value:
        return self.softcap(self.scaled(logits, self.spec.logit_scale), self.spec.logit_softcap)

    def scaled(self, x: Value, factor: float, path: str = "") -> Value:
        return x if factor == 1.0 else mb.mul(x=x, y=self.number(factor, x.dtype))

    def softcap(self, x: Value, cap: float, path: str = "") -> Value:
        if not cap:
            return x
        inner = mb.tanh(x=mb.real_div(x=x, y=self.number(cap, x.dtype)))
        return mb.mul(x=inner, y=self.number(cap, x.dtype))

    def part(self, x: Value, axis: int, first: int, last: int) -> Value:
        begin, end = [0] * x.rank, list(x.shape)
        begin[axis], end[axis] = first, last
        return mb.slice_by_index(x=x, begin=begin, end=end)

    # ---- types

    def cast(self, x: Value, dtype: Any) -> Value:
        return x if x.dtype == dtype else mb.cast(x=x, dtype=types.builtin_to_string(dtype))

    def widened(self, x: Value) -> Value:
        return self.cast(x, self.wide)

    def narrowed(self, x: Value) -> Value:
        return self.cast(x, self.type)

    def number(self, value: float, dtype: Any) -> Any:
        return types.nptype_from_builtin(dtype)(value)

    # ---- weights

    def values(self, name: str) -> NDArray[np.float32]:
        """A small tensor of the spec."""
        values = self.model.load(name)
        if values is None:
            raise UnsupportedModel(f"the checkpoint has no tensor {name!r}")
        return values

    def small(self, name: str, values: NDArray[np.float32], dtype: Any) -> Value:
        """A small tensor under the name by which it is read back."""
        return mb.const(val=values.astype(types.nptype_from_builtin(dtype)), name=path_of(name))

    def vector(self, name: str) -> Value:
        return self.small(name, self.values(name), self.type)

    def matrix(self, name: str, rows: Slab | None = None, *, filters: bool = False) -> Value:
        """A matrix (or some rows), as the weights of 1x1 convolutions with `filters`."""
        key = (name, rows, filters)
        if key not in self.known:
            self.known[key] = self.new_matrix(name, rows, (1, 1) if filters else ())
        return self.known[key]

    def new_matrix(self, name: str, rows: Slab | None, ones: tuple[int, ...]) -> Value:
        n, k = self.spec.shape(name)
        grid, weights = self.grid(name), self.weights
        first, last = rows or (0, n)
        count = last - first
        path = path_of(name) + (f"_rows_{first}" if rows else "")
        later: list[list[NDArray[Any]]] = []  # scales or palettes, emptied as they are written
        beside = functools.partial(following, later)
        if isinstance(grid, Dense):
            kind = BUILTIN[grid.dtype]
            weights.add(name, Tensor(kind, n, k, lambda: self.plain(name, grid)))
            return self.constant(path, (name, rows), kind, (count, k, *ones))
        if isinstance(grid, Palette):
            kind, values = f"uint{grid.bits}", 1 << grid.bits
            palettes = f"{name}.palettes"
            weights.add(name, Tensor(kind, n, k, lambda: self.codes(name, grid, later)))
            weights.add(palettes, Tensor(BUILTIN[grid.dtype], n // PALETTE_ROWS, values, beside))
            some = rows and (first // PALETTE_ROWS, last // PALETTE_ROWS)
            table = (count // PALETTE_ROWS, 1, *ones, values, 1)
            return mb.constexpr_lut_to_dense(
                indices=self.constant(f"{path}_indices", (name, rows), kind, (count, k, *ones)),
                lut=self.constant(f"{path}_palettes", (palettes, some), BUILTIN[grid.dtype], table),
                name=path,
            )
        assert isinstance(grid, SignedBlocks)
        parts = {"scale": BUILTIN[grid.dtype]} | ({"offset": grid.integer} if grid.zeros else {})
        weights.add(name, Tensor(grid.integer, n, k, lambda: self.codes(name, grid, later)))
        given = {"data": self.constant(f"{path}_codes", (name, rows), grid.integer, (count, k, *ones))}
        for part, kind in parts.items():
            weights.add(f"{name}.{part}", Tensor(kind, n, grid.groups(k), beside))
            shape = (count, grid.groups(k), *ones)
            given[part] = self.constant(f"{path}_{part}", (f"{name}.{part}", rows), kind, shape)
        return mb.constexpr_blockwise_shift_scale(**given, name=path)

    def grid(self, name: str) -> Grid:
        n, k = self.spec.shape(name)
        plain = Dense(self.scheme.type)
        if name.rsplit(".", 1)[-1] not in QUANTIZED:
            return plain
        grid = self.model.grid(name, self.scheme.grid(n))
        return plain if grid.group and k % grid.group else grid

    def constant(self, path: str, place: tuple[str, Slab | None], kind: str, shape: tuple[int, ...]) -> Value:
        """A constant of that shape whose values are some rows of a tensor of the file."""
        dtype = types.nptype_from_builtin(types.string_to_builtin(kind))
        value = mb.const(val=np.broadcast_to(np.zeros((), dtype), shape), name=path)
        value.op.weight_id = str(self.weights.record(*place))
        return value

    def plain(self, name: str, grid: Dense) -> Iterator[NDArray[Any]]:
        slabs = row_slabs(*self.spec.shape(name))
        return in_order(lambda slab: narrowed(self.rows(name, slab), grid.dtype), slabs)

    def codes(self, name: str, grid: Grid, later: list[list[NDArray[Any]]]) -> Iterator[NDArray[Any]]:
        """A matrix's codes; what belongs to them goes into `later`."""
        n, k = self.spec.shape(name)
        step = max(1, SLAB_WEIGHTS // (PALETTE_ROWS * k)) * PALETTE_ROWS
        slabs = [(first, min(first + step, n)) for first in range(0, n, step)]
        for codes, *beside in in_order(lambda slab: grid.pack(self.model.fitted(name, grid, slab)), slabs):
            later.append(beside)
            yield codes

    def rows(self, name: str, slab: Slab) -> NDArray[np.float32]:
        values = self.model.load(name, slab)
        assert values is not None
        return values


class NeuralEngineDecoder(Decoder):
    channels = 1
    head_axis = 2
    wide = types.fp16

    def __init__(self, model: ConvertInput, scheme: Scheme, cache: Cache, layers: Slab | None = None) -> None:
        super().__init__(model, scheme, cache, layers)
        self.gain = residual_gain(self.spec)

    def residual_shape(self) -> tuple[int, ...]:
        return (1, self.spec.d_model, 1, self.tokens)

    def mask_shape(self, slots: int) -> tuple[int, ...]:
        return (1, slots, 1, self.tokens)

    def angles_shape(self, half: int) -> tuple[int, ...]:
        return (1, 1, half, self.tokens)

    def linear(self, x: Value, name: str) -> Value:
        bias = {"bias": self.vector(f"{name}_bias")} if f"{name}_bias" in self.model.tensors else {}
        return mb.conv(x=x, weight=self.matrix(name, filters=True), **bias)

    def head(self, x: Value) -> Value:
        name, n = "embed" if self.spec.tied else "head", self.spec.vocab_size
        bias = self.values("head_bias") if "head_bias" in self.model.tensors else None
        parts = []
        for first in range(0, n, HEAD_ROWS):
            last = min(first + HEAD_ROWS, n)
            some = f"head_bias_rows_{first}"
            given = {} if bias is None else {"bias": self.small(some, bias[first:last], self.type)}
            matrix = self.matrix(name, (first, last), filters=True)
            rows = mb.reshape(x=mb.conv(x=x, weight=matrix, **given), shape=[1, 1, last - first, self.tokens])
            # The token that is wanted, as a row.
            parts.append(self.finished(mb.matmul(x=self.inputs["select"], y=rows, transpose_y=True)))
        if n % ALIGNED:
            parts.append(mb.const(val=np.full((1, 1, 1, -n % ALIGNED), HIDDEN, np.float16)))
        if len(parts) == 1:
            return mb.identity(x=parts[0], name="logits")
        return mb.concat(values=parts, axis=3, name="logits")

    def split_heads(self, x: Value, path: str, heads: int, head_dim: int) -> Value:
        """-> `[1, heads, head_dim, tokens]`"""
        return mb.reshape(x=x, shape=[1, heads, head_dim, self.tokens])

    def head_columns(self, x: Value) -> Value:
        return mb.reshape(x=x, shape=[1, x.shape[1] * x.shape[2], 1, self.tokens])

    def mixed(self, q: Value, far: Value | None, keys: Value, values: Value, ring: Ring) -> Value:
        """Key by key: the queries that share one lie side by side, so that it is read once."""
        group = q.shape[1] // keys.shape[1]
        near, split_keys, split_values = self.beside(q, group), self.each(keys), self.each(values)
        distant = [None] * len(near) if far is None else self.beside(far, group)
        heads = [
            head
            for each in zip(near, distant, split_keys, split_values, strict=True)
            for head in self.apart(self.mixed_head(*each, ring), group)
        ]
        dim = values.shape[2]
        columns = [mb.reshape(x=head, shape=[1, dim, 1, self.tokens]) for head in heads]
        return mb.concat(values=columns, axis=1) if len(columns) > 1 else columns[0]

    def beside(self, x: Value, group: int) -> list[Value]:
        """`[1, 1, head_dim, group * tokens]` for each group of heads."""
        heads = self.each(x)
        groups = [heads[first : first + group] for first in range(0, len(heads), group)]
        return [mb.concat(values=each, axis=3) if group > 1 else each[0] for each in groups]

    def apart(self, x: Value, group: int) -> list[Value]:
        """Inverse of `beside`, of one group."""
        return list(mb.split(x=x, num_splits=group, axis=3)) if group > 1 else [x]

    def mixed_head(self, q: Value, far: Value | None, keys: Value, values: Value, ring: Ring) -> Value:
        """What the queries `[1, 1, head_dim, n]` see, in the same shape."""
        slots, queries = keys.shape[3], q.shape[3]
        scores = mb.matmul(x=keys, y=q, transpose_x=True)  # [1, 1, slots, n]
        if far is not None:
            some = min(-(-ring.sinks // ALIGNED) * ALIGNED, slots)
            sinks = mb.matmul(x=self.part(keys, 3, 0, some), y=far, transpose_x=True)
            near = self.part(scores, 2, ring.sinks, slots)
            scores = mb.concat(values=[self.part(sinks, 2, 0, ring.sinks), near], axis=2)
        weights = self.softmax(mb.reshape(x=scores, shape=[1, slots, 1, queries]), ring, 1)
        return mb.matmul(x=values, y=mb.reshape(x=weights, shape=[1, 1, slots, queries]))

    def mask(self, ring: Ring, last: int) -> Value:
        kind, group = self.rings.index(ring), last // self.tokens
        if group > 1 and ("mask", kind, group) not in self.known:
            mask = [self.inputs[f"mask_{kind}"]] * group
            self.known["mask", kind, group] = mb.concat(values=mask, axis=3)
        return self.known["mask", kind, group] if group > 1 else self.inputs[f"mask_{kind}"]

    def each(self, x: Value) -> list[Value]:
        """The heads one by one."""
        return list(mb.split(x=x, num_splits=x.shape[1], axis=1)) if x.shape[1] > 1 else [x]

    def channels_first(self, x: Value) -> Value:
        return x

    def channels_back(self, x: Value) -> Value:
        return x

    def along(self, axis: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values.reshape(-1, *[1] * (3 - axis))

    def rms_normalized(self, x: Value, axis: int, epsilon: Any) -> Value:
        """As a layer norm of the numbers and their negatives, whose mean is 0: the Neural Engine has that
        operator, and squares in it do not overflow.
        """
        both = mb.concat(values=[x, mb.mul(x=x, y=np.float16(-1))], axis=axis)
        y = mb.layer_norm(x=both, axes=[axis], epsilon=epsilon)
        return self.part(y, axis, 0, x.shape[axis])


def path_of(name: str) -> str:
    """A tensor of the spec, as the program calls it."""
    return name.replace(".", "_")


def residual_gain(spec: ModelSpec) -> float:
    """Families that scale their embeddings up (Gemma) have residuals that outgrow float16."""
    return 2.0 ** -max(0, round(math.log2(spec.embed_scale)))


def following(later: list[list[NDArray[Any]]]) -> Iterator[NDArray[Any]]:
    return (parts.pop(0) for parts in later)
