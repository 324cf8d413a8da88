"""The forward pass of a ModelSpec in torch: differentiable, over batches of whole texts, on any device and in
any floating type. Calibration and training run it; numpy (`numpy.py`) is the oracle it is held against.

Weights come from a callable, so a caller may give quantized ones, or ones that it computes from what it
trains. Sums that need it (norms) are at least in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from edgekit.converters.decoder import FASTEST_DECAY, LEAST_LENGTH, SWIGLU_LIMIT, SWIGLU_SLOPE, Decoder
from edgekit.converters.spec import UNIT_EPS, Layer, ModelSpec, Rope
from edgekit.errors import UnsupportedModel

try:
    import torch as torch  # for whoever imports it from here, and is told how to get it
    from torch.nn import functional
except ImportError:
    raise UnsupportedModel(
        "calibration by gradients and training need torch, which is not installed",
        hint="pip install 'edgekit[train]'",
    ) from None

Tensor = Any  # torch.Tensor: torch is not there where types are checked


def _swiglu_oai(x: Tensor) -> Tensor:
    bounded = x.clamp(max=SWIGLU_LIMIT)
    return bounded * (bounded * SWIGLU_SLOPE).sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "relu2": lambda x: functional.relu(x).square(),
    "swiglu_oai": _swiglu_oai,
}


class Weights(Protocol):
    """The tensor called `name` in the spec, on the device of the ids; None when there is none. Its type is
    that of the activations.
    """

    def __call__(self, name: str) -> Tensor | None: ...


class Tap(Protocol):
    """Told of the input `[..., d_in]` of the matrix `name` before it is applied: of an expert's, the rows
    that chose it.
    """

    def __call__(self, name: str, x: Tensor) -> None: ...


class TorchDecoder(Decoder[Tensor]):
    """Logits of texts `[batch, time]` that all begin at position 0.

    `context` chooses between the short and the long angles of longrope: default the length of the texts.
    """

    def __init__(
        self, spec: ModelSpec, weights: Weights, *, tap: Tap | None = None, context: int | None = None
    ) -> None:
        self.spec, self.weights, self.tap, self.context = spec, weights, tap, context
        self.keys_values, self.ple_inputs = {}, []  # for those who run a layer alone

    def logits(self, ids: Tensor) -> Tensor:
        """Of the token after each one: `[batch, time, vocab_size]`."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """What the output matrix is applied to: `[batch, time, d_model]`."""
        rows = functional.embedding(ids, self._need("ple_embed")) if self.spec.ple else None
        return self.norm(self.blocks(self.embed(ids), rows), "final_norm")

    def embed(self, ids: Tensor) -> Tensor:
        """The first layer's input `[batch, time, d_model]`."""
        embedded = functional.embedding(ids, self._need("embed")) * self.spec.embed_scale
        return self.norm(embedded, "embed_norm")

    def head(self, hidden: Tensor) -> Tensor:
        """Logits `[..., vocab_size]` of some of what `hidden` gave, `[..., d_model]`."""
        spec = self.spec
        logits = self.product(hidden, "embed" if spec.tied else "head")
        bias = self.weights("head_bias")
        logits = (logits if bias is None else logits + bias) * spec.logit_scale
        return self.softcap(logits, spec.logit_softcap)

    def product(self, x: Tensor, name: str) -> Tensor:
        """`x` `[..., d_in]` times the transposed matrix."""
        if self.tap is not None:
            self.tap(name, x)
        return functional.linear(x, self._need(name))

    def _need(self, name: str) -> Tensor:
        values = self.weights(name)
        if values is None:
            raise UnsupportedModel(f"the model has no tensor {name!r}, which its spec needs")
        return values

    # ---- primitives: values are `[batch, time, channels]`, or `[batch, heads, time, head_dim]`

    def linear(self, x: Tensor, name: str) -> Tensor:
        y, bias = self.product(x, name), self.weights(f"{name}_bias")
        return y if bias is None else y + bias

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights(name)
        return (
            x if weight is None else self._normalize(x, weight, self.weights(f"{name}_bias"), self.spec.norm)
        )

    def head_norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights(name)
        if self.spec.qk_norm == "layer_per_head":  # [heads, head_dim]
            return self._normalize(x, self._need(name)[:, None], None, "layer")
        return self._normalize(x, weight, self.weights(f"{name}_bias"), self.spec.norm)

    def latent_norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        return self._normalize(x, self._need(name), None, "rms", eps)

    def _normalize(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, eps: float | None = None
    ) -> Tensor:
        eps = self.spec.norm_eps if eps is None else eps
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if kind == "layer":
            wide = wide - wide.mean(-1, keepdim=True)
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        wide = wide if weight is None else wide * weight
        return (wide if bias is None else wide + bias).to(x.dtype)

    def split_heads(self, x: Tensor, path: str, heads: int, head_dim: int) -> Tensor:
        return x.unflatten(-1, (heads, head_dim)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, at: str, layer: Layer) -> Tensor:
        if layer.rope is not None:
            rope = self.spec.ropes[layer.rope]
            q, k = self._rotate(q, rope), self._rotate(k, rope)
        if self.spec.qk_norm == "head_after_rope":
            q, k = self.head_norm(q, f"{at}.q_norm"), self.head_norm(k, f"{at}.k_norm")
        sinks = self.weights(f"{at}.sinks")
        visible, scale, cap = _visible(q, layer.window), self.spec.attn_scale, self.spec.attn_softcap
        if cap or sinks is not None:
            k, v = (x.repeat_interleave(layer.n_heads // layer.n_kv_heads, 1) for x in (k, v))
            scores = self.softcap(q @ k.mT * scale, cap, at).masked_fill(~visible, -torch.inf)
            if sinks is not None:
                beside = sinks[:, None, None].expand(*scores.shape[:-1], 1)
                scores = torch.cat((scores, beside.to(scores)), -1)
            out = scores.softmax(-1)[..., : v.shape[2]] @ v
        else:
            out = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=visible, scale=scale, enable_gqa=True
            )
        return out.transpose(1, 2).flatten(2)

    def _rotate(self, x: Tensor, rope: Rope) -> Tensor:
        """Rotate the first `rope.dim` numbers of each head, halves together."""
        time, inv_freq = x.shape[2], rope.inv_freq
        if rope.long_inv_freq is not None and (self.context or time) > (rope.original_context or 0):
            inv_freq = rope.long_inv_freq
        # on the CPU: angles need float64, which not every device has
        angles = torch.arange(time)[:, None] * torch.tensor(inv_freq, dtype=torch.float64)
        cos, sin = ((part * rope.factor).to(x) for part in (angles.cos(), angles.sin()))
        half = rope.dim // 2
        a, b, rest = x.split((half, half, x.shape[-1] - rope.dim), -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)

    def gate(self, x: Tensor, gate: Tensor, path: str, layer: Layer) -> Tensor:
        return (x.unflatten(-1, (gate.shape[-1], -1)) * gate.sigmoid()[..., None]).flatten(-2)

    def parts(self, x: Tensor, count: int, path: str) -> Sequence[Tensor]:
        return x.chunk(count, -1)

    def joined(self, values: Sequence[Tensor], path: str) -> Tensor:
        return torch.cat(tuple(values), -1)

    def convolve(self, x: Tensor, at: str, layer: Layer) -> Tensor:
        return self._convolve(x, f"{at}.conv")

    def _convolve(self, x: Tensor, name: str) -> Tensor:
        taps = self._need(name)  # [channels, kernel]
        before = functional.pad(x.mT, (taps.shape[1] - 1, 0))
        return functional.conv1d(before, taps[:, None], self.weights(f"{name}_bias"), groups=len(taps)).mT

    def recur(
        self, q: Tensor, k: Tensor, v: Tensor, dt: Tensor, beta: Tensor | None, at: str, layer: Layer
    ) -> Tensor:
        of = layer.recurrence
        assert of is not None
        if of.kernel:
            q, k, v = (
                functional.silu(self._convolve(x, f"{at}.taps_{part}"))
                for part, x in zip("qkv", (q, k, v), strict=True)
            )
        narrow, wide = v.dtype, torch.promote_types(v.dtype, torch.float32)  # a state sums up whole texts
        q, k = (self.split_heads(x.to(wide), at, of.n_key_heads, of.key_dim) for x in (q, k))
        v = self.split_heads(v.to(wide), at, of.n_heads, of.value_dim)
        if of.unit_keys:
            q, k = (x * torch.rsqrt(x.square().sum(-1, keepdim=True) + UNIT_EPS) for x in (q, k))
        q, k = (x.repeat_interleave(of.n_heads // of.n_key_heads, 1) for x in (q * of.q_scale, k))
        dt = functional.softplus(dt.to(wide)).clamp(of.dt_min).mT  # [batch, heads, time]
        decay = torch.exp(-self._need(f"{at}.state_a").exp()[:, None] * dt)
        weight = dt if beta is None else of.beta_scale * beta.to(wide).sigmoid().mT
        state = v.new_zeros((*v.shape[:2], of.key_dim, of.value_dim))
        rows = []
        for t in range(v.shape[2]):
            state = state * decay[:, :, t, None, None]
            new = v[:, :, t] if beta is None else v[:, :, t] - (k[:, :, t, None] @ state)[:, :, 0]
            state = state + k[:, :, t, :, None] * (weight[:, :, t, None] * new)[:, :, None]
            rows.append((q[:, :, t, None] @ state)[:, :, 0])
        out, skip = torch.stack(rows, 2), self.weights(f"{at}.state_d")
        out = out if skip is None else out + skip[:, None, None] * v
        return out.transpose(1, 2).flatten(2).to(narrow)

    def gated_norm(self, x: Tensor, z: Tensor, at: str, layer: Layer) -> Tensor:
        of = layer.recurrence
        assert of is not None
        if of.gate_first:
            x = x * functional.silu(z)
        if of.norm != "none":
            groups = of.n_heads if of.norm == "head" else of.n_key_heads
            apart = x.unflatten(-1, (groups, -1)).to(torch.promote_types(x.dtype, torch.float32))
            apart = apart * torch.rsqrt(apart.square().mean(-1, keepdim=True) + of.norm_eps)
            weight = self._need(f"{at}.state_scale").view(-1, apart.shape[-1])
            x = (apart * weight).flatten(-2).to(x.dtype)
        return x if of.gate_first else x * functional.silu(z)

    def shifted(self, x: Tensor, name: str) -> Sequence[Tensor]:
        before = functional.pad(x, (0, 0, 1, -1))
        return [x + (before - x) * share for share in self._need(name).view(-1, x.shape[-1])]

    def bent(self, x: Tensor, kind: str) -> Tensor:
        return x.tanh() if kind == "tanh" else x.sigmoid()

    def fade(
        self, r: Tensor, k: Tensor, v: Tensor, w: Tensor, a: Tensor, share: Tensor | None, gate: Tensor,
        at: str, layer: Layer,
    ) -> Tensor:  # fmt: skip
        of = layer.rwkv
        assert of is not None
        if share is None:
            self.first_values = v
        else:
            v = v + (self.first_values - v) * share.sigmoid()
        decay, rate = torch.exp(FASTEST_DECAY * w.sigmoid()), a.sigmoid()
        removed = k * self._need(f"{at}.rwkv_removed")
        k = k * (1 + (rate - 1) * self._need(f"{at}.rwkv_replaced"))
        narrow, wide = v.dtype, torch.promote_types(v.dtype, torch.float32)  # a state sums up whole texts
        r, k, v, decay, rate, removed = (
            x.to(wide).unflatten(-1, (of.n_heads, of.head_dim)) for x in (r, k, v, decay, rate, removed)
        )
        removed = removed / removed.norm(dim=-1, keepdim=True).clamp(LEAST_LENGTH)
        state = v.new_zeros((len(v), of.n_heads, of.head_dim, of.head_dim))
        rows = []
        for t in range(v.shape[1]):
            known = removed[:, t, :, None] @ state
            state = decay[:, t, :, :, None] * state + k[:, t, :, :, None] * v[:, t, :, None]
            state = state - (removed[:, t] * rate[:, t])[..., None] * known
            rows.append((r[:, t, :, None] @ state)[:, :, 0])
        scale, bias = (
            self._need(f"{at}.rwkv_norm{part}").view(of.n_heads, of.head_dim) for part in ("", "_bias")
        )
        out = functional.layer_norm(torch.stack(rows, 1), (of.head_dim,), eps=of.norm_eps) * scale + bias
        out = out + (r * k * self._need(f"{at}.rwkv_bonus")).sum(-1, keepdim=True) * v
        return out.flatten(-2).to(narrow) * gate

    def activate(self, x: Tensor, path: str) -> Tensor:
        if self.spec.activation == "xielu":
            at = path.rpartition(".")[0]
            alpha_p, alpha_n = self._need(f"{at}.alpha_p"), self._need(f"{at}.alpha_n")
            below = torch.expm1(x.clamp(max=-1e-6)) - x
            return torch.where(x > 0, alpha_p * x * x, alpha_n * below) + x / 2
        return ACTIVATIONS[self.spec.activation](x)

    def raised(self, x: Tensor, path: str) -> Tensor:
        return x.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT) + 1

    def route(self, logits: Tensor, at: str, layer: Layer) -> Sequence[Tensor]:
        moe = self.spec.moe
        assert moe is not None
        scores = logits.softmax(-1) if moe.score == "softmax" else logits.sigmoid()
        favour = self.weights(f"{at}.router_choice")
        chosen = (scores if favour is None else scores + favour).topk(moe.top_k, -1).indices
        weights = scores.gather(-1, chosen)
        if moe.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        own = self.weights(f"{at}.router_scale")
        weights = weights * (moe.scale if own is None else own[chosen])
        return torch.zeros_like(logits).scatter(-1, chosen, weights).split(1, -1)

    def expert(self, x: Tensor, at: str, weight: Tensor) -> Tensor:
        """Of the rows that chose it alone."""
        chosen = weight[..., 0] != 0
        return torch.zeros_like(x).masked_scatter(
            chosen[..., None], weight[chosen] * self.feed_forward(x[chosen], at)
        )

    def add(self, a: Tensor, b: Tensor, path: str) -> Tensor:
        return a + b

    def multiply(self, a: Tensor, b: Tensor, path: str) -> Tensor:
        return a * b

    def times(self, x: Tensor, name: str) -> Tensor:
        factor = self.weights(name)
        return x if factor is None else x * factor

    def total(self, values: Iterable[Tensor], path: str) -> Tensor:
        return functools.reduce(torch.add, values)

    def scaled(self, x: Tensor, factor: float, path: str) -> Tensor:
        return x * factor

    def softcap(self, x: Tensor, cap: float, path: str = "") -> Tensor:
        return torch.tanh(x / cap) * cap if cap else x


def _visible(q: Tensor, window: int | None) -> Tensor:
    """Which keys `[time, time]` each query sees: none later, and the last `window`, its own included."""
    time = q.shape[2]
    seen = torch.ones(time, time, dtype=torch.bool, device=q.device).tril()
    return seen if window is None else seen.triu(1 - window)
