"""ModelSpec: a decoder-only language model described by values, not by code.

A family file (`converters/models/<model_type>.py`) turns a Hugging Face config into a `ModelSpec` and says
where each tensor lies in the checkpoint. The C++ decoder, the numpy reference and every output format read
this one description; none of them knows a family's name.

Shapes are written `[rows, columns]`; a linear layer's weight is `[d_out, d_in]` as in PyTorch. The tensors:

    embed                       [vocab_size, d_model]
    embed_norm                  [d_model]               on the embedding, after its multiplier
    layers.N.attn_norm          [d_model]               before the mixer       (absent in post-norm families;
                                the layer's before where that one is `beside`)
    layers.N.q | k | v          [n_heads·head_dim | n_kv_heads·head_dim, d_model]  (+ .q_bias and so on)
                                no k and v where `kv_layer` is given, no v where `k_eq_v`
    layers.N.q_norm | k_norm    [head_dim], or [n_heads·head_dim] when `qk_norm == "full"`,
                                or [n_heads, head_dim] when `qk_norm == "layer_per_head"`
    layers.N.sinks              [n_heads]               a score that no key has, in each head's softmax
    layers.N.attn_gate          [n_heads or n_heads·head_dim, d_model]                (+ .attn_gate_bias)
    layers.N.o_norm             [n_heads·head_dim]      on what `o` reads
    layers.N.o                  [d_model, n_heads·head_dim]                           (+ .o_bias)
    layers.N.attn_post_norm     [d_model]               on the mixer's output, before the residual is added
    layers.N.ffn_norm           [d_model]
    layers.N.gate | up          [d_ff, d_model]                                       (+ .gate_bias .up_bias)
    layers.N.alpha_p | alpha_n  [1]                     xIELU's slopes
    layers.N.down_norm          [d_ff]                  on what `down` reads
    layers.N.down               [d_model, d_ff]                                       (+ .down_bias)
    layers.N.ffn_post_norm      [d_model]
    layers.N.router             [n_experts, d_model]    mixture of experts (+ .router_bias); then
    layers.N.experts.E.gate|up|down                     as gate, up, down
    layers.N.router_choice      [n_experts]             added to scores where experts are chosen
    layers.N.shared.gate | up   [moe.d_shared, d_model] an expert that every token takes
    layers.N.shared.down        [d_model, moe.d_shared]
    layers.N.shared_gate        [1, d_model]            whose sigmoid multiplies what that one gives
    layers.N.router_scale       [n_experts]             multiplies weights in place of `moe.scale`
    layers.N.router_norm | experts_norm                 [d_model]               with `moe.own_norms`
    layers.N.experts_post_norm | shared_post_norm       [d_model]
    layers.N.conv_in            [3·d_model, d_model]    short convolution: B, C, x stacked (+ _bias)
    layers.N.conv               [d_model, kernel]       depthwise taps, oldest first       (+ _bias)
    layers.N.conv_out           [d_model, d_model]                                     (+ _bias)
    layers.N.state_q | state_k  [n_key_heads·key_dim, d_model]     a recurrent layer: see Recurrence (+ _bias)
    layers.N.state_v | state_z  [n_heads·value_dim, d_model]       z: the output's gate             (+ _bias)
    layers.N.state_dt           [n_heads, d_model]                 steps, before their softplus     (+ _bias)
    layers.N.state_beta         [n_heads, d_model]                 of the delta rule, before its sigmoid
    layers.N.taps_q | taps_k | taps_v                  depthwise taps over these, oldest first      (+ _bias)
    layers.N.state_a            [n_heads]               the logarithm of a state's rate of decay
    layers.N.state_d            [n_heads]               how much of v is added to the output
    layers.N.state_scale        [value_dim], or [n_heads·value_dim] when `norm == "group"`
    layers.N.state_o            [d_model, n_heads·value_dim]                                        (+ _bias)
    layers.N.rwkv_mix           [6, d_model] or [d_model]          of RWKV-7's layers: see Rwkv
    layers.N.rwkv_r | k | v | o [d_model, d_model]
    layers.N.rwkv_w_down | a_down | g_down | u_down    [rank, d_model]
    layers.N.rwkv_w_up | a_up | g_up | u_up            [d_model, rank]                              (+ _bias)
    layers.N.rwkv_removed | replaced                   [d_model]
    layers.N.rwkv_bonus         [n_heads, head_dim]
    layers.N.rwkv_norm          [d_model]                                                           (+ _bias)
    layers.N.rwkv_up | down     [d_ff, d_model] | [d_model, d_ff]
    layers.N.q_down             [q_rank, d_model]       a latent layer: see Latent                  (+ _bias)
    layers.N.q_down_norm        [q_rank]
    layers.N.q | q_rope         [n_heads·key_dim | n_heads·rope_dim, q_rank or d_model]
    layers.N.latent | k_rope    [rank | rope_dim, d_model]                                          (+ _bias)
    layers.N.latent_norm        [rank]
    layers.N.heads.H.k_up       [rank, key_dim]         of a head's queries what meets the latent
    layers.N.heads.H.v_up       [value_dim, rank]       of a head's latent its values
    layers.N.o                  [d_model, n_heads·value_dim]                                        (+ _bias)
    layers.N.ple_gate           [ple.dim, d_model]      per-layer embeddings
    layers.N.ple_out            [d_model, ple.dim]
    layers.N.ple_post_norm      [d_model]
    layers.N.scalar             [1]                     multiplies what the layer gives
    ple_embed                   [vocab_size, layers·ple.dim]
    ple_proj                    [layers·ple.dim, d_model]
    ple_norm                    [ple.dim]
    final_norm                  [d_model]
    head                        [vocab_size, d_model]   absent when tied to `embed`        (+ head_bias)

Layer norms with a bias carry `<norm>_bias`. Offsets that a family adds to its norm weights (Gemma's `1 + w`)
are folded in by the family's `Source`, so a norm is always `x / rms(x) * w`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

SPEC_VERSION = 1
UNIT_EPS = 1e-6  # under the root of what brings a recurrent layer's queries and keys to length 1

# What multiplies by weights in a mixer of each kind.
MIXER_MATRICES: dict[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "o"),
    "conv": ("conv_in", "conv_out"),
    "recurrent": ("state_q", "state_k", "state_v", "state_z", "state_dt", "state_beta", "state_o"),
    "rwkv_time": (
        *("rwkv_r", "rwkv_k", "rwkv_v", "rwkv_w_down", "rwkv_w_up", "rwkv_a_down", "rwkv_a_up"),
        *("rwkv_g_down", "rwkv_g_up", "rwkv_u_down", "rwkv_u_up", "rwkv_o"),
    ),
    "rwkv_channels": ("rwkv_up", "rwkv_down"),
    "latent": ("q_down", "q", "q_rope", "latent", "k_rope", "o"),
}
HEAD_MATRICES = ("k_up", "v_up")  # of a latent layer's heads

NORMS_OF_LAYER = ("attn_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm", "ple_post_norm")
NORMS_OF_EXPERTS = ("router_norm", "experts_norm", "experts_post_norm", "shared_post_norm")

# Last parts of the names of matrices; every other tensor is a vector, or small.
MATRICES = frozenset(
    "embed head attn_gate gate up down router shared_gate ple_embed ple_proj ple_gate ple_out".split()
).union(HEAD_MATRICES, *MIXER_MATRICES.values())


def added(default: Any) -> Any:
    """A member that version 1 did not begin with: only specs that need it have it in their JSON, so that
    readers that do not know it refuse those alone.
    """
    return field(default=default, metadata={"added": True})


@dataclass(frozen=True)
class Rope:
    """Rotary embedding of the first `dim` numbers of each head, halves rotated together.

    `inv_freq` holds `dim / 2` angles per position in radians, every scaling rule already applied;
    `long_inv_freq`, when given, replaces it in sessions whose context exceeds `original_context` (longrope).
    `factor` multiplies cos and sin.
    """

    dim: int
    inv_freq: tuple[float, ...]
    factor: float = 1.0
    long_inv_freq: tuple[float, ...] | None = None
    original_context: int | None = None


@dataclass(frozen=True)
class Recurrence:
    """A mixer with a state S `[key_dim, value_dim]` per head in place of a cache (gated delta net, Mamba-2).

    q, k and v pass a causal convolution and SiLU when `kernel` is not 0; heads share the keys and queries of
    `n_key_heads` evenly. With dt = softplus(state_dt), at least `dt_min`, and decay = exp(-exp(state_a)·dt)

        S = decay·S + k ⊗ β·(v - kᵀ·decay·S)     delta: β = beta_scale·sigmoid(state_beta)
        S = decay·S + k ⊗ dt·v                   otherwise
        out = q_scale·qᵀ·S + state_d·v

    and out, gated by silu(state_z) and normalised with `state_scale`, goes through `state_o`.
    """

    n_heads: int
    n_key_heads: int
    key_dim: int
    value_dim: int
    kernel: int = 0
    delta: bool = False
    unit_keys: bool = False  # q and k of each head are brought to length 1
    q_scale: float = 1.0
    beta_scale: float = 1.0
    dt_min: float = 0.0
    # none | head: each head with one [value_dim] weight | group: the values of all heads that share a key
    norm: Literal["none", "head", "group"] = "none"
    norm_eps: float = 1e-5
    gate_first: bool = False  # gated before it is normalised, not after

    @property
    def keys(self) -> int:
        """Channels of q, and of k."""
        return self.n_key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Channels of v, z and the output."""
        return self.n_heads * self.value_dim

    @property
    def numbers(self) -> int:
        """Of one state, with the inputs that its convolution remembers."""
        remembered = max(self.kernel - 1, 0) * (2 * self.keys + self.values)
        return self.n_heads * self.key_dim * self.value_dim + remembered


