"""A spec in llama.cpp's words: the architecture's name, its metadata, its tensors, and what it has no place
for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats._parts import attention_interval
from edgekit.converters.spec import ModelSpec, Rope
from edgekit.errors import UnsupportedModel

# Parts of a layer -> llama.cpp's, before ".weight" or ".bias".
PARTS = {
    "attn_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "o": "attn_output",
    "attn_post_norm": "post_attention_norm",
    "ffn_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "ffn_post_norm": "post_ffw_norm",
    "router": "ffn_gate_inp",
    "conv_in": "shortconv.in_proj",
    "conv": "shortconv.conv",
    "conv_out": "shortconv.out_proj",
    "state_dt": "ssm_alpha",
    "state_beta": "ssm_beta",
    "state_z": "attn_gate",
    "state_a": "ssm_a",
    "state_d": "ssm_d",
    "state_scale": "ssm_norm",
    "state_o": "ssm_out",
    "ple_gate": "inp_gate",
    "ple_out": "proj",
    "ple_post_norm": "post_norm",
    "scalar": "layer_output_scale",
}
OUTER = {
    "embed": "token_embd",
    "final_norm": "output_norm",
    "head": "output",
    "ple_embed": "per_layer_token_embd",
    "ple_proj": "per_layer_model_proj",
    "ple_norm": "per_layer_proj_norm",
}
BIASES = {"state_dt": "ssm_dt"}  # parts whose bias has a name of its own
BARE = ("state_a", "state_d")  # parts without ".weight"
ENDLESS = 1 << 20  # tokens, of models that were trained for no length
STILL = 1e30  # by which an angle is divided that is 0


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's model files, by what it can express.

    `pairs`: rotated numbers lie side by side, so rows of q and k are reordered. `angles`: it divides the
    angles by a tensor of factors. `windows`: it has sliding windows. `biases`: parts that may have one.
    `fused`: parts that are one tensor, in this order; queries and their gates by turns. `parts`: names other
    than in PARTS. `recurrent`: "delta", "mamba", or "" where it has no recurrent layers.
    """

    name: str
    pairs: bool = False
    angles: bool = False
    windows: bool = False
    biases: tuple[str, ...] = ("q", "k", "v")
    activation: str = "silu"
    fused: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    outer: Mapping[str, str] = dataclasses.field(default_factory=lambda: OUTER)
    parts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    recurrent: str = ""
    own_embed_scale: bool = False  # multiplies the embedding by sqrt(d_model)
    normalizes_experts: bool | None = None


NORM_BIASES = ("attn_norm", "ffn_norm", "final_norm")
EVERY_BIAS = ("q", "k", "v", "o", "gate", "up", "down")
LLAMA = Architecture("llama", pairs=True, angles=True, biases=EVERY_BIAS)
GEMMA2 = Architecture("gemma2", windows=True, activation="gelu_tanh", own_embed_scale=True)
QKV = {"attn_qkv": ("q", "k", "v")}
MAMBA = Architecture(
    "mamba2",
    biases=("taps_q", "taps_k", "taps_v", "state_dt"),
    fused={
        "ssm_in": ("state_z", "state_v", "state_k", "state_q", "state_dt"),
        "ssm_conv1d": ("taps_v", "taps_k", "taps_q"),
    },
    recurrent="mamba",
)
GRANITE_HYBRID = dataclasses.replace(MAMBA, name="granitehybrid", pairs=True)
BY_MODEL_TYPE: dict[str, Architecture] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "ministral": LLAMA,
    "ministral3": LLAMA,
    **dict.fromkeys(("ernie4_5", "helium", "internlm3", "seed_oss"), LLAMA),
    **dict.fromkeys(("granite", "granitemoehybrid", "minicpm"), dataclasses.replace(LLAMA, name="granite")),
    "smollm3": Architecture("smollm3", pairs=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "qwen3_moe": Architecture("qwen3moe", normalizes_experts=True),
    "gemma2": GEMMA2,
    "gemma3_text": dataclasses.replace(GEMMA2, name="gemma3"),
    "gemma4_text": dataclasses.replace(GEMMA2, name="gemma4", angles=True, biases=()),
    "phi3": Architecture("phi3", fused={"ffn_up": ("gate", "up")}),
    "olmo2": Architecture("olmo2"),
    "olmoe": Architecture("olmoe", normalizes_experts=False),
    "stablelm": Architecture("stablelm", biases=("q", "k", "v", *NORM_BIASES)),
    "openelm": Architecture("openelm", biases=(), fused=QKV),
    "gemma": Architecture("gemma", activation="gelu_tanh", own_embed_scale=True),
    "arcee": Architecture("arcee", pairs=True, angles=True, activation="relu2"),
    "starcoder2": Architecture("starcoder2", biases=(*EVERY_BIAS, *NORM_BIASES), activation="gelu_tanh"),
    "nemotron": Architecture("nemotron", biases=(*EVERY_BIAS, *NORM_BIASES), activation="relu2"),
    "phi": Architecture("phi2", biases=(*EVERY_BIAS, *NORM_BIASES, "head"), activation="gelu_tanh"),
    "lfm2": Architecture("lfm2", biases=(), outer=OUTER | {"final_norm": "token_embd_norm"}),
    "mamba2": MAMBA,
    "qwen3_5_text": Architecture(
        "qwen35",
        biases=("state_dt",),
        fused={
            "attn_qkv": ("state_q", "state_k", "state_v"),
            "ssm_conv1d": ("taps_q", "taps_k", "taps_v"),
            "attn_q": ("q", "attn_gate"),
        },
        parts={"ffn_norm": "post_attention_norm"},
        recurrent="delta",
    ),
}


