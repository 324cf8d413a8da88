"""The forward pass of a ModelSpec, written once, over primitives that an interpreter defines.

What a primitive is, its interpreter says: numpy and torch compute it (`interpreters/numpy.py`, `torch.py`),
ONNX and Core ML append it to a graph (`formats/_onnx_decoder.py`, `_onnx_ring.py`, `_coreml_decoder.py`). A
kind of layer is a method here and the primitives it needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from edgekit.converters.spec import Layer, ModelSpec
from edgekit.errors import UnsupportedModel

RECURRENT = "the model has recurrent layers, which this output cannot express: use --format edge"

Value = TypeVar("Value")

FASTEST_DECAY, LEAST_LENGTH = -0.606531, 1e-7  # of Rwkv
SWIGLU_SLOPE, SWIGLU_LIMIT = 1.702, 7.0  # of swiglu_oai


class Decoder(ABC, Generic[Value]):
    """`name` is a tensor's name in the spec, `at` a layer's ("layers.3"), `path` what a result is called."""

    spec: ModelSpec
    keys_values: dict[int, tuple[Value, Value]]  # of layers so far, not yet rotated
    ple_inputs: Sequence[Value]  # of `layer_inputs`
    # what a mixer read and gave that stands beside the next layer's
    waiting: tuple[Value, Value] | None = None

    # ---- the forward pass

    def blocks(self, x: Value, rows: Value | None = None) -> Value:
        """The residual after all layers; `x` is the first one's input, `rows` the tokens' of `ple_embed`."""
        self.keys_values, self.waiting = {}, None
        self.ple_inputs = [] if rows is None else self.layer_inputs(x, rows)
        for index, layer in enumerate(self.spec.layers):
            x = self.block(x, f"layers.{index}", layer)
        return x

    def layer_inputs(self, x: Value, rows: Value) -> Sequence[Value]:
        """What each layer's `ple_gate` lets through."""
        ple, count = self.spec.ple, len(self.spec.layers)
        assert ple is not None
        projected = self.scaled(self.linear(x, "ple_proj"), ple.proj_scale, "ple.projected")
        near = self.parts(projected, count, "ple.near")
        known = self.parts(self.scaled(rows, ple.embed_scale, "ple.rows"), count, "ple.known")
        return [
            self.scaled(self.add(self.norm(a, "ple_norm"), b, "ple.sum"), ple.scale, "ple.input")
            for a, b in zip(near, known, strict=True)
        ]

    def block(self, x: Value, at: str, layer: Layer) -> Value:
        normed = self.waiting[0] if self.waiting else self.norm(x, f"{at}.attn_norm")
        mix = {
            "attention": self.attention,
            "conv": self.conv,
            "recurrent": self.recurrent,
            "rwkv_time": self.rwkv_time,
            "rwkv_channels": self.rwkv_channels,
            "latent": self.latent,
        }[layer.mixer]
        mixed = self.addend(mix(normed, at, layer), f"{at}.attn_post_norm")
        if self.waiting is not None:
            x, self.waiting = self.add(x, self.waiting[1], f"{at}.beside"), None
        if layer.beside:
            self.waiting = normed, mixed
            return x
        if not layer.parallel:
            x = self.add(x, mixed, f"{at}.residual")
            if not layer.d_ff:
                return x
            normed = self.norm(x, f"{at}.ffn_norm")
        fed = self.experts(x, normed, at, layer) if layer.n_experts else self.feed_forward(normed, at)
        x = self.add(x, self.addend(fed, f"{at}.ffn_post_norm"), f"{at}.out")
        if layer.parallel:
            x = self.add(x, mixed, f"{at}.out")
        if self.spec.ple:
            x = self.add(x, self.addend(self.let_through(x, at), f"{at}.ple_post_norm"), f"{at}.ple")
        return self.times(x, f"{at}.scalar")

    def let_through(self, x: Value, at: str) -> Value:
        """Of the layer's input from the per-layer embeddings, what its gate leaves."""
        gate = self.activate(self.linear(x, f"{at}.ple_gate"), f"{at}.ple_gate")
        left = self.multiply(gate, self.ple_inputs[number(at)], f"{at}.ple_gated")
        return self.linear(left, f"{at}.ple_out")

    def addend(self, x: Value, norm: str) -> Value:
        """What a part of a layer adds to the residual."""
        return self.scaled(self.norm(x, norm), self.spec.residual_scale, f"{norm}.scaled")

    def attention(self, x: Value, at: str, layer: Layer) -> Value:
        q = self.heads(self.linear(x, f"{at}.q"), f"{at}.q", layer.n_heads, layer.head_dim)
        if layer.kv_layer is None:
            self.keys_values[number(at)] = self.own_keys_values(x, at, layer)
        k, v = self.keys_values[number(at) if layer.kv_layer is None else layer.kv_layer]
        mixed = self.attend(q, k, v, at, layer)
        if self.spec.attn_gate != "none":
            mixed = self.gate(mixed, self.linear(x, f"{at}.attn_gate"), f"{at}.attn_gate", layer)
        return self.linear(self.norm(mixed, f"{at}.o_norm"), f"{at}.o")

    def own_keys_values(self, x: Value, at: str, layer: Layer) -> tuple[Value, Value]:
        k = self.linear(x, f"{at}.k")
        v = k if layer.k_eq_v else self.linear(x, f"{at}.v")
        k = self.heads(k, f"{at}.k", layer.n_kv_heads, layer.head_dim)
        return k, self.heads(v, f"{at}.v", layer.n_kv_heads, layer.head_dim)

    def heads(self, x: Value, name: str, heads: int, head_dim: int) -> Value:
        """Queries, keys or values, as `name` gives them, with their norm, as `split_heads` shapes them."""
        kind, norm = self.norm_of_heads(name), f"{name}_norm"
        if kind == "full":
            x = self.norm(x, norm)
        x = self.split_heads(x, name, heads, head_dim)
        return self.head_norm(x, norm) if kind in ("head", "layer_per_head") else x

    def norm_of_heads(self, name: str) -> str:
        """Of those that the matrix `name` gives: in the words of `ModelSpec.qk_norm`."""
        if name.endswith(".v"):
            return "head" if self.spec.v_norm else "none"
        return self.spec.qk_norm

    def latent(self, x: Value, at: str, layer: Layer) -> Value:
        """Attention whose heads all read one latent: see Latent."""
        of, heads = layer.latent, range(layer.n_heads)
        assert of is not None
        rank, read = layer.head_dim - of.rope_dim, x
        if of.q_rank:
            read = self.latent_norm(self.linear(x, f"{at}.q_down"), f"{at}.q_down_norm", of.norm_eps)
        apart = self.parts(self.linear(read, f"{at}.q"), layer.n_heads, f"{at}.q")
        q = self.joined([self.linear(apart[i], f"{at}.heads.{i}.k_up") for i in heads], f"{at}.q_latent")
        q_rope = self.linear(read, f"{at}.q_rope")
        q_rope = self.split_heads(q_rope, f"{at}.q_rope", layer.n_heads, of.rope_dim)
        q = self.joined([q_rope, self.split_heads(q, f"{at}.q_latent", layer.n_heads, rank)], f"{at}.q_all")
        found = self.latent_norm(self.linear(x, f"{at}.latent"), f"{at}.latent_norm", of.norm_eps)
        found = self.split_heads(found, f"{at}.latent", 1, rank)
        k_rope = self.split_heads(self.linear(x, f"{at}.k_rope"), f"{at}.k_rope", 1, of.rope_dim)
        k = self.joined([k_rope, found], f"{at}.k_all")
        weighed = self.parts(self.attend(q, k, found, at, layer), layer.n_heads, f"{at}.weighed")
        values = self.joined([self.linear(weighed[i], f"{at}.heads.{i}.v_up") for i in heads], f"{at}.values")
        return self.linear(values, f"{at}.o")

    def conv(self, x: Value, at: str, layer: Layer) -> Value:
        """Gated short convolution (LFM2)."""
        b, c, inner = self.parts(self.linear(x, f"{at}.conv_in"), 3, f"{at}.split")
        mixed = self.convolve(self.multiply(b, inner, f"{at}.gated"), at, layer)
        return self.linear(self.multiply(c, mixed, f"{at}.chosen"), f"{at}.conv_out")

    def recurrent(self, x: Value, at: str, layer: Layer) -> Value:
        """A state per head in place of a cache: see Recurrence."""
        of = layer.recurrence
        assert of is not None
        q, k, v = (self.linear(x, f"{at}.state_{part}") for part in "qkv")
        dt = self.linear(x, f"{at}.state_dt")
        beta = self.linear(x, f"{at}.state_beta") if of.delta else None
        out = self.recur(q, k, v, dt, beta, at, layer)
        return self.linear(self.gated_norm(out, self.linear(x, f"{at}.state_z"), at, layer), f"{at}.state_o")

    def rwkv_time(self, x: Value, at: str, layer: Layer) -> Value:
        """See Rwkv."""
        r, w, k, v, a, g = self.shifted(x, f"{at}.rwkv_mix")

        def low_rank(x: Value, part: str, bend: str = "") -> Value:
            down = self.linear(x, f"{at}.rwkv_{part}_down")
            return self.linear(self.bent(down, bend) if bend else down, f"{at}.rwkv_{part}_up")

        share = low_rank(v, "u") if layer.rwkv and layer.rwkv.value_rank else None
        r, k, v = (self.linear(x, f"{at}.rwkv_{part}") for part, x in (("r", r), ("k", k), ("v", v)))
        decay, rate, gate = low_rank(w, "w", "tanh"), low_rank(a, "a"), low_rank(g, "g", "sigmoid")
        out = self.fade(r, k, v, decay, rate, share, gate, at, layer)
        return self.linear(out, f"{at}.rwkv_o")

    def rwkv_channels(self, x: Value, at: str, layer: Layer) -> Value:
        (mixed,) = self.shifted(x, f"{at}.rwkv_mix")
        return self.linear(self.activate(self.linear(mixed, f"{at}.rwkv_up"), f"{at}.up"), f"{at}.rwkv_down")

    def feed_forward(self, x: Value, at: str) -> Value:
        hidden = self.linear(x, f"{at}.up")
        if self.spec.gated:
            gate = self.activate(self.linear(x, f"{at}.gate"), f"{at}.gate")
            if self.spec.activation == "swiglu_oai":
                hidden = self.raised(hidden, f"{at}.up")
            hidden = self.multiply(gate, hidden, f"{at}.gated")
        else:
            hidden = self.activate(hidden, f"{at}.up")
        return self.linear(self.norm(hidden, f"{at}.down_norm"), f"{at}.down")

    def experts(self, x: Value, normed: Value, at: str, layer: Layer) -> Value:
        """Every expert's answer times its weight, 0 where it was not chosen, and the shared one's."""
        moe, read, routed = self.spec.moe, normed, normed
        assert moe is not None
        if moe.own_norms:
            read, routed = self.norm(x, f"{at}.experts_norm"), self.norm(x, f"{at}.router_norm")
        weights = self.route(self.linear(routed, f"{at}.router"), at, layer)
        fed = (self.expert(read, f"{at}.experts.{i}", weight) for i, weight in enumerate(weights))
        mixed = self.norm(self.total(fed, f"{at}.experts"), f"{at}.experts_post_norm")
        if not moe.d_shared:
            return mixed
        shared = self.norm(self.feed_forward(normed, f"{at}.shared"), f"{at}.shared_post_norm")
        if moe.shared_gate:
            shared = self.gate(shared, self.linear(normed, f"{at}.shared_gate"), f"{at}.shared_gate", layer)
        return self.add(mixed, shared, f"{at}.shared")

    def expert(self, x: Value, at: str, weight: Value) -> Value:
        return self.multiply(self.feed_forward(x, at), weight, f"{at}.weighted")

    # ---- primitives

    @abstractmethod
    def linear(self, x: Value, name: str) -> Value:
        """`x` times the transposed matrix `name` `[d_out, d_in]`, plus its bias if there is one."""

    @abstractmethod
    def norm(self, x: Value, name: str) -> Value:
        """The spec's norm over the channels; `x` itself when the model has no norm of that name."""

    @abstractmethod
    def head_norm(self, x: Value, name: str) -> Value:
        """The norm of `ModelSpec.qk_norm` over each head of what `split_heads` gave (once it is rotated, when
        that is "head_after_rope"), without weights where the model has none of that name.
        """

    @abstractmethod
    def split_heads(self, x: Value, path: str, heads: int, head_dim: int) -> Value:
        """`heads * head_dim` channels apart, in the shape that `attend` takes."""

    @abstractmethod
    def attend(self, q: Value, k: Value, v: Value, at: str, layer: Layer) -> Value:
        """Rotated by position, put into the cache, attended to; the heads joined to channels again."""

    @abstractmethod
    def parts(self, x: Value, count: int, path: str) -> Sequence[Value]:
        """Equal parts of the channels."""

    @abstractmethod
    def convolve(self, x: Value, at: str, layer: Layer) -> Value:
        """Causal, depthwise, over the layer's last inputs, with the taps `{at}.conv`."""

    def recur(
        self, q: Value, k: Value, v: Value, dt: Value, beta: Value | None, at: str, layer: Layer
    ) -> Value:
        """What `Recurrence` says up to its gate, the convolution included: `n_heads·value_dim` channels."""
        raise UnsupportedModel(RECURRENT)

    def gated_norm(self, x: Value, z: Value, at: str, layer: Layer) -> Value:
        """Gated by silu(z) and normalised with `{at}.state_scale`, in the order of its Recurrence."""
        raise UnsupportedModel(RECURRENT)

    @abstractmethod
    def activate(self, x: Value, path: str) -> Value:
        """The spec's activation, of `{at}.gate` or `{at}.up`."""

    @abstractmethod
    def route(self, logits: Value, at: str, layer: Layer) -> Sequence[Value]:
        """A weight for each expert, as `Moe` says, of those it chooses; else 0."""

    @abstractmethod
    def add(self, a: Value, b: Value, path: str) -> Value: ...

    @abstractmethod
    def multiply(self, a: Value, b: Value, path: str) -> Value: ...

    @abstractmethod
    def times(self, x: Value, name: str) -> Value:
        """`x` times the tensor `name` of one number; `x` itself when the model has none of that name."""

    @abstractmethod
    def total(self, values: Iterable[Value], path: str) -> Value: ...

    @abstractmethod
    def scaled(self, x: Value, factor: float, path: str) -> Value: ...

    @abstractmethod
    def softcap(self, x: Value, cap: float, path: str) -> Value:
        """`cap * tanh(x / cap)`; `x` itself when `cap` is 0."""

    # ---- primitives of few families, which a target may lack

    def latent_norm(self, x: Value, name: str, eps: float) -> Value:
        """RMS norm over the channels, with an epsilon of its own."""
        raise UnsupportedModel(f"this output has no latent attention, which {name} is of")

    def joined(self, values: Sequence[Value], path: str) -> Value:
        """Channels, or the numbers of each head, one after the other."""
        raise UnsupportedModel(f"this output has no latent attention, which {path} is of")

    def gate(self, x: Value, gate: Value, path: str, layer: Layer) -> Value:
        """`x` times the sigmoid of a gate for each channel, each head, or (of an expert) all of them."""
        raise UnsupportedModel(f"this output has no gates, which {path} is")

    def shifted(self, x: Value, name: str) -> Sequence[Value]:
        """`x`, nearer to the row before for each row of the tensor `name`."""
        raise UnsupportedModel(RECURRENT)

    def bent(self, x: Value, kind: str) -> Value:
        """tanh or sigmoid."""
        raise UnsupportedModel(RECURRENT)

    def fade(
        self, r: Value, k: Value, v: Value, w: Value, a: Value, share: Value | None, gate: Value, at: str,
        layer: Layer,
    ) -> Value:  # fmt: skip
        """What `Rwkv` says of what up gave (`share`: of v), to what `rwkv_o` reads."""
        raise UnsupportedModel(RECURRENT)

    def raised(self, x: Value, path: str) -> Value:
        """swiglu_oai's up part: bounded by ±SWIGLU_LIMIT, plus 1."""
        raise UnsupportedModel(f"this output has no activation swiglu_oai, which {path} has")


def number(at: str) -> int:
    """A layer's, of "layers.3"."""
    return int(at.rpartition(".")[2])