@dataclass(frozen=True)
class Rwkv:
    """RWKV-7 (arXiv:2503.14456). Both of its layers read x + (x of the token before - x) · rwkv_mix; time
    mixing six such, for r, w, k, v, a and g. With up(x) = rwkv_X_up(f(rwkv_X_down(x))), f tanh for w, a
    sigmoid for g and nothing for others, and v0 the values of the layer whose `value_rank` is 0 (the first):

        decay = exp(-0.606531·sigmoid(up(w)))          per channel
        v = v + (v0 - v)·sigmoid(up(v))                but in that layer
        removed = k·rwkv_removed, each head of length 1
        k = k·(1 + (sigmoid(up(a)) - 1)·rwkv_replaced)
        S = decay·S + k ⊗ v - removed·sigmoid(up(a)) ⊗ (removedᵀ·S)
        out = (rwkv_norm(rᵀ·S) + (Σ r·k·rwkv_bonus)·v)·up(g)       a LayerNorm of each head, with `norm_eps`

    goes through `rwkv_o`. Channel mixing is rwkv_down(relu(rwkv_up(x))²).
    """

    n_heads: int = 0
    head_dim: int = 0
    decay_rank: int = 0
    rate_rank: int = 0
    value_rank: int = 0
    gate_rank: int = 0
    norm_eps: float = 64e-5
    d_ff: int = 0  # of channel mixing


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2): of a position the cache holds one vector, which all heads
    read: `rope_dim` numbers that are rotated, then a latent of `rank`, the rest of `Layer.head_dim`.

        score of head H = attn_scale · (q_rope·k_rope + (k_up·q)·latent)
        what it gives   = v_up·(the latents, weighed)

    `q` and `q_rope` read what `q_down` makes of the residual where `q_rank` is not 0. The norms of that and
    of the latent have an epsilon of their own.
    """

    rope_dim: int
    key_dim: int
    value_dim: int
    q_rank: int = 0
    norm_eps: float = 1e-6


@dataclass(frozen=True)
class Layer:
    """One block: a mixer, then a feed-forward part unless `d_ff` is 0, each with a residual.

    `parallel` feeds both from the same input and adds both to the residual (StableLM's parallel residual);
    `beside` does so with this layer's mixer, which has no feed-forward part, and the next one's (Falcon-H1).
    """

    mixer: Literal["attention", "conv", "recurrent", "rwkv_time", "rwkv_channels", "latent"] = "attention"
    n_heads: int = 0
    n_kv_heads: int = 0
    head_dim: int = 0
    rope: int | None = 0  # index into ModelSpec.ropes; None: no positional encoding in this layer
    window: int | None = None  # sliding window in tokens, the current one included; None: global
    d_ff: int = 0
    n_experts: int = 0  # 0: a dense feed-forward part
    conv_kernel: int = 0
    parallel: bool = False
    beside: bool = added(False)
    # an earlier layer, whose keys and values this one attends to; None: it has its own
    kv_layer: int | None = added(None)
    k_eq_v: bool = added(False)  # values are what `k` gives, before its norm and rotation
    recurrence: Recurrence | None = None  # of the mixer "recurrent"
    rwkv: Rwkv | None = None  # of the mixers "rwkv_time" and "rwkv_channels"
    latent: Latent | None = None  # of the mixer "latent"

    @property
    def cell(self) -> int:
        """Numbers that the cache has of a position."""
        return self.n_kv_heads * self.head_dim * (1 if self.latent else 2)

    def missing(self) -> tuple[str, ...]:
        """Parts of its mixer that this layer does not have."""
        if self.rwkv is not None:
            return () if self.rwkv.value_rank else ("rwkv_u_down", "rwkv_u_up")
        if self.recurrence is not None:
            return () if self.recurrence.delta else ("state_beta",)
        if self.latent is not None:
            return () if self.latent.q_rank else ("q_down", "q_down_norm")
        return ("k", "v", "k_norm") if self.kv_layer is not None else ("v",) if self.k_eq_v else ()


@dataclass(frozen=True)
class Moe:
    """The router's scores pick `top_k` experts, which they weigh: its softmax, or the sigmoid of each.
    `normalize` rescales the weights to sum 1, `scale` multiplies them then. Where `d_shared` is not 0, every
    token takes one more expert of that width, which `shared_gate` says has a gate. With `own_norms` the
    router and the experts do not read what the shared one does, and both results are normalised before they
    are added (Gemma 4).
    """

    top_k: int
    normalize: bool
    score: Literal["softmax", "sigmoid"] = added("softmax")
    scale: float = added(1.0)
    d_shared: int = added(0)
    shared_gate: bool = added(False)
    own_norms: bool = added(False)


@dataclass(frozen=True)
class PerLayerEmbedding:
    """What every layer lets through its gate: `dim` numbers of a token whose embedding is `x`,

        scale · (ple_norm(proj_scale · ple_proj(x)) + embed_scale · its row of ple_embed)

    of which each layer has its own part; `ple_out` brings them back to the residual (Gemma 4).
    """

    dim: int
    proj_scale: float
    embed_scale: float
    scale: float


@dataclass(frozen=True)
class ModelSpec:
    """Everything the forward pass depends on. Multipliers default to "not there"."""

    model_type: str  # the family it came from: information only, never read by an engine
    vocab_size: int
    d_model: int
    layers: tuple[Layer, ...]
    ropes: tuple[Rope, ...]
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-5
    # swiglu_oai (gpt-oss): with its up part bounded and raised by 1 | xielu: of layers.N.alpha_p and alpha_n
    activation: Literal["silu", "gelu", "gelu_tanh", "relu", "relu2", "swiglu_oai", "xielu"] = "silu"
    gated: bool = True
    # none | head: each head with one [head_dim] weight | full: all heads at once | layer_per_head: a
    # LayerNorm without bias, each head with its own weight | head_after_rope: as head, after the rotation
    qk_norm: Literal["none", "head", "full", "layer_per_head", "head_after_rope"] = "none"
    v_norm: bool = added(False)  # each head of the values is divided by its root mean square
    # none | head: what attention gives of a head is multiplied by the sigmoid of a number, of which attn_gate
    # makes of the layer's normed input | full: each number of the head by one of its own
    attn_gate: Literal["none", "head", "full"] = added("none")
    attn_scale: float = 0.0  # multiplies q·k
    attn_softcap: float = 0.0  # 0: none; else cap · tanh(scores / cap)
    logit_softcap: float = 0.0
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0  # multiplies the logits (before the soft-cap)
    tied: bool = True
    moe: Moe | None = None
    ple: PerLayerEmbedding | None = field(default=None, metadata={"added": True})
    context: int = 0  # positions the model was trained for; information for defaults
    version: int = field(default=SPEC_VERSION)

    @property
    def last_writer(self) -> int:
        """The last layer with keys and values, or another state, of its own."""
        return max(index for index, layer in enumerate(self.layers) if layer.kv_layer is None)

    @property
    def layers_stand_alone(self) -> bool:
        """Whether a layer needs nothing but the residual of the layers before it."""
        return self.ple is None and all(x.kv_layer is None and not x.beside for x in self.layers)

    def cache_numbers(self, tokens: int) -> int:
        """Keys, values and the states of convolutions after `tokens` tokens."""
        attention = sum(
            layer.cell * min(tokens, layer.window or tokens)
            for layer in self.layers
            if layer.kv_layer is None
        )
        convolutions = sum(self.d_model * (x.conv_kernel - 1) for x in self.layers if x.conv_kernel)
        states = sum(x.recurrence.numbers for x in self.layers if x.recurrence)
        states += sum(self.d_model * (1 + x.rwkv.head_dim) for x in self.layers if x.rwkv)
        return attention + convolutions + states

    def matrices(self) -> list[str]:
        """The names of all matrices, in the order of the layers."""
        names = ["embed"] if self.tied else ["embed", "head"]
        names += ["ple_embed", "ple_proj"] if self.ple else []
        fed = ("gate", "up", "down") if self.gated else ("up", "down")
        for index, layer in enumerate(self.layers):
            parts = [part for part in MIXER_MATRICES[layer.mixer] if part not in layer.missing()]
            parts += ["attn_gate"] if layer.mixer == "attention" and self.attn_gate != "none" else []
            heads = range(layer.n_heads if layer.latent else 0)
            parts += [f"heads.{head}.{part}" for head in heads for part in HEAD_MATRICES]
            parts += ["router"] if layer.n_experts else fed if layer.d_ff else ()
            parts += [f"experts.{expert}.{part}" for expert in range(layer.n_experts) for part in fed]
            if layer.n_experts and self.moe and self.moe.d_shared:
                parts += [f"shared.{part}" for part in fed]
                parts += ["shared_gate"] if self.moe.shared_gate else []
            parts += ["ple_gate", "ple_out"] if self.ple else []
            names += [f"layers.{index}.{part}" for part in parts]
        return names

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor called `name` above. Raises KeyError when this spec can have no such tensor."""
        if name in ("embed", "head"):
            return (self.vocab_size, self.d_model)
        if name in ("embed_norm", "final_norm"):
            return (self.d_model,)
        ple = self.ple.dim if self.ple else 0
        if name.startswith("ple_"):
            numbers = len(self.layers) * ple
            return {
                "ple_embed": (self.vocab_size, numbers),
                "ple_proj": (numbers, self.d_model),
                "ple_norm": (ple,),
            }[name]
        if name.endswith("_bias"):
            return self.shape(name.removesuffix("_bias"))[:1]
        d, (_, index, *parts) = self.d_model, name.split(".")
        layer = self.layers[int(index)]
        head = (layer.head_dim,)
        d_ff = self.moe.d_shared if self.moe and parts[0] == "shared" else layer.d_ff
        if parts[-1] == "v_norm":
            return head
        q_norm = {
            "none": (0, 0),
            "head": head,
            "head_after_rope": head,
            "full": (layer.n_heads * layer.head_dim,),
        }
        k_norm = q_norm | {"full": (layer.n_kv_heads * layer.head_dim,)}
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys((*NORMS_OF_LAYER, *NORMS_OF_EXPERTS), (d,)),
            "q": (layer.n_heads * layer.head_dim, d),
            **dict.fromkeys(("k", "v"), (layer.n_kv_heads * layer.head_dim, d)),
            "sinks": (layer.n_heads,),
            "o_norm": (layer.n_heads * layer.head_dim,),
            "attn_gate": (layer.n_heads * (layer.head_dim if self.attn_gate == "full" else 1), d),
            "o": (d, layer.n_heads * layer.head_dim),
            "q_norm": q_norm.get(self.qk_norm, (layer.n_heads, layer.head_dim)),
            "k_norm": k_norm.get(self.qk_norm, (layer.n_kv_heads, layer.head_dim)),
            **dict.fromkeys(("gate", "up"), (d_ff, d)),
            "down": (d, d_ff),
            "down_norm": (layer.d_ff,),
            **dict.fromkeys(("alpha_p", "alpha_n"), (1,)),
            "router": (layer.n_experts, d),
            **dict.fromkeys(("router_choice", "router_scale"), (layer.n_experts,)),
            "shared_gate": (1, d),
            "conv_in": (3 * d, d),
            "conv": (d, layer.conv_kernel),
            "conv_out": (d, d),
            "ple_gate": (ple, d),
            "ple_out": (d, ple),
            "scalar": (1,),
            **({} if layer.recurrence is None else _recurrent_shapes(layer.recurrence, d)),
            **({} if layer.rwkv is None else _rwkv_shapes(layer.rwkv, d, layer.mixer)),
            **({} if layer.latent is None else _latent_shapes(layer.latent, layer, d)),
        }
        return shapes[parts[-1]]

    def parameters(self, names: Iterable[str]) -> int:
        """How many numbers the tensors of these names have together."""
        return sum(math.prod(self.shape(name)) for name in names)

    def to_json(self) -> dict[str, Any]:
        """The JSON object stored in a package's metadata; members that say nothing are left out."""
        found: dict[str, Any] = _json(self)
        return found

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelSpec:
        """Inverse of `to_json`. Raises TypeError or KeyError on unknown or missing members."""
        data = dict(data)
        data["layers"] = tuple(_layer(layer) for layer in data["layers"])
        data["ropes"] = tuple(Rope(**_tuples(rope)) for rope in data["ropes"])
        for member, kind in (("moe", Moe), ("ple", PerLayerEmbedding)):
            if data.get(member) is not None:
                data[member] = kind(**data[member])
        return ModelSpec(**data)


