"""The forward pass of a ModelSpec in plain numpy, float32: the oracle every engine is held against.

It reads weights by name, one matrix at a time, so memory stays a few tensors plus the activations; where the
weights come from (a checkpoint, a package decoded back to float32) is the caller's. Positions count from 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.converters.decoder import FASTEST_DECAY, LEAST_LENGTH, SWIGLU_LIMIT, SWIGLU_SLOPE, Decoder
from edgekit.converters.spec import UNIT_EPS, Layer, ModelSpec, Rope
from edgekit.errors import UsageError

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

HEAD_SLICE_BYTES = 64 << 20  # of the output matrix in memory at once
QUERY_SLICE = 256  # positions whose scores are in memory at once


class Loader(Protocol):
    """The tensor called `name` in the spec, or its rows `[rows[0], rows[1])`; None when there is none."""

    def __call__(self, name: str, rows: tuple[int, int] | None = None) -> Array | None: ...


class Reference(Decoder[Array]):
    """Logits of whole sequences.

    `cache = (sinks, window)` gives the attention of a session whose cache holds that many tokens: a query at
    position p sees the last `window` positions, its own included, and the first `sinks`. It sees the first
    `sinks`, once they are out of the window, as if it stood at `min(p, sinks + window - 1)`, so that no
    distance exceeds the cache. Layers with a window of their own that fits the cache attend as they were
    trained: their window, no sinks. `context` chooses between the short and the long angles of longrope:
    default the length of the sequence.
    """

    def __init__(
        self,
        spec: ModelSpec,
        load: Loader,
        *,
        cache: tuple[int, int] | None = None,
        context: int | None = None,
    ) -> None:
        if cache is not None and (cache[0] < 0 or cache[1] < 1):
            raise UsageError(
                f"cache of {cache[0]} sinks and a window of {cache[1]}; at least 0 and 1 are needed"
            )
        self.spec = spec
        self.load = load
        self.cache = cache
        self.context = context

    def logits(self, ids: Sequence[int]) -> Array:
        """Logits of the token after each one. Shape `[len(ids), vocab_size]`."""
        return self.output(self.hidden(ids))

    def output(self, hidden: Array) -> Array:
        """Logits of what `hidden` gave. Shape `[len(hidden), vocab_size]`."""
        out = np.empty((len(hidden), self.spec.vocab_size), np.float32)
        for begin, part in self.logit_slices(hidden):
            out[:, begin : begin + part.shape[1]] = part
        return out

    def hidden(self, ids: Sequence[int]) -> Array:
        """What the output matrix is applied to. Shape `[len(ids), d_model]`."""
        spec = self.spec
        wrong = [i for i in ids if not 0 <= i < spec.vocab_size]
        if not len(ids) or wrong:
            raise UsageError(
                f"token ids must be from 0 to {spec.vocab_size - 1}, and at least one; got {wrong or 'none'}"
            )
        x = self.norm(self._rows("embed", ids) * np.float32(spec.embed_scale), "embed_norm")
        x = self.blocks(x, self._rows("ple_embed", ids) if spec.ple else None)
        return self.norm(x, "final_norm")

    def logit_slices(self, hidden: Array) -> Iterator[tuple[int, Array]]:
        """Logits in slices of the vocabulary: its first token, and `[len(hidden), slice]`."""
        spec = self.spec
        name = "embed" if spec.tied else "head"
        bias = self.load("head_bias")
        step = max(1, HEAD_SLICE_BYTES // (4 * spec.d_model))
        for begin in range(0, spec.vocab_size, step):
            end = min(begin + step, spec.vocab_size)
            part = hidden @ self._need(name, (begin, end)).T
            if bias is not None:
                part += bias[begin:end]
            part *= np.float32(spec.logit_scale)
            yield begin, self.softcap(part, spec.logit_softcap)

    def _rows(self, name: str, ids: Sequence[int]) -> Array:
        rows = {i: self._need(name, (i, i + 1))[0] for i in sorted(set(ids))}
        return np.stack([rows[i] for i in ids])

    def _need(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        values = self.load(name, rows)
        if values is None:
            raise UsageError(f"the model has no tensor {name!r}, which its spec needs")
        return values

    # ---- primitives: values are `[n, channels]`, or `[n, heads, head_dim]`

    def linear(self, x: Array, name: str) -> Array:
        y, bias = self.product(x, name), self.load(f"{name}_bias")
        return y if bias is None else y + bias

    def product(self, x: Array, name: str) -> Array:
        """`x` `[n, d_in]` times the transposed matrix."""
        return np.asarray(x @ self._need(name).T)

    def norm(self, x: Array, name: str) -> Array:
        weight = self.load(name)
        return x if weight is None else self._normalize(x, weight, self.load(f"{name}_bias"), self.spec.norm)

    def head_norm(self, x: Array, name: str) -> Array:
        kind = "layer" if self.spec.qk_norm == "layer_per_head" else self.spec.norm
        return self._normalize(x, self.load(name), self.load(f"{name}_bias"), kind)

    def latent_norm(self, x: Array, name: str, eps: float) -> Array:
        return self._normalize(x, self._need(name), None, "rms", eps)

    def _normalize(
        self, x: Array, weight: Array | None, bias: Array | None, kind: str, eps: float | None = None
    ) -> Array:
        wide = x.astype(np.float64)
        if kind == "layer":
            wide -= wide.mean(-1, keepdims=True)
        eps = self.spec.norm_eps if eps is None else eps
        wide /= np.sqrt(np.square(wide).mean(-1, keepdims=True) + eps)
        if weight is not None:
            wide *= weight
        return (wide if bias is None else wide + bias).astype(np.float32)

    def split_heads(self, x: Array, path: str, heads: int, head_dim: int) -> Array:
        return x.reshape(len(x), heads, head_dim)

    def attend(self, q: Array, k: Array, v: Array, at: str, layer: Layer) -> Array:
        n, group = len(q), layer.n_heads // layer.n_kv_heads
        positions, sinks_of = np.arange(n), self.load(f"{at}.sinks")
        sink_q = q
        if layer.rope is not None:
            rope = self.spec.ropes[layer.rope]
            if self.cache is not None:
                sink_q = self._rotate(q, rope, np.minimum(positions, sum(self.cache) - 1))
            q, k = self._rotate(q, rope, positions), self._rotate(k, rope, positions)
        if self.spec.qk_norm == "head_after_rope":
            q, sink_q = (self.head_norm(x, f"{at}.q_norm") for x in (q, sink_q))
            k = self.head_norm(k, f"{at}.k_norm")
        out = np.empty((*q.shape[:2], v.shape[-1]), q.dtype)
        for begin in range(0, n, QUERY_SLICE):
            some = slice(begin, min(begin + QUERY_SLICE, n))
            near, sinks = self._visible(positions[some], positions, layer)
            visible, any_sinks = near | sinks, sinks.any()
            for head in range(layer.n_heads):
                keys, values = k[:, head // group], v[:, head // group]
                scores = q[some, head] @ keys.T
                if any_sinks:
                    scores = np.where(sinks, sink_q[some, head] @ keys.T, scores)
                scores = self.softcap(scores * np.float32(self.spec.attn_scale), self.spec.attn_softcap)
                sink = -np.inf if sinks_of is None else sinks_of[head]
                out[some, head] = _softmax(np.where(visible, scores, -np.inf), sink) @ values
        return out.reshape(n, -1)

    def _visible(
        self, queries: NDArray[np.int64], keys: NDArray[np.int64], layer: Layer
    ) -> tuple[Mask, Mask]:
        """Which keys a query sees at their true distance, and which as sinks. Both `[queries, keys]`."""
        distance = queries[:, None] - keys[None, :]
        near = distance >= 0
        window = layer.window
        sinks = 0
        if self.cache is not None and (window is None or window > self.cache[1]):
            sinks, window = self.cache
        if window is not None:
            near &= distance < window
        return near, (distance >= 0) & ~near & (keys[None, :] < sinks)

    def _rotate(self, x: Array, rope: Rope, positions: NDArray[np.int64]) -> Array:
        """Rotate the first `rope.dim` numbers of each head of `x` `[n, heads, head_dim]`, halves together."""
        inv_freq = rope.inv_freq
        if rope.long_inv_freq is not None and (self.context or len(x)) > (rope.original_context or 0):
            inv_freq = rope.long_inv_freq
        angles = positions[:, None] * np.array(inv_freq, np.float64)  # [n, dim / 2]
        cos = (np.cos(angles) * rope.factor).astype(np.float32)[:, None]
        sin = (np.sin(angles) * rope.factor).astype(np.float32)[:, None]
        a, b, rest = np.split(x, (rope.dim // 2, rope.dim), axis=-1)
        return np.concatenate((a * cos - b * sin, b * cos + a * sin, rest), axis=-1)

    def gate(self, x: Array, gate: Array, path: str, layer: Layer) -> Array:
        heads = x.reshape(*gate.shape, -1) * _sigmoid(gate)[..., None]
        return heads.reshape(x.shape)

    def parts(self, x: Array, count: int, path: str) -> Sequence[Array]:
        return np.split(x, count, axis=-1)

    def joined(self, values: Sequence[Array], path: str) -> Array:
        return np.concatenate(values, axis=-1)

    def convolve(self, x: Array, at: str, layer: Layer) -> Array:
        return self._convolve(x, f"{at}.conv")

    def _convolve(self, x: Array, name: str) -> Array:
        taps = self._need(name)  # [channels, kernel]
        kernel = taps.shape[1]
        padded = np.concatenate((np.zeros((kernel - 1, x.shape[1]), np.float32), x))
        mixed = functools.reduce(np.add, (padded[i : i + len(x)] * taps[:, i] for i in range(kernel)))
        bias = self.load(f"{name}_bias")
        return mixed if bias is None else mixed + bias

    def recur(
        self, q: Array, k: Array, v: Array, dt: Array, beta: Array | None, at: str, layer: Layer
    ) -> Array:
        of = layer.recurrence
        assert of is not None
        if of.kernel:
            q, k, v = (
                _silu(self._convolve(x, f"{at}.taps_{part}"))
                for part, x in zip("qkv", (q, k, v), strict=True)
            )
        q, k = (x.reshape(len(x), of.n_key_heads, of.key_dim) for x in (q, k))
        v = v.reshape(len(v), of.n_heads, of.value_dim)
        if of.unit_keys:
            q, k = (x / np.sqrt((x * x).sum(-1, keepdims=True) + np.float32(UNIT_EPS)) for x in (q, k))
        q, k = (x.repeat(of.n_heads // of.n_key_heads, 1) for x in (q * np.float32(of.q_scale), k))
        dt = np.maximum(np.logaddexp(dt, np.float32(0)), np.float32(of.dt_min))
        decay = np.exp(-np.exp(self._need(f"{at}.state_a")) * dt)
        weight = dt if beta is None else np.float32(of.beta_scale) / (1 + np.exp(-beta))
        state = np.zeros((of.n_heads, of.key_dim, of.value_dim), np.float32)
        out = np.empty_like(v)
        for t in range(len(v)):
            state *= decay[t, :, None, None]
            new = v[t] if beta is None else v[t] - (k[t, :, :, None] * state).sum(1)
            state += k[t, :, :, None] * (weight[t, :, None] * new)[:, None]
            out[t] = (q[t, :, :, None] * state).sum(1)
        skip = self.load(f"{at}.state_d")
        return (out if skip is None else out + skip[:, None] * v).reshape(len(v), -1)

    def gated_norm(self, x: Array, z: Array, at: str, layer: Layer) -> Array:
        of = layer.recurrence
        assert of is not None
        if of.gate_first:
            x = x * _silu(z)
        if of.norm != "none":
            groups = of.n_heads if of.norm == "head" else of.n_key_heads
            weight = self._need(f"{at}.state_scale").reshape(-1, x.shape[1] // groups)
            apart = x.reshape(len(x), groups, -1)
            mean = np.square(apart).mean(-1, keepdims=True, dtype=np.float32)
            x = (apart / np.sqrt(mean + np.float32(of.norm_eps)) * weight).reshape(x.shape)
        return x if of.gate_first else x * _silu(z)

    def shifted(self, x: Array, name: str) -> Sequence[Array]:
        before = np.concatenate((np.zeros_like(x[:1]), x[:-1]))
        return [x + (before - x) * share for share in self._need(name).reshape(-1, x.shape[1])]

    def bent(self, x: Array, kind: str) -> Array:
        return np.tanh(x) if kind == "tanh" else _sigmoid(x)

    def fade(
        self, r: Array, k: Array, v: Array, w: Array, a: Array, share: Array | None, gate: Array, at: str,
        layer: Layer,
    ) -> Array:  # fmt: skip
        of = layer.rwkv
        assert of is not None
        if share is None:
            self.first_values = v
        else:
            v = v + (self.first_values - v) * _sigmoid(share)
        decay, rate = np.exp(np.float32(FASTEST_DECAY) * _sigmoid(w)), _sigmoid(a)
        removed = k * self._need(f"{at}.rwkv_removed")
        k = k * (1 + (rate - 1) * self._need(f"{at}.rwkv_replaced"))
        r, k, v, decay, rate, removed = (
            x.reshape(len(x), of.n_heads, of.head_dim) for x in (r, k, v, decay, rate, removed)
        )
        length = np.sqrt(np.square(removed).sum(-1, keepdims=True))
        removed = removed / np.maximum(length, np.float32(LEAST_LENGTH))
        state = np.zeros((of.n_heads, of.head_dim, of.head_dim), np.float32)
        out = np.empty_like(v)
        for t in range(len(v)):
            known = (removed[t, :, :, None] * state).sum(1)
            state = decay[t, :, :, None] * state + k[t, :, :, None] * v[t, :, None]
            state -= (removed[t] * rate[t])[:, :, None] * known[:, None]
            out[t] = (r[t, :, :, None] * state).sum(1)
        out = out - out.mean(-1, keepdims=True)
        out /= np.sqrt(np.square(out).mean(-1, keepdims=True) + np.float32(of.norm_eps))
        out = out * self._need(f"{at}.rwkv_norm").reshape(of.n_heads, of.head_dim)
        out += self._need(f"{at}.rwkv_norm_bias").reshape(of.n_heads, of.head_dim)
        out += (r * k * self._need(f"{at}.rwkv_bonus")).sum(-1, keepdims=True) * v
        return out.reshape(len(v), -1) * gate

    def activate(self, x: Array, path: str) -> Array:
        if self.spec.activation == "xielu":
            at = path.rpartition(".")[0]
            return _xielu(x, self._need(f"{at}.alpha_p"), self._need(f"{at}.alpha_n"))
        return ACTIVATIONS[self.spec.activation](x)

    def raised(self, x: Array, path: str) -> Array:
        return np.clip(x, -np.float32(SWIGLU_LIMIT), np.float32(SWIGLU_LIMIT)) + np.float32(1)

    def route(self, logits: Array, at: str, layer: Layer) -> Sequence[Array]:
        moe = self.spec.moe
        assert moe is not None
        weights = _softmax(logits) if moe.score == "softmax" else _sigmoid(logits)
        favour = self.load(f"{at}.router_choice")
        ranked = weights if favour is None else weights + favour
        chosen = np.argsort(-ranked, axis=-1, kind="stable")[:, : moe.top_k]
        kept = np.zeros_like(weights)
        np.put_along_axis(kept, chosen, np.take_along_axis(weights, chosen, -1), -1)
        if moe.normalize:
            kept /= kept.sum(-1, keepdims=True)
        own = self.load(f"{at}.router_scale")
        kept = kept * (np.float32(moe.scale) if own is None else own)
        return np.split(kept, layer.n_experts, axis=-1)

    def expert(self, x: Array, at: str, weight: Array) -> Array:
        """Of the rows that chose it alone."""
        out, rows = np.zeros_like(x), np.flatnonzero(weight)
        if rows.size:
            out[rows] = weight[rows] * self.feed_forward(x[rows], at)
        return out

    def add(self, a: Array, b: Array, path: str) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array, path: str) -> Array:
        return a * b

    def times(self, x: Array, name: str) -> Array:
        factor = self.load(name)
        return x if factor is None else x * factor

    def total(self, values: Iterable[Array], path: str) -> Array:
        return functools.reduce(np.add, values)

    def scaled(self, x: Array, factor: float, path: str) -> Array:
        return x * np.float32(factor)

    def softcap(self, x: Array, cap: float, path: str = "") -> Array:
        return np.tanh(x / np.float32(cap)) * np.float32(cap) if cap else x


def _softmax(x: Array, other: float = -np.inf) -> Array:
    """With one more score in each row, whose weight is left out."""
    peak = np.maximum(x.max(-1, keepdims=True), np.float32(other))
    weights: Array = np.exp(x - peak)
    weights /= weights.sum(-1, keepdims=True) + np.exp(np.float32(other) - peak)
    return weights


def _sigmoid(x: Array) -> Array:
    share: Array = 1 / (1 + np.exp(-np.maximum(x, np.float32(-80))))
    return share


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _gelu_tanh(x: Array) -> Array:
    gate = np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3))
    scaled: Array = x * (np.float32(0.5) * (1 + gate))
    return scaled


def _gelu(x: Array) -> Array:
    gate: NDArray[np.float64] = 0.5 * (1 + _erf(x.astype(np.float64) / math.sqrt(2)))
    return x * gate.astype(np.float32)


def _swiglu_oai(x: Array) -> Array:
    bounded = np.minimum(x, np.float32(SWIGLU_LIMIT))
    return bounded * _sigmoid(bounded * np.float32(SWIGLU_SLOPE))


def _xielu(x: Array, alpha_p: Array, alpha_n: Array) -> Array:
    """Huang and Schlag 2024, "Deriving activation functions using integration"."""
    below = np.expm1(np.minimum(x, np.float32(-1e-6))) - x
    return np.where(x > 0, alpha_p * x * x, alpha_n * below) + np.float32(0.5) * x


_erf = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
    "swiglu_oai": _swiglu_oai,
}
