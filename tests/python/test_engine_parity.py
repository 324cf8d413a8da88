"""The engine against Transformers: the same logits for every family, over prefill, decode and wraps of the
ring.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="parity needs the test extra: pip install edgekit[test]")

from tiny_models import TINY_CONFIGS, make_checkpoint, make_model, make_package, torch_logits

from edgekit import Model, isas
from edgekit.bench.cost import Cost
from edgekit.converters import convert
from edgekit.converters.formats import edge
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.spec import Source
from edgekit.errors import EdgekitError, InvalidFile, UnsupportedModel

WRAPPED = ("llama", "llama_yarn", "qwen3", "gemma3", "gemma2", "gemma4_shared", "smollm3", "olmo2", "lfm2",
           "lfm3", "gpt_oss", "granite_swa", "hunyuan", "cohere2", "qwen3_5", "minicpm3_bias",
           "youtu")  # fmt: skip
SHARED = "gemma4_shared"
TOLERANCE = 1e-4
LENGTH = 40


def tokens(model: Model, count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, model.vocab_size, count).tolist()


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest logit."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_prefill_and_decode_agree_with_transformers(name: str, directory: Path) -> None:
    model = Model(make_package(name, directory), threads=2)
    ids = tokens(model, LENGTH)
    expected = torch_logits(name, ids)
    # longrope chooses its angles by the session's context, Transformers by the text's length
    session = model.session(window=LENGTH, sinks=0, kv="f32")
    prefilled = session.forward(ids)
    assert relative(prefilled, expected) <= TOLERANCE
    session.reset()
    head = session.forward(ids[:5])
    steps = [session.forward([id])[-1] for id in ids[5:]]
    assert relative(np.concatenate([head, steps]), expected) <= TOLERANCE
    session.reset()  # rows whose logits nobody wants leave the last layer early, whole chunks among them
    assert session.plan.chunk < LENGTH / 2
    assert relative(session.forward(ids[:-1], all_logits=False)[-1], expected[-2]) <= TOLERANCE
    assert relative(session.forward(ids[-1:])[-1], expected[-1]) <= TOLERANCE


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize(
    "name", ["llama_mqa", "gemma3", "gemma4_shared", "olmoe", "lfm2", "qwen3_5", "youtu"]
)
def test_every_instruction_set_agrees(name: str, isa: str, directory: Path) -> None:
    model = Model(make_package(name, directory), isa=isa)
    ids = tokens(model, LENGTH)
    assert (
        relative(model.session(window=64, sinks=0, kv="f32").forward(ids), torch_logits(name, ids))
        <= TOLERANCE
    )


def test_experts_of_different_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one quantized, the others not: the engine has room for both kinds of activations."""
    monkeypatch.setattr(
        edge.Scheme, "layout", lambda self, name: "q8_block32" if ".experts.0." in name else "f32"
    )
    path = make_package("olmoe", tmp_path)
    spec = convert.read(tmp_path / "olmoe", "olmoe").spec
    model = Model(path, threads=2)
    ids = tokens(model, LENGTH)
    expected = Reference(spec, edge.Package(path).load).logits(ids)
    assert relative(model.session(window=64, sinks=0, kv="f32").forward(ids), expected) <= 0.02


def test_a_tensor_that_no_layer_asks_for_is_refused(tmp_path: Path) -> None:
    """It may be a part that a later edgekit computes with."""
    model = convert.read(make_checkpoint("llama", tmp_path), "llama")
    more = {"layers.1.conv_bias": Source("", add=1.0, shape=(64,))}
    edge.write(dataclasses.replace(model, tensors=model.tensors | more), tmp_path / "out.edge", "f32")
    with pytest.raises(UnsupportedModel, match=r"'layers\.1\.conv_bias', which this version"):
        Model(tmp_path / "out.edge")


@pytest.mark.parametrize("kv, tolerance", [("f32", 1e-4), ("f16", 2e-3)])
@pytest.mark.parametrize("name", WRAPPED)
def test_sinks_and_window_after_many_wraps(name: str, kv: Any, tolerance: float, directory: Path) -> None:
    sinks, window, length = 3, 16, 200
    path = make_package(name, directory)
    model = Model(path, threads=2)
    ids = tokens(model, length, seed=1)
    spec = convert.read(make_checkpoint(name, directory), name).spec
    expected = Reference(spec, edge.Package(path).load, cache=(sinks, window)).logits(ids)
    session = model.session(window=window, sinks=sinks, kv=kv)
    whole = session.forward(ids)
    assert relative(whole, expected) <= tolerance
    session.reset()
    single = np.concatenate([session.forward([id]) for id in ids])
    assert relative(single, expected) <= tolerance