@dataclass(frozen=True)
class Source:
    """Where a tensor of the spec lies in a checkpoint.

    Rows `[rows[0], rows[1])` of the named tensor (all when None), followed by the tensors of `stack`,
    reshaped to `shape` when given, times `scale`, plus `add`. With `order`, the rows are those that it
    numbers in every `period` rows of the tensor, in that order. `index` takes one of a stack of tensors along
    the first axis, `transpose` exchanges its last two axes, and `columns` takes some of those that come of
    it, all before all else. `map` is a function of each number. Without a name, all of them are `add`.
    """

    name: str
    rows: tuple[int, int] | None = None
    add: float = 0.0
    shape: tuple[int, ...] | None = None
    stack: tuple[str, ...] = ()
    period: int = 0
    order: tuple[int, ...] = ()
    map: Literal["", "softplus"] = ""
    index: int | None = None
    transpose: bool = False
    columns: tuple[int, int] | None = None  # with `transpose`: rows of the tensor as it is stored
    scale: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tensors it is read from."""
        return (self.name, *self.stack) if self.name else ()


def _recurrent_shapes(of: Recurrence, d_model: int) -> dict[str, tuple[int, ...]]:
    return {
        **dict.fromkeys(("state_q", "state_k"), (of.keys, d_model)),
        **dict.fromkeys(("state_v", "state_z"), (of.values, d_model)),
        **dict.fromkeys(("state_dt", "state_beta"), (of.n_heads, d_model)),
        "state_o": (d_model, of.values),
        **dict.fromkeys(("taps_q", "taps_k"), (of.keys, of.kernel)),
        "taps_v": (of.values, of.kernel),
        **dict.fromkeys(("state_a", "state_d"), (of.n_heads,)),
        "state_scale": (of.value_dim,) if of.norm == "head" else (of.values,),
    }


def _rwkv_shapes(of: Rwkv, d_model: int, mixer: str) -> dict[str, tuple[int, ...]]:
    ranks = {"w": of.decay_rank, "a": of.rate_rank, "u": of.value_rank, "g": of.gate_rank}
    return {
        "rwkv_mix": (6, d_model) if mixer == "rwkv_time" else (d_model,),
        **dict.fromkeys(("rwkv_r", "rwkv_k", "rwkv_v", "rwkv_o"), (d_model, d_model)),
        **{f"rwkv_{part}_down": (rank, d_model) for part, rank in ranks.items()},
        **{f"rwkv_{part}_up": (d_model, rank) for part, rank in ranks.items()},
        **dict.fromkeys(("rwkv_removed", "rwkv_replaced", "rwkv_norm"), (d_model,)),
        "rwkv_bonus": (of.n_heads, of.head_dim),
        "rwkv_up": (of.d_ff, d_model),
        "rwkv_down": (d_model, of.d_ff),
    }


def _latent_shapes(of: Latent, layer: Layer, d_model: int) -> dict[str, tuple[int, ...]]:
    rank, heads, read = layer.head_dim - of.rope_dim, layer.n_heads, of.q_rank or d_model
    return {
        "q_down": (of.q_rank, d_model),
        "q_down_norm": (of.q_rank,),
        "q": (heads * of.key_dim, read),
        "q_rope": (heads * of.rope_dim, read),
        "latent": (rank, d_model),
        "latent_norm": (rank,),
        "k_rope": (of.rope_dim, d_model),
        "k_up": (rank, of.key_dim),
        "v_up": (of.value_dim, rank),
        "o": (d_model, heads * of.value_dim),
    }


def _tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        members = [(member, getattr(value, member.name)) for member in dataclasses.fields(value)]
        return {
            member.name: _json(given)
            for member, given in members
            if given is not None and not ("added" in member.metadata and given == member.default)
        }
    return [_json(item) for item in value] if isinstance(value, tuple) else value


def _layer(data: dict[str, Any]) -> Layer:
    data = {"rope": None} | data
    if data.get("recurrence") is not None:
        data["recurrence"] = Recurrence(**data["recurrence"])
    if data.get("rwkv") is not None:
        data["rwkv"] = Rwkv(**data["rwkv"])
    if data.get("latent") is not None:
        data["latent"] = Latent(**data["latent"])
    return Layer(**data)
