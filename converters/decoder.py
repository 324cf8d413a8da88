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

Value = TypeVar("Value")

SWIGLU_SLOPE, SWIGLU_LIMIT = 1.702, 7.0  # of swiglu_oai


class Decoder(ABC, Generic[Value]):
    """`name` is a tensor's name in the spec, `at` a layer's ("layers.3"), `path` what a result is called."""

    spec: ModelSpec

    # ---- the forward pass

    def blocks(self, x: Value) -> Value:
        """The residual after all layers."""
        for index, layer in enumerate(self.spec.layers):
            x = self.block(x, f"layers.{index}", layer)
        return x

    def block(self, x: Value, at: str, layer: Layer) -> Value:
        normed = self.norm(x, f"{at}.attn_norm")
        mix = self.attention if layer.mixer == "attention" else self.conv
        mixed = self.addend(mix(normed, at, layer), f"{at}.attn_post_norm")
        if not layer.parallel:
            x = self.add(x, mixed, f"{at}.residual")
            normed = self.norm(x, f"{at}.ffn_norm")
        fed = self.experts(normed, at, layer) if layer.n_experts else self.feed_forward(normed, at)
        x = self.add(x, self.addend(fed, f"{at}.ffn_post_norm"), f"{at}.out")
        return self.add(x, mixed, f"{at}.out") if layer.parallel else x

    def addend(self, x: Value, norm: str) -> Value:
        """What a part of a layer adds to the residual."""
        return self.scaled(self.norm(x, norm), self.spec.residual_scale, f"{norm}.scaled")

    def attention(self, x: Value, at: str, layer: Layer) -> Value:
        q = self.heads(x, f"{at}.q", layer.n_heads, layer.head_dim)
        k = self.heads(x, f"{at}.k", layer.n_kv_heads, layer.head_dim)
        v = self.split_heads(self.linear(x, f"{at}.v"), f"{at}.v", layer.n_kv_heads, layer.head_dim)
        mixed = self.attend(q, k, v, at, layer)
        if self.spec.attn_gate != "none":
            mixed = self.gate(mixed, self.linear(x, f"{at}.attn_gate"), f"{at}.attn_gate", layer)
        return self.linear(self.norm(mixed, f"{at}.o_norm"), f"{at}.o")

    def heads(self, x: Value, name: str, heads: int, head_dim: int) -> Value:
        """Queries or keys with their norm, as `split_heads` shapes them."""
        x, norm = self.linear(x, name), f"{name}_norm"
        if self.spec.qk_norm == "full":
            x = self.norm(x, norm)
        x = self.split_heads(x, name, heads, head_dim)
        return self.head_norm(x, norm) if self.spec.qk_norm in ("head", "layer_per_head") else x

    def conv(self, x: Value, at: str, layer: Layer) -> Value:
        """Gated short convolution (LFM2)."""
        b, c, inner = self.thirds(self.linear(x, f"{at}.conv_in"), f"{at}.split")
        mixed = self.convolve(self.multiply(b, inner, f"{at}.gated"), at, layer)
        return self.linear(self.multiply(c, mixed, f"{at}.chosen"), f"{at}.conv_out")

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

    def experts(self, x: Value, at: str, layer: Layer) -> Value:
        """Every expert's answer times its weight, 0 where it was not chosen."""
        weights = self.route(self.linear(x, f"{at}.router"), at, layer)
        fed = (self.expert(x, f"{at}.experts.{i}", weight) for i, weight in enumerate(weights))
        return self.total(fed, f"{at}.experts")

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
        that is "head_after_rope").
        """

    @abstractmethod
    def split_heads(self, x: Value, path: str, heads: int, head_dim: int) -> Value:
        """`heads * head_dim` channels apart, in the shape that `attend` takes."""

    @abstractmethod
    def attend(self, q: Value, k: Value, v: Value, at: str, layer: Layer) -> Value:
        """Rotated by position, put into the cache, attended to; the heads joined to channels again."""

    @abstractmethod
    def thirds(self, x: Value, path: str) -> Sequence[Value]:
        """Three equal parts of the channels."""

    @abstractmethod
    def convolve(self, x: Value, at: str, layer: Layer) -> Value:
        """Causal, depthwise, over the layer's last inputs, with the taps `{at}.conv`."""

    @abstractmethod
    def activate(self, x: Value, path: str) -> Value:
        """The spec's activation, of `{at}.gate` or `{at}.up`."""

    @abstractmethod
    def route(self, logits: Value, at: str, layer: Layer) -> Sequence[Value]:
        """A weight for each expert: the router's softmax, of those `Moe.top_k` chooses, else 0."""

    @abstractmethod
    def add(self, a: Value, b: Value, path: str) -> Value: ...

    @abstractmethod
    def multiply(self, a: Value, b: Value, path: str) -> Value: ...

    @abstractmethod
    def total(self, values: Iterable[Value], path: str) -> Value: ...

    @abstractmethod
    def scaled(self, x: Value, factor: float, path: str) -> Value: ...

    @abstractmethod
    def softcap(self, x: Value, cap: float, path: str) -> Value:
        """`cap * tanh(x / cap)`; `x` itself when `cap` is 0."""

    # ---- primitives of few families, which a target may lack

    def gate(self, x: Value, gate: Value, path: str, layer: Layer) -> Value:
        """What `attend` gave, times the sigmoid of a gate for each head or each channel."""
        raise UnsupportedModel(f"this output has no gates on attention, which {path} is")

    def raised(self, x: Value, path: str) -> Value:
        """swiglu_oai's up part: bounded by ±SWIGLU_LIMIT, plus 1."""
        raise UnsupportedModel(f"this output has no activation swiglu_oai, which {path} has")


def number(at: str) -> int:
    """A layer's, of "layers.3"."""
    return int(at.rpartition(".")[2])