def transformers_with_ring(name: str, ids: list[int], sinks: int, window: int) -> np.ndarray:
    """Transformers' own model, its attention replaced by one that sees what a session's cache holds.

    Queries and keys arrive rotated by their absolute positions. A query past the cache's capacity C sees
    the last `window` keys at their distance, and the sinks as from position C - 1: its rotation is turned
    back by the rest.
    """
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    capacity = sinks + window
    model = make_model(name)
    text = getattr(model.model, "language_model", model.model)

    def inv_freq(module: Any) -> torch.Tensor:
        rotary = text.rotary_emb
        kind = getattr(module, "layer_type", None) or getattr(module, "attention_type", None)
        found = getattr(rotary, f"{kind}_inv_freq", None)
        if found is None:
            found = rotary.inv_freq
        return found.double()

    def turned(q: torch.Tensor, module: Any) -> torch.Tensor:
        positions = torch.arange(q.shape[-2])
        turn = (torch.clamp(positions, max=capacity - 1) - positions)[:, None] * inv_freq(module)[None, :]
        cos, sin = torch.cos(turn), torch.sin(turn)
        a, b = q.double().chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(q.dtype)

    def attend(
        module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: float, **kwargs: Any
    ) -> tuple[Any, None]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        distance = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])[None, :]
        local = getattr(module, "sliding_window", None)
        keeps_sinks = local is None or local > window
        near = (distance >= 0) & (distance < (window if keeps_sinks else local))
        far = (distance >= 0) & ~near & (torch.arange(k.shape[-2]) < sinks)[None, :] & keeps_sinks
        scores = torch.where(far, turned(q, module) @ k.transpose(-1, -2), q @ k.transpose(-1, -2)) * scaling
        weights = torch.softmax(scores.masked_fill(~(near | far), float("-inf")), -1)
        return (weights @ v).transpose(1, 2).contiguous(), None

    ALL_ATTENTION_FUNCTIONS.register("edgekit_ring", attend)
    model.set_attn_implementation("edgekit_ring")
    try:
        with torch.no_grad():
            result: np.ndarray = model(torch.tensor([ids])).logits[0].float().numpy()
        return result
    finally:
        model.set_attn_implementation("eager")


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gemma4_shared", "gemma4_k_eq_v"])
def test_the_ring_agrees_with_transformers_seeing_the_same_keys(name: str, directory: Path) -> None:
    sinks, window, length = 4, 12, 150
    model = Model(make_package(name, directory))
    ids = tokens(model, length, seed=2)
    expected = transformers_with_ring(name, ids, sinks, window)
    plain = torch_logits(name, ids)
    assert (
        relative(expected[: sinks + window], plain[: sinks + window]) <= TOLERANCE
    )  # full attention while the text fits
    assert relative(expected, plain) > 100 * TOLERANCE  # and something else afterwards
    for kv, tolerance in (("f32", TOLERANCE), ("f16", 2e-3)):
        assert relative(model.session(window=window, sinks=sinks, kv=kv).forward(ids), expected) <= tolerance


@pytest.mark.parametrize(
    ("name", "known", "other", "error", "message"),
    [
        (SHARED, "v_norm", "w_norm", UnsupportedModel, "member 'w_norm' in its spec.*update"),
        (SHARED, "parallel", "parallex", UnsupportedModel, "member 'parallex' in its layer.*update"),
        # a layer with other heads; one that has none
        (SHARED, 'kv_layer\\":2', 'kv_layer\\":0', InvalidFile, "layer 4 cannot read .* layer 0"),
        (SHARED, 'kv_layer\\":2', 'kv_layer\\":3', InvalidFile, "layer 4 cannot read .* layer 3"),
        (SHARED, 'kv_layer\\":2', 'kv_layer\\":9', InvalidFile, "layer 4 cannot read .* layer 9"),
        (SHARED, 'dim\\":16,\\"proj', 'dim\\":17,\\"proj', InvalidFile, "17 numbers; a multiple of 16"),
        ("qwen3_next", "shared_gate", "shared_gait", UnsupportedModel, "member 'shared_gait' in its moe"),
        ("falcon_h1", 'd_ff\\":0', 'd_ff\\":9', InvalidFile, "beside .* a feed-forward part of its own"),
    ],
)
def test_descriptions_that_the_engine_cannot_follow_are_refused(
    name: str,
    known: str,
    other: str,
    error: type[EdgekitError],
    message: str,
    directory: Path,
    tmp_path: Path,
) -> None:
    content = make_package(name, directory).read_bytes()
    assert known.encode() in content
    path = tmp_path / "changed.edge"
    path.write_bytes(content.replace(known.encode(), other.encode()))
    with pytest.raises(error, match=message):
        Model(path)


