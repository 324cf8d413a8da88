"""The comparisons with Transformers can fail: without any one of a model's parts the reference is far off.

A part is a member of the spec, said to be what it would be without it, or a tensor that is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="parity needs the test extra: pip install edgekit[test]")

from tiny_models import make_checkpoint, torch_logits

from edgekit.converters import models
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.spec import ModelSpec

TOLERANCE = 1e-4  # of the comparisons
IDS = np.random.default_rng(0).integers(0, 199, 40).tolist()


@dataclass(frozen=True)
class Part:
    """Of the tiny model `of`: the spec without it, or the ends of the names of its tensors, which are then
    not there, or with `neutral` have this value.
    """

    of: str
    spec: Callable[[ModelSpec], ModelSpec] | None = None
    tensors: tuple[str, ...] = ()
    neutral: float | None = None


def model(**members: Any) -> Callable[[ModelSpec], ModelSpec]:
    return lambda spec: replace(spec, **members)


def layers(**members: Any) -> Callable[[ModelSpec], ModelSpec]:
    """Of those that have such a member."""
    return lambda spec: replace(
        spec,
        layers=tuple(
            replace(
                layer, **{name: value for name, value in members.items() if getattr(layer, name) is not None}
            )
            for layer in spec.layers
        ),
    )


def inside(member: str, **members: Any) -> Callable[[ModelSpec], ModelSpec]:
    """Of an object of the layers, or of the model."""

    def without(spec: ModelSpec) -> ModelSpec:
        if getattr(spec, member, None):
            return replace(spec, **{member: replace(getattr(spec, member), **members)})
        changed = [
            replace(layer, **{member: replace(getattr(layer, member), **members)})
            if getattr(layer, member)
            else layer
            for layer in spec.layers
        ]
        return replace(spec, layers=tuple(changed))

    return without


def ropes(**members: Any) -> Callable[[ModelSpec], ModelSpec]:
    return lambda spec: replace(spec, ropes=tuple(replace(rope, **members) for rope in spec.ropes))


PARTS = {
    "rotation": Part("llama", layers(rope=None)),
    "factor of the rotation": Part("phi3_long", ropes(factor=1.0)),
    "long angles": Part("phi3_long", ropes(long_inv_freq=None)),
    "windows": Part("mistral", layers(window=None)),
    "bias": Part("qwen2", tensors=("q_bias",)),
    "norm of heads": Part("qwen3", model(qk_norm="none")),
    "norm of all heads": Part("olmo2", model(qk_norm="head"), ("q_norm", "k_norm")),
    "norm after the rotation": Part("hunyuan", model(qk_norm="head")),
    "LayerNorm of each head": Part("stablelm_qk_norm", model(qk_norm="none")),
    "mean of LayerNorm": Part("starcoder2", model(norm="rms")),
    "norm after attention": Part("gemma2", tensors=("attn_post_norm",)),
    "norm after feed-forward": Part("gemma2", tensors=("ffn_post_norm",)),
    "norm of the embedding": Part("nanochat", tensors=("embed_norm",)),
    "norm before o": Part("bitnet", tensors=("o_norm",)),
    "norm before down": Part("bitnet", tensors=("down_norm",)),
    "norm of the values": Part("gemma4_shared", model(v_norm=False), ("v_norm",)),
    "soft-cap of scores": Part("gemma2", model(attn_softcap=0.0)),
    "soft-cap of logits": Part("gemma2_no_caps", model(logit_softcap=0.0)),
    "multiplier of scores": Part("granite", model(attn_scale=0.25)),
    "multiplier of the embedding": Part("granite", model(embed_scale=1.0)),
    "multiplier of residuals": Part("granite", model(residual_scale=1.0)),
    "multiplier of logits": Part("granite", model(logit_scale=1.0)),
    "gates of heads": Part("lfm3", model(attn_gate="none")),
    "gates of channels": Part("qwen3_5", model(attn_gate="none")),
    "sinks": Part("granite_swa", tensors=("sinks",)),
    "scalar of a layer": Part("gemma4_shared", tensors=("scalar",)),
    "per-layer embeddings": Part("gemma4_shared", model(ple=None)),
    "xIELU's slopes": Part("apertus", tensors=("alpha_p", "alpha_n"), neutral=1.0),
    "bounds of swiglu_oai": Part("gpt_oss", model(activation="silu")),
    "weights of experts that sum to 1": Part("gpt_oss", inside("moe", normalize=False)),
    "side by side": Part("phi", layers(parallel=False), ()),
    "taps of short convolutions": Part("lfm2", tensors=(".conv",), neutral=1.0),
    "latent's norm": Part("youtu", tensors=("latent_norm",), neutral=1.0),
    "norm of low-rank queries": Part("youtu", tensors=("q_down_norm",), neutral=1.0),
    "rotated part of a latent's queries": Part("youtu", tensors=("q_rope",), neutral=0.0),
    "epsilon of the latent's norm": Part("minicpm3", inside("latent", norm_eps=1e-2)),
    "router of sigmoids": Part("deepseek_v3", inside("moe", score="softmax")),
    "scale of experts": Part("deepseek_v3", inside("moe", scale=1.0)),
    "favour of experts": Part("deepseek_v3", tensors=("router_choice",)),
    "shared expert": Part("deepseek_v3", inside("moe", d_shared=0)),
    "gate of the shared expert": Part("qwen3_next", inside("moe", shared_gate=False)),
    "norms of router and experts": Part("gemma4_experts", inside("moe", own_norms=False)),
    "norm of what experts give": Part("gemma4_experts", tensors=("experts_post_norm",)),
    "norm of what the shared expert gives": Part("gemma4_experts", tensors=("shared_post_norm",)),
    "weights of each expert": Part("gemma4_experts", tensors=("router_scale",)),
    "delta rule": Part("qwen3_5", inside("recurrence", delta=False), ("state_beta",)),
    "keys of length 1": Part("qwen3_5", inside("recurrence", unit_keys=False)),
    "norm of a state's output": Part("qwen3_5", inside("recurrence", norm="none")),
    "gate before a state's norm": Part("mamba2", inside("recurrence", gate_first=False)),
    "input added to a state's output": Part("mamba2", tensors=("state_d",)),
    "bias of a state's steps": Part("mamba2", tensors=("state_dt_bias",)),
    "decay": Part("mamba2", tensors=("state_a",), neutral=-20.0),
    "convolution before a state": Part("mamba2", inside("recurrence", kernel=0)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.mark.parametrize("name", PARTS)
def test_without_it_logits_are_far_from_those_of_transformers(name: str, folder: Path) -> None:
    part = PARTS[name]
    whole = models.open_model(Checkpoint(make_checkpoint(part.of, folder)))
    expected = torch_logits(part.of, IDS)
    changed = 0

    def load(name: str, rows: tuple[int, int] | None = None) -> Any:
        nonlocal changed
        values = whole.load(name, rows)
        if values is None or not name.endswith(part.tensors or "\0"):
            return values
        changed += 1
        return None if part.neutral is None else np.full_like(values, part.neutral)

    def error(reference: Reference) -> float:
        return float(np.abs(reference.logits(IDS) - expected).max() / np.abs(expected).max())

    assert error(Reference(whole.spec, whole.load)) <= TOLERANCE
    without = part.spec(whole.spec) if part.spec else whole.spec
    assert error(Reference(without, load)) > 3 * TOLERANCE
    assert changed or without != whole.spec