def of(spec: ModelSpec) -> Architecture | None:
    """None where llama.cpp does not know the family."""
    hybrid = spec.model_type == "granitemoehybrid" and any(layer.recurrence for layer in spec.layers)
    return GRANITE_HYBRID if hybrid else BY_MODEL_TYPE.get(spec.model_type)


def file_name(part: str, kind: str, arch: Architecture, experts: bool = False) -> str:
    """Of a layer's part, or that of its experts, after "blk.N."; `kind` is "weight" or "bias"."""
    if kind == "bias" and part in BIASES:
        return f"{BIASES[part]}.bias"
    fused = next((name for name, parts in arch.fused.items() if part in parts), None)
    name = (fused or arch.parts.get(part, PARTS[part])) + "_exps" * experts
    return name if part in BARE else f"{name}.{kind}"


def architecture(model: ConvertInput) -> Architecture:
    """Raises UnsupportedModel for what llama.cpp would compute wrongly."""
    spec = model.spec
    arch = of(spec)
    if arch is None:
        raise UnsupportedModel(f"--format gguf has no architecture for {spec.model_type!r}")
    parts = {n.rsplit(".", 1)[-1].removesuffix("_bias") for n in model.tensors if n.endswith("_bias")}
    rotated = [layer.rope is not None for layer in spec.layers]
    why = None
    if lack := _recurrent_lack(spec, arch, parts):
        why = lack
    elif spec.activation != arch.activation:
        why = f"activation {spec.activation} ({arch.activation} is what it has)"
    elif parts - set(arch.biases):
        why = f"biases of {', '.join(sorted(parts - set(arch.biases)))}"
    elif arch.name == "smollm3" and rotated != [(i + 1) % 4 != 0 for i in range(len(rotated))]:
        why = "layers without positions (every fourth is what it has)"
    elif arch.name in ("llama", "granite") and not all(rotated):
        why = "layers without positions"
    elif arch.name != "phi3" and any(rope.long_inv_freq for rope in spec.ropes):
        why = "angles of long texts (longrope)"
    elif spec.moe and spec.moe.own_norms:
        why = "experts, which have norms of their own"
    elif spec.moe and (
        arch.normalizes_experts != spec.moe.normalize or not all(x.n_experts for x in spec.layers)
    ):
        why = "experts (their weights are normalized, or some layers are dense)"
    elif arch.name == "olmoe" and any(layer.n_heads != layer.n_kv_heads for layer in spec.layers):
        why = "key/value heads, fewer than its heads"
    elif arch.name == "gemma2" and not (spec.attn_softcap and spec.logit_softcap):
        why = "lack of soft-caps"
    elif any(layer.k_eq_v for layer in spec.layers):
        why = "values that are its keys"
    elif arch.name == "gemma4" and not _shares_the_last(spec):
        why = "layers that share keys and values (those of the last two before them is what it has)"
    elif not spec.tied and arch.name in ("gemma", "gemma2", "gemma4", "openelm"):
        why = "output matrix of its own"
    if why:
        raise UnsupportedModel(
            f"llama.cpp's {arch.name} has no place for this checkpoint's {why}",
            hint="--format edge runs it on every CPU",
        )
    return arch