def test_shared_keys_and_values_are_held_once(directory: Path, tmp_path: Path) -> None:
    """Layers that read another's cells have none: in the plan, in a saved session, in what a text costs."""
    path = make_package("gemma4_shared", directory)
    model, cost = Model(path, threads=2), Cost.of(path)
    own = [layer for layer in cost.spec.layers if layer.kv_layer is None]
    assert len(own) == 3 < len(cost.spec.layers)
    ids = tokens(model, 60)
    with model.session(window=32, sinks=4, kv="f32") as session:
        slots = [-(-((x.window or 36) + session.plan.chunk - 1) // 16) * 16 for x in own]
        numbers = [2 * n * x.n_kv_heads * x.head_dim for x, n in zip(own, slots, strict=True)]
        assert session.plan.cache_bytes == 4 * sum(numbers)
        session.forward(ids[:50])
        session.save(tmp_path / "state")
        with session.fork() as other:
            want = session.forward(ids[50:])
            np.testing.assert_array_equal(other.forward(ids[50:]), want)
        session.rewind(10)
        np.testing.assert_allclose(session.forward(ids[50:]), want, atol=1e-5)
        with model.session(window=32, sinks=4, kv="f32") as fresh:
            fresh.restore(tmp_path / "state")
            np.testing.assert_array_equal(fresh.forward(ids[50:]), want)
    table = cost.spec.parameters(["ple_embed"])
    beside = cost.spec.parameters(name for name in cost.spec.matrices() if name != "ple_embed")
    assert cost.body_macs + cost.head_macs == beside
    assert 4 * beside <= cost.weight_bytes < 4.1 * beside  # rows up to whole tiles
    assert 0 < model.weight_bytes - cost.weight_bytes < 4 * table  # vectors
    later = [name for name in cost.spec.matrices() if name.startswith(("layers.3.", "layers.4."))]
    assert cost.last_macs > cost.spec.parameters(later)  # a prompt leaves before them


def test_a_latent_is_held_once(directory: Path, tmp_path: Path) -> None:
    """One vector of each position and layer, whatever it is stored as, which sessions save and fork."""
    model = Model(make_package("youtu", directory), threads=2)
    ids = tokens(model, 60)
    with model.session(window=32, sinks=4, kv="f32") as session:
        slots = -(-(36 + session.plan.chunk - 1) // 16) * 16
        assert session.plan.cache_bytes == 4 * 3 * slots * 64
        session.forward(ids[:50])
        session.save(tmp_path / "state")
        with session.fork() as other:
            want = session.forward(ids[50:])
            np.testing.assert_array_equal(other.forward(ids[50:]), want)
        with model.session(window=32, sinks=4, kv="f32") as fresh:
            fresh.restore(tmp_path / "state")
            np.testing.assert_array_equal(fresh.forward(ids[50:]), want)
    expected = torch_logits("youtu", ids)
    for kv, tolerance in (("f16", 2e-3), ("int8", 0.05), ("int4", 0.5)):
        session = model.session(window=64, sinks=0, kv=kv)
        whole = session.forward(ids)
        assert relative(whole, expected) <= tolerance
        session.reset()
        np.testing.assert_array_equal(np.concatenate([session.forward([id]) for id in ids]), whole)


@pytest.mark.parametrize("scheme, tolerance", [("f16", 5e-5), ("q8", 4e-2), ("q4", 4e-2)])
@pytest.mark.parametrize("name, amplified", [("qwen3", 1), ("gemma4_shared", 2.5)])
def test_quantized_weights_compute_what_they_decode_to(
    name: str, amplified: float, scheme: str, tolerance: float, directory: Path
) -> None:
    """Against the reference on the decoded weights: what is left is the rounding of activations to 8 bits,
    which a random tiny model amplifies.
    """
    path = make_package(name, directory, scheme)
    model = Model(path)
    ids = tokens(model, LENGTH)
    spec = convert.read(make_checkpoint(name, directory), name).spec
    expected = Reference(spec, edge.Package(path).load).logits(ids)
    assert relative(model.session(window=64, kv="f32").forward(ids), expected) <= amplified * tolerance
