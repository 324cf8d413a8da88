"""Core AI assets, computed by Apple's own runtime: on Linux its CPU form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coreai", reason="needs coreai-core (the [coreai] extra)")
pytest.importorskip("coremltools", reason="needs coremltools (the [coreai] extra)")
pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import make_checkpoint

import edgekit
from edgekit.converters import convert
from edgekit.converters.convert import ConvertInput
from edgekit.converters.formats import coreai, coreml
from edgekit.converters.spec import ModelSpec
from edgekit.engines.coreai import Engine
from edgekit.errors import InvalidFile, UsageError, VerificationFailed
from edgekit.verification import check

WINDOW, SINKS, CHUNK = 40, 3, 32
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 120)]
PROMPT = 50  # tokens at once; the others one by one
# Of the logits' spread, root mean square: float16 products, summed by Apple's runtime in its own order.
LIMITS = {"f32": 1e-3, "f16": 1e-2, "q4": 1e-2, "neural_engine_q4": 1e-2, "neural_engine_q8": 1e-2}

Reader = Callable[[str], ConvertInput]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Tiny checkpoints by name."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return lambda name: convert.read(make_checkpoint(name, folder), name)


def written(model: ConvertInput, path: Path, scheme: str) -> Path:
    coreai.write(model, path, scheme, window=WINDOW, sinks=SINKS, chunk=CHUNK)
    return path


@pytest.mark.parametrize(
    ("name", "scheme", "tokens"),
    [
        ("llama", "f32", 120),
        ("llama", "q4", 120),
        ("qwen3", "neural_engine_q4", 120),
        ("gemma3", "f16", 120),
        ("lfm2", "neural_engine_q8", 120),
    ],
)
def test_apples_runtime_gives_the_logits_of_the_assets_weights(
    read: Reader, name: str, scheme: str, tokens: int, tmp_path: Path
) -> None:
    """Past the end of the ring, whose turn is 71 tokens."""
    path = written(read(name), tmp_path / "out", scheme)
    ids = IDS[:tokens]
    want = coreai.read_back(path).reference().logits(ids)
    session = Engine(path).session()
    got = [session.forward(np.array(ids[:PROMPT], np.int32), False)[-1]]
    got += [session.forward(np.array([id], np.int32), False)[-1] for id in ids[PROMPT:]]
    want, found = want[PROMPT - 1 :], np.stack(got)
    error = np.sqrt(np.square(found - want).mean()) / want.std()
    print(f"{name}, {scheme}: {error:.4f}")  # docs/coreai.md
    assert error <= LIMITS[scheme]
    clear = np.diff(np.sort(want, 1)[:, -2:], axis=1)[:, 0] > 5 * LIMITS[scheme] * want.std()
    assert clear.mean() > 0.5
    assert np.array_equal(found.argmax(1)[clear], want.argmax(1)[clear])


@pytest.mark.parametrize("scheme", ["f32", "q4", "neural_engine_q4"])
def test_restored_weights_are_those_of_the_asset(read: Reader, scheme: str, tmp_path: Path) -> None:
    """Read from its program: what Core ML's package of the scheme has."""
    model = read("llama")
    asset = coreai.read_back(written(model, tmp_path / "out", scheme))
    coreml.write(model, tmp_path / "package", scheme)
    package = coreml.read_back(tmp_path / "package")
    for name in model.tensors:
        own, other = asset.load(name), package.load(name)
        assert own is not None and other is not None and asset.layout(name) == package.layout(name)
        assert np.array_equal(own, other), name
    assert asset.told == package.told == model.spec


BUGS: dict[str, tuple[str, Callable[[ConvertInput], ConvertInput]]] = {
    "another activation": (
        "does not compute what the stored weights say",
        lambda model: replace(model, spec=replace(model.spec, activation="relu")),
    ),
    "half the attention scale": (
        "does not compute what the stored weights say",
        lambda model: replace(model, spec=replace(model.spec, attn_scale=model.spec.attn_scale / 2)),
    ),
    "angles twice as fast": (
        "does not compute what the stored weights say",
        lambda model: replace(
            model,
            spec=replace(
                model.spec,
                ropes=tuple(
                    replace(rope, inv_freq=tuple(2 * x for x in rope.inv_freq)) for rope in model.spec.ropes
                ),
            ),
        ),
    ),
    "queries' norm of the keys": (
        "is not the checkpoint's",
        lambda model: replace(
            model, tensors=model.tensors | {"layers.0.q_norm": model.tensors["layers.0.k_norm"]}
        ),
    ),
    "gate and up swapped": (
        "is not the checkpoint's",
        lambda model: replace(
            model,
            tensors=model.tensors
            | {"layers.0.gate": model.tensors["layers.0.up"], "layers.0.up": model.tensors["layers.0.gate"]},
        ),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_are_refused(read: Reader, bug: str, tmp_path: Path) -> None:
    says, planted = BUGS[bug]
    right = read("qwen3")
    path = written(planted(right), tmp_path / "out", "q4")
    spec: ModelSpec = right.spec
    with pytest.raises(VerificationFailed, match=says):
        check("coreai", coreai.read_back(path, spec), path, right)


def test_an_asset_is_a_model(read: Reader, tmp_path: Path) -> None:
    path = written(read("llama_mqa"), tmp_path / "out", "q8")
    with edgekit.Model(path) as model, model.session() as session:
        assert model.isa == "coreai" and model.scheme == "q8"
        events = list(session.generate(IDS[:60], max_tokens=20, temperature=0, ignore_eos=True))
        assert events[-1].finish == "length" and any(event.kind == "evicted" for event in events)
        with pytest.raises(UsageError, match="written for 40"):
            model.session(window=32)


def test_refusals(read: Reader, tmp_path: Path) -> None:
    model = read("llama")
    with pytest.raises(UsageError, match="neural_engine_q6"):
        coreai.write(model, tmp_path / "out", "neural_engine_q6")
    path = written(model, tmp_path / "out", "f16")
    (path / "model.aimodel" / coreai.PROGRAM).write_bytes(b"no program")
    with pytest.raises(InvalidFile, match=r"main\.hash"):
        Engine(path)
    with pytest.raises(InvalidFile, match="ends before byte"):
        coreai.read_back(path).load("layers.0.q")
    (path / "model.aimodel" / "metadata.json").write_text(json.dumps({}))
    with pytest.raises(InvalidFile, match="metadata"):
        coreai.read_back(path)