def _recurrent_lack(spec: ModelSpec, arch: Architecture, biases: set[str]) -> str:
    """What of the recurrent layers llama.cpp has no place for."""
    states = [layer.recurrence for layer in spec.layers if layer.recurrence]
    if not states:
        return ""
    state = states[0]
    if not arch.recurrent:
        return "recurrent layers"
    if state.dt_min or state.norm_eps != spec.norm_eps:
        return "least step, or epsilon of its states' norms"
    if arch.recurrent == "delta" and (state.n_heads, state.key_dim) != (state.n_key_heads, state.value_dim):
        return "value heads (as many as key heads, and as large, is what is written)"
    if arch.recurrent == "delta" and not attention_interval(spec):
        return "attention that does not come at regular intervals"
    if arch.name == "mamba2" and "taps_v" not in biases:
        return "convolutions without a bias"
    if arch.name == "granitehybrid" and state.values != 2 * spec.d_model:
        return "width of states (twice the model's is what it has)"
    return ""


def computed(spec: ModelSpec) -> ModelSpec:
    """The spec that llama.cpp computes: many of its architectures attend to everything."""
    arch = of(spec)
    if arch is None or arch.windows:
        return spec
    return dataclasses.replace(
        spec, layers=tuple(dataclasses.replace(layer, window=None) for layer in spec.layers)
    )


def query_scale(spec: ModelSpec, arch: Architecture) -> float:
    """What the queries are multiplied by, where llama.cpp takes 1 / sqrt(head_dim) and the spec another
    scale.
    """
    layer = next((layer for layer in spec.layers if layer.mixer == "attention"), None)
    if layer is None or arch.name in ("granite", "granitehybrid", "gemma4"):
        return 1.0
    return spec.attn_scale * math.sqrt(layer.head_dim)


@dataclass(frozen=True)
class Angles:
    """`theta ** (-2 i / dim) / (linear * factors[i])`"""

    theta: float
    linear: float = 1.0
    factors: np.ndarray[Any, np.dtype[np.float32]] | None = None


def angles(rope: Rope) -> Angles:
    """A geometric row as base and linear factor, also one that ends in zeros; anything else as factors of the
    usual base.
    """
    pairs = len(rope.inv_freq)
    still = rope.inv_freq.count(0.0)  # proportional: the last of a whole head's are not turned
    if still and pairs - still > 1 and not any(rope.inv_freq[pairs - still :]):
        factors = [1.0] * (pairs - still) + [STILL] * still
        return Angles(rope.inv_freq[1] ** -pairs, 1.0, np.array(factors, np.float32))
    log = np.log(np.array(rope.inv_freq, np.float64))
    if pairs > 1:
        slope = (log[-1] - log[0]) / (pairs - 1)
        if np.abs(log - (log[0] + slope * np.arange(pairs))).max() < 1e-9:
            return Angles(math.exp(-slope * pairs), math.exp(-log[0]))
    base = 10000.0 ** -(np.arange(pairs) / pairs)
    return Angles(10000.0, 1.0, (base / np.array(rope.inv_freq)).astype(np.float32))


def metadata(model: ConvertInput, arch: Architecture) -> dict[str, Any]:
    """Keys after `<architecture>.`; int, float, bool and lists of them."""
    spec = model.spec
    layers = spec.layers
    first = next((layer for layer in layers if layer.mixer == "attention"), layers[0])

    # Qwen3.5's recurrent layers say nothing; those of others are the layers without such heads.
    shared = first.n_kv_heads if arch.recurrent == "delta" else 0

    def each(values: list[int]) -> int | list[int]:
        return values[0] if len(set(values)) == 1 else values

    found: dict[str, Any] = {
        "vocab_size": spec.vocab_size,
        "context_length": spec.context or ENDLESS,
        "embedding_length": spec.d_model,
        "block_count": len(layers),
        "feed_forward_length": each([layer.d_ff for layer in layers]),
        "attention.head_count": each([layer.n_heads or first.n_heads for layer in layers]),
        "attention.head_count_kv": each([layer.n_kv_heads or shared for layer in layers]),
        f"attention.layer_norm_{'rms_' if spec.norm == 'rms' else ''}epsilon": spec.norm_eps,
    }
    if first.head_dim:
        found |= {"attention.key_length": first.head_dim, "attention.value_length": first.head_dim}
    if spec.norm == "layer":
        found["use_parallel_residual"] = first.parallel
    if arch.name in ("granite", "granitehybrid"):
        found |= {
            "embedding_scale": spec.embed_scale,
            "residual_scale": spec.residual_scale,
            "attention.scale": spec.attn_scale,
            "logit_scale": 1 / spec.logit_scale,
        }
    if spec.attn_softcap:
        found["attn_logit_softcapping"] = spec.attn_softcap
    if spec.logit_softcap:
        found["final_logit_softcapping"] = spec.logit_softcap
    if arch.windows:
        window = min((layer.window for layer in layers if layer.window), default=0)
        found["attention.sliding_window"] = window
        found["attention.sliding_window_pattern"] = [layer.window is not None for layer in layers]
    elif arch.name == "phi3":
        found["attention.sliding_window"] = 0
    if spec.moe:
        found |= {
            "expert_count": first.n_experts,
            "expert_used_count": spec.moe.top_k,
            "expert_feed_forward_length": first.d_ff,
        }
    if arch.name == "gemma4":
        found |= _of_gemma4(spec)
    if state := next((layer.recurrence for layer in layers if layer.recurrence), None):
        found |= {
            "ssm.conv_kernel": state.kernel,
            "ssm.inner_size": state.values,
            "ssm.state_size": state.key_dim,
            "ssm.time_step_rank": state.n_heads,
            "ssm.group_count": state.n_key_heads,
        }
    if arch.name == "qwen35":
        found |= {
            "full_attention_interval": attention_interval(spec),
            "rope.dimension_sections": [11, 11, 10, 0],  # of a text, whose positions are all alike
        }
    if arch.name == "granitehybrid":
        found["rope.scaling.finetuned"] = first.rope is not None  # its word for whether heads are rotated
    if any(layer.mixer == "conv" for layer in layers):
        found["shortconv.l_cache"] = max(layer.conv_kernel for layer in layers)
    return found | _rope(spec, arch)


