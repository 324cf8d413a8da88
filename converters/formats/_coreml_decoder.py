"""A spec as functions of an ML Program (iOS 18, macOS 15), through coremltools' builder.

    input_ids      int32 [1, tokens]
    cos_R, sin_R                 [1, 1, tokens, dim / 2]     angles of rope R at the tokens' positions
    sink_cos_R, sink_sin_R                                   at the positions from which they see the sinks
    mask_K         [1, 1, tokens, slots]                     0 or a large negative number, for rings of kind K
    write_K        float16 [1, 1, slots, tokens]             1 where a token goes into a slot
    slot_K         int32 [1]                                 the same for one token on a GPU
    select         [1, 1, tokens]                            1 for the token whose logits are wanted
    conv_tail      [1, 1, kernel - 1 + tokens, kernel - 1]   1 for the inputs that a convolution keeps
    key_cache_N, value_cache_N   state, float16 [1, n_kv_heads, slots, head_dim]
    conv_cache_N                 state, float16 [1, d_model, 1, kernel - 1]
    logits         [1, vocab_size]

`Decoder` is laid out for GPUs: `[1, tokens, d_model]`, linear layers, the residual in float32.
`NeuralEngineDecoder` is laid out for the Neural Engine: `[1, d_model, 1, tokens]`, 1x1 convolutions, float16
throughout, an output matrix in chunks. Constants are only shapes while the program is built; `WeightFile`
streams their values.
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
from edgekit.converters.formats._coreml_session import Cache, Ring
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

Value = Any  # a coremltools Var
Slab = tuple[int, int]


class Decoder(decoder.Decoder[Value]):
    """Builds functions; each primitive appends operations and returns the value they give."""

    channels = -1  # axis of d_model
    wide = types.fp32  # of the residual and the norms
    gain = 1.0  # on the residual, a power of 2 that no norm lets through

    def __init__(self, model: ConvertInput, scheme: Scheme, cache: Cache) -> None:
        self.model = model
        self.spec = model.spec
        self.scheme = scheme
        self.cache = cache
        self.rings = cache.rings(model.spec)
        self.weights = WeightFile()
        self.type = types.fp16 if scheme.type == "F16" else types.fp32
        if len({layer.conv_kernel for layer in self.spec.layers if layer.mixer == "conv"}) > 1:
            raise UnsupportedModel(
                "the short convolutions of this model differ in length, Core ML output takes one"
            )

    def function(self, tokens: int) -> Any:
        """The program of a step of so many tokens."""
        spec = self.spec
        self.tokens = tokens
        self.known: dict[Any, Value] = {}
        function = Function(self.placeholders(), opset_version=TARGET)
        self.inputs = function.inputs
        with function:
            x = self.blocks(self.scaled(self.widened(self.embed()), spec.embed_scale * self.gain))
            if tokens > 1:
                x = self.selected(x)
            logits = self.head(self.norm(x, "final_norm"))
            function.set_outputs([mb.reshape(x=logits, shape=[1, spec.vocab_size], name="logits")])
        return function

    def placeholders(self) -> dict[str, Any]:
        spec, tokens = self.spec, self.tokens
        given: dict[str, Any] = {"input_ids": Placeholder((1, tokens), dtype=types.int32)}
        states: dict[str, Any] = {}

        def take(name: str, shape: tuple[int, ...], dtype: Any = None) -> None:
            given[name] = Placeholder(shape, dtype=dtype or self.type)

        for index, layer in enumerate(spec.layers):
            if layer.mixer == "conv":
                shape: tuple[int, ...] = (1, spec.d_model, 1, layer.conv_kernel - 1)
                take("conv_tail", (1, 1, layer.conv_kernel - 1 + tokens, layer.conv_kernel - 1))
                states[f"conv_cache_{index}"] = StateTensorPlaceholder(shape, dtype=types.fp16)
                continue
            ring = self.cache.ring(layer)
            kind = self.rings.index(ring)
            take(f"mask_{kind}", (1, 1, tokens, ring.slots))
            if self.writes_slices():
                take(f"slot_{kind}", (1,), types.int32)
            else:
                take(f"write_{kind}", (1, 1, ring.slots, tokens), types.fp16)
            if layer.rope is not None:
                half = spec.ropes[layer.rope].dim // 2
                for prefix in ("", "sink_") if ring.sinks else ("",):
                    for part in ("cos", "sin"):
                        take(f"{prefix}{part}_{layer.rope}", (1, 1, tokens, half))
            shape = (1, layer.n_kv_heads, ring.slots, layer.head_dim)
            for part in ("key", "value"):
                states[f"{part}_cache_{index}"] = StateTensorPlaceholder(shape, dtype=types.fp16)
        if tokens > 1:
            take("select", (1, 1, tokens))
        return given | states

    def writes_slices(self) -> bool:
        """Whether new keys replace a slice of the cache, rather than being added where there is a zero."""
        return self.tokens == 1

    def addend(self, x: Value, norm: str) -> Value:
        """What a part of a layer adds to the residual; its norm, if there is one, does the scaling."""
        factor = self.spec.residual_scale * self.gain
        if norm in self.model.tensors:
            return self.widened(self.norm(x, norm, factor))
        return self.scaled(self.widened(x), factor)

    # ---- layout

    def embed(self) -> Value:
        return mb.gather(x=self.matrix("embed"), indices=self.inputs["input_ids"], axis=0)

    def linear(self, x: Value, name: str) -> Value:
        bias = {"bias": self.vector(f"{name}_bias")} if f"{name}_bias" in self.model.tensors else {}
        return mb.linear(x=self.narrowed(x), weight=self.matrix(name), **bias)

    def head(self, x: Value) -> Value:
        bias = {"bias": self.vector("head_bias")} if "head_bias" in self.model.tensors else {}
        matrix = self.matrix("embed" if self.spec.tied else "head")
        return self.finished(mb.linear(x=self.narrowed(x), weight=matrix, **bias))

    def selected(self, x: Value) -> Value:
        """The token whose logits are wanted."""
        return mb.matmul(x=self.cast(self.inputs["select"], x.dtype), y=x)

    def split_heads(self, x: Value, path: str, heads: int, head_dim: int) -> Value:
        """-> `[1, heads, tokens, head_dim]`"""
        apart = mb.reshape(x=self.narrowed(x), shape=[1, self.tokens, heads, head_dim])
        return mb.transpose(x=apart, perm=[0, 2, 1, 3])

    def joined_heads(self, x: Value) -> Value:
        """Inverse of `split_heads`."""
        size = x.shape[1] * x.shape[3]
        return mb.reshape(x=mb.transpose(x=x, perm=[0, 2, 1, 3]), shape=[1, self.tokens, size])

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
        kind, weight = self.spec.norm, self.values(name)
        if self.spec.qk_norm == "layer_per_head":
            kind, weight = "layer", weight[None, :, None]  # [1, heads, 1, head_dim]
        return self.narrowed(self.normalized(x, name, weight, kind, -1))

    def attend(self, q: Value, k: Value, v: Value, at: str, layer: Layer) -> Value:
        spec, index, ring = self.spec, decoder.number(at), self.cache.ring(layer)
        heads, kv_heads, dim = layer.n_heads, layer.n_kv_heads, layer.head_dim
        q = self.scaled(q, spec.attn_scale)
        keys = self.stored(f"key_cache_{index}", self.rotated(k, layer), ring)
        values = self.stored(f"value_cache_{index}", v, ring)
        scores = self.scores(self.rotated(q, layer), keys)
        if ring.sinks and layer.rope is not None:
            sinks = self.part(keys, 2, 0, ring.sinks)
            far = self.scores(self.rotated(q, layer, "sink_"), sinks)
            scores = mb.concat(values=[far, self.part(scores, 3, ring.sinks, ring.slots)], axis=-1)
        scores = self.softcap(scores, spec.attn_softcap)
        weights = mb.softmax(x=mb.add(x=scores, y=self.inputs[f"mask_{self.rings.index(ring)}"]), axis=-1)
        grouped = mb.reshape(x=weights, shape=[1, kv_heads, heads // kv_heads * self.tokens, ring.slots])
        mixed = mb.reshape(x=mb.matmul(x=grouped, y=values), shape=[1, heads, self.tokens, dim])
        return self.joined_heads(mixed)

    def scores(self, q: Value, keys: Value) -> Value:
        """`[1, heads, tokens, slots]`; the heads of a group share their keys."""
        _, heads, tokens, dim = q.shape
        kv_heads, slots = keys.shape[1:3]
        grouped = mb.reshape(x=q, shape=[1, kv_heads, heads // kv_heads * tokens, dim])
        scores = mb.matmul(x=grouped, y=keys, transpose_y=True)
        return mb.reshape(x=scores, shape=[1, heads, tokens, slots])

    def rotated(self, x: Value, layer: Layer, prefix: str = "") -> Value:
        """`[1, heads, tokens, head_dim]`, the first numbers of each head rotated."""
        if layer.rope is None:
            return x
        dim = self.spec.ropes[layer.rope].dim
        cos, sin = (self.inputs[f"{prefix}{part}_{layer.rope}"] for part in ("cos", "sin"))
        sizes = [dim // 2, dim // 2, *([layer.head_dim - dim] if layer.head_dim > dim else [])]
        a, b, *rest = mb.split(x=x, split_sizes=sizes, axis=-1)
        first = mb.sub(x=mb.mul(x=a, y=cos), y=mb.mul(x=b, y=sin))
        second = mb.add(x=mb.mul(x=b, y=cos), y=mb.mul(x=a, y=sin))
        return mb.concat(values=[first, second, *rest], axis=-1)

    def stored(self, name: str, new: Value, ring: Ring) -> Value:
        """The cache with this step's `new` `[1, n_kv_heads, tokens, head_dim]` in it."""
        state, kind = self.inputs[name], self.rings.index(ring)
        new = self.cast(new, types.fp16)
        if self.writes_slices():
            begin, end = self.bounds(kind)
            mask = [True, True, False, True]
            # Read, updated and written in a row, which Core ML does in place.
            old = mb.read_state(input=state)
            whole = mb.slice_update(x=old, update=new, begin=begin, end=end, begin_mask=mask, end_mask=mask)
        else:
            write, kept = self.inputs[f"write_{kind}"], self.kept(kind)
            placed = mb.mul(x=write, y=new) if self.tokens == 1 else mb.matmul(x=write, y=new)
            whole = mb.add(x=mb.mul(x=mb.read_state(input=state), y=kept), y=placed)
        return self.cast(mb.coreml_update_state(state=state, value=whole), self.type)

    def bounds(self, kind: int) -> tuple[Value, Value]:
        """The slice of a slot."""
        if ("bounds", kind) not in self.known:
            slot, zero = self.inputs[f"slot_{kind}"], np.zeros(1, np.int32)
            next_slot = mb.add(x=slot, y=np.int32(1))
            self.known["bounds", kind] = tuple(
                mb.concat(values=[zero, zero, at, zero], axis=0) for at in (slot, next_slot)
            )
        return self.known["bounds", kind]

    def kept(self, kind: int) -> Value:
        """0 for slots that are written, else 1; `[1, 1, slots, 1]`."""
        if ("kept", kind) not in self.known:
            written = mb.reduce_sum(x=self.inputs[f"write_{kind}"], axes=[-1], keep_dims=True)
            self.known["kept", kind] = mb.sub(x=np.float16(1), y=written)
        return self.known["kept", kind]

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
        mixed = mb.conv(x=self.cast(padded, self.type), weight=taps, groups=d, pad_type="valid", **bias)
        return self.channels_back(mixed)

    def activate(self, x: Value, path: str) -> Value:
        kind = self.spec.activation
        if kind == "silu":
            return mb.silu(x=x)
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
    wide = types.fp16

    def __init__(self, model: ConvertInput, scheme: Scheme, cache: Cache) -> None:
        super().__init__(model, scheme, cache)
        self.gain = residual_gain(self.spec)

    def writes_slices(self) -> bool:
        return False

    def embed(self) -> Value:
        return super().channels_first(super().embed())

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
            parts.append(self.finished(mb.conv(x=x, weight=matrix, **given)))
        return mb.concat(values=parts, axis=1) if len(parts) > 1 else parts[0]

    def selected(self, x: Value) -> Value:
        return mb.matmul(x=x, y=mb.expand_dims(x=self.inputs["select"], axes=[1]), transpose_y=True)

    def split_heads(self, x: Value, path: str, heads: int, head_dim: int) -> Value:
        apart = mb.reshape(x=self.narrowed(x), shape=[1, heads, head_dim, self.tokens])
        return mb.transpose(x=apart, perm=[0, 1, 3, 2])

    def joined_heads(self, x: Value) -> Value:
        size = x.shape[1] * x.shape[3]
        return mb.reshape(x=mb.transpose(x=x, perm=[0, 1, 3, 2]), shape=[1, size, 1, self.tokens])

    def channels_first(self, x: Value) -> Value:
        return x

    def channels_back(self, x: Value) -> Value:
        return x

    def along(self, axis: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values.reshape(-1, 1, 1) if axis == 1 else values

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
