"""The numpy forward pass against logits computed elsewhere, and its rules for a bounded cache against a plain
loop.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.converters import models
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.spec import Layer, ModelSpec, Rope
from edgekit.errors import UsageError

SHARED = Path(os.environ.get("EDGEKIT_SHARED", Path(__file__).parents[2].parent / "shared"))
HEAD_DIM = 8


def small_model(seed: int = 0, **layer: Any) -> tuple[ModelSpec, dict[str, np.ndarray]]:
    """One attention layer whose feed-forward part adds nothing, and its weights."""
    members: dict[str, Any] = {"n_heads": 4, "n_kv_heads": 2, "head_dim": HEAD_DIM, "d_ff": 4} | layer
    spec = ModelSpec(
        model_type="test",
        vocab_size=50,
        d_model=32,
        layers=(Layer(**members),),
        ropes=(Rope(HEAD_DIM, tuple(10.0 ** -np.arange(HEAD_DIM // 2))),),
        attn_scale=HEAD_DIM**-0.5,
    )
    random = np.random.default_rng(seed)
    names = [
        "embed",
        "final_norm",
        *(f"layers.0.{part}" for part in ("attn_norm", "q", "k", "v", "o", "ffn_norm", "up")),
    ]
    weights = {name: random.standard_normal(spec.shape(name)).astype(np.float32) for name in names}
    weights["layers.0.gate"] = weights["layers.0.up"]
    weights["layers.0.down"] = np.zeros(spec.shape("layers.0.down"), np.float32)
    return spec, weights


def loader(weights: dict[str, np.ndarray]) -> Any:
    def load(name: str, rows: tuple[int, int] | None = None) -> np.ndarray | None:
        values = weights.get(name)
        return values if values is None or rows is None else values[slice(*rows)]

    return load


def by_distance(
    spec: ModelSpec, weights: dict[str, np.ndarray], ids: list[int], sinks: int, window: int
) -> np.ndarray:
    """The same attention written as a loop over pairs of positions, each with the distance at which it is
    seen.
    """

    def rms(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + spec.norm_eps) * w

    at = "layers.0"
    x = weights["embed"].astype(np.float64)[ids]
    normed = rms(x, weights[f"{at}.attn_norm"])
    q = (normed @ weights[f"{at}.q"].T).reshape(len(ids), 4, HEAD_DIM)
    k = (normed @ weights[f"{at}.k"].T).reshape(len(ids), 2, HEAD_DIM)
    v = (normed @ weights[f"{at}.v"].T).reshape(len(ids), 2, HEAD_DIM)

    def pairs(vector: np.ndarray) -> np.ndarray:  # two halves of a head as complex numbers
        return vector[: HEAD_DIM // 2] + 1j * vector[HEAD_DIM // 2 :]

    inv_freq = np.array(spec.ropes[0].inv_freq)
    mixed = np.zeros((len(ids), 4, HEAD_DIM))
    for p in range(len(ids)):
        for head in range(4):
            scores = {}
            for j in range(p + 1):
                distance = p - j
                if distance >= window:
                    if j >= sinks:
                        continue
                    distance = min(p, sinks + window - 1) - j
                turned = pairs(q[p, head]) * np.exp(1j * inv_freq * distance)
                scores[j] = (turned * pairs(k[j, head // 2]).conj()).real.sum() * spec.attn_scale
            weight = {j: np.exp(s - max(scores.values())) for j, s in scores.items()}
            for j, w in weight.items():
                mixed[p, head] += w / sum(weight.values()) * v[j, head // 2]
    x = x + mixed.reshape(len(ids), -1) @ weights[f"{at}.o"].T
    return rms(x, weights["final_norm"]) @ weights["embed"].T


IDS = [int(i) for i in np.random.default_rng(1).integers(0, 50, 30)]


@pytest.mark.parametrize(("sinks", "window"), [(0, 7), (3, 7), (4, 1), (10, 9), (2, 29), (4, 26), (4, 100)])
def test_bounded_cache_equals_a_loop_over_distances(sinks: int, window: int) -> None:
    spec, weights = small_model()
    ours = Reference(spec, loader(weights), cache=(sinks, window)).logits(IDS)
    theirs = by_distance(spec, weights, IDS, sinks, window)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_a_cache_that_holds_the_text_changes_nothing() -> None:
    for window in (None, 5):
        spec, weights = small_model(window=window)
        plain = Reference(spec, loader(weights)).logits(IDS)
        np.testing.assert_array_equal(Reference(spec, loader(weights), cache=(4, 30)).logits(IDS), plain)


def test_a_layers_own_window_hides_what_is_before_it() -> None:
    spec, weights = small_model(window=6)
    ours = Reference(spec, loader(weights)).logits(IDS)
    theirs = by_distance(spec, weights, IDS, 0, 6)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_logits_do_not_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, weights = small_model()
    whole = Reference(spec, loader(weights), cache=(2, 7)).logits(IDS)
    monkeypatch.setattr("edgekit.converters.interpreters.numpy.QUERY_SLICE", 4)
    monkeypatch.setattr("edgekit.converters.interpreters.numpy.HEAD_SLICE_BYTES", 4 * 32 * 7)
    np.testing.assert_allclose(
        Reference(spec, loader(weights), cache=(2, 7)).logits(IDS), whole, rtol=1e-5, atol=1e-5
    )


def test_long_context_takes_the_long_angles() -> None:
    spec, weights = small_model()
    short = dataclasses.replace(
        spec.ropes[0], long_inv_freq=tuple(f / 3 for f in spec.ropes[0].inv_freq), original_context=len(IDS)
    )
    spec = dataclasses.replace(spec, ropes=(short,))
    here = Reference(spec, loader(weights)).logits(IDS)
    far = Reference(spec, loader(weights), context=len(IDS) + 1).logits(IDS)
    longer = Reference(spec, loader(weights)).logits([*IDS, 0])[:-1]
    assert np.abs(here - far).max() > 0.01
    np.testing.assert_allclose(far, longer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ids", [[], [50], [-1]])
def test_tokens_outside_the_vocabulary_are_refused(ids: list[int]) -> None:
    spec, weights = small_model()
    with pytest.raises(UsageError, match="from 0 to 49"):
        Reference(spec, loader(weights)).logits(ids)


def test_a_missing_matrix_is_named() -> None:
    spec, weights = small_model()
    del weights["layers.0.o"]
    with pytest.raises(UsageError, match=r"layers\.0\.o"):
        Reference(spec, loader(weights)).logits(IDS)


@pytest.mark.parametrize("name", ["stories260K", "babyllama-tok105"])
def test_trained_models_agree_with_float64(name: str) -> None:
    path = SHARED / "data" / "weights" / name / "hf-derived"
    if not path.exists():
        pytest.skip(f"needs {path}: set EDGEKIT_SHARED")
    model = models.open_model(Checkpoint(path))
    for case in json.loads((path / "golden_logits.json").read_text())["cases"]:
        last = Reference(model.spec, model.load).logits(case["ids"])[-1]
        assert np.abs(last - np.array(case["last_logits"])).max() <= 1e-4