def _shares_the_last(spec: ModelSpec) -> bool:
    own = sum(layer.kv_layer is None for layer in spec.layers)
    return all(layer.kv_layer in (None, own - (1 if layer.window is None else 2)) for layer in spec.layers)


def _of_gemma4(spec: ModelSpec) -> dict[str, Any]:
    """Its global layers have heads of another size than those with a window."""
    far = next(layer for layer in spec.layers if layer.window is None)
    near = next((layer for layer in spec.layers if layer.window is not None), far)
    return {
        "attention.key_length": far.head_dim,
        "attention.value_length": far.head_dim,
        "attention.key_length_swa": near.head_dim,
        "attention.value_length_swa": near.head_dim,
        "attention.shared_kv_layers": sum(layer.kv_layer is not None for layer in spec.layers),
        "embedding_length_per_layer_input": spec.ple.dim if spec.ple else 0,
        "rope.dimension_count_swa": near.head_dim,
    }


def _rope(spec: ModelSpec, arch: Architecture) -> dict[str, Any]:
    if arch.name == "gemma4":
        far, near = (angles(rope).theta for rope in spec.ropes)
        dim = spec.ropes[0].dim
        return {"rope.dimension_count": dim, "rope.freq_base": far, "rope.freq_base_swa": near}
    used = sorted({layer.rope for layer in spec.layers if layer.rope is not None})
    if not used:
        return {}
    rope = spec.ropes[used[0]]
    ours = angles(rope)
    found: dict[str, Any] = {"rope.dimension_count": rope.dim, "rope.freq_base": ours.theta}
    if rope.long_inv_freq is not None:
        found["rope.freq_base"] = 10000.0
        found["rope.scaling.original_context_length"] = rope.original_context
    elif ours.factors is not None and not arch.angles:
        raise UnsupportedModel(
            f"llama.cpp's {arch.name} has no place for this checkpoint's rotary scaling",
            hint="--format edge runs it on every CPU",
        )
    elif abs(ours.linear - 1) > 1e-9:
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": ours.linear}
    if rope.factor != 1.0:
        found["rope.scaling.attn_factor"] = rope.factor
    for index in used[1:]:  # Gemma 3: layers with a window have a base of their own
        found["rope.freq_base_swa"] = angles(spec.ropes[index]).theta
    return found


def rope_tensors(spec: ModelSpec, arch: Architecture) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    used = sorted({layer.rope for layer in spec.layers if layer.rope is not None})
    if not used:
        return {}
    rope = spec.ropes[used[0]]
    base = 10000.0 ** -(np.arange(rope.dim // 2) / (rope.dim // 2))
    if rope.long_inv_freq is not None:
        return {
            "rope_factors_long.weight": (base / np.array(rope.long_inv_freq)).astype(np.float32),
            "rope_factors_short.weight": (base / np.array(rope.inv_freq)).astype(np.float32),
        }
    factors = angles(rope).factors
    return {} if factors is None or not arch.angles else {"rope_freqs.weight": factors}
