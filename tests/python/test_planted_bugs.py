"""A verification that can fail: bugs planted in a 4-bit output of every format, and all refused.

An output is written from a description that is wrong in one place, and held against the right one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgekit import engines
from edgekit.converters import convert, formats, models
from edgekit.converters.convert import ConvertInput
from edgekit.converters.spec import ModelSpec, Source
from edgekit.errors import UnsupportedModel, VerificationFailed
from edgekit.verification import check

# Everything in which a bug can hide: offsets of norms, windows, two rotary bases, grouped heads, an output
# matrix of its own.
CONFIG: dict[str, Any] = {
    "model_type": "gemma3_text",
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "max_position_embeddings": 40,
    "sliding_window": 6,
    "sliding_window_pattern": 2,
    "rope_theta": 1000.0,
    "rope_local_base_freq": 100.0,
    "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": False,
}
FORMATS = ["edge", "onnx", "onnx ring", "mlx", "coreml", "gguf"]
ENGINE, WEIGHTS, TOLD = (
    "does not compute what the stored weights say",
    "is not the checkpoint's",
    "the output says",
)
Tensors = dict[str, Source]


@dataclass(frozen=True)
class Bug:
    """What is wrong, and what the refusal says of it. `config`: the same in the words that an MLX directory
    hands on, whose description is its config.
    """

    says: str
    spec: Callable[[ModelSpec], ModelSpec] | None = None
    tensors: Callable[[Tensors], Tensors] | None = None
    config: dict[str, Any] | None = None


def every_layer(**members: Any) -> Callable[[ModelSpec], ModelSpec]:
    return lambda spec: replace(spec, layers=tuple(replace(layer, **members) for layer in spec.layers))


def windows(change: int) -> Callable[[ModelSpec], ModelSpec]:
    return lambda spec: replace(
        spec,
        layers=tuple(replace(x, window=x.window and x.window + change) for x in spec.layers),
    )


def theta(times: float) -> Callable[[ModelSpec], ModelSpec]:
    def slower(spec: ModelSpec) -> ModelSpec:
        ropes = [
            replace(r, inv_freq=tuple(f * times ** (-i / len(r.inv_freq)) for i, f in enumerate(r.inv_freq)))
            for r in spec.ropes
        ]
        return replace(spec, ropes=tuple(ropes))

    return slower


def swapped(one: str, other: str) -> Callable[[Tensors], Tensors]:
    """Tensors whose names hold `one` change places with those whose names hold `other`."""

    def swap(tensors: Tensors) -> Tensors:
        moved = {n.replace(one, other): s for n, s in tensors.items() if one in n}
        moved |= {n.replace(other, one): s for n, s in tensors.items() if other in n}
        return {name: moved.get(name, source) for name, source in tensors.items()}

    return swap


def taken(name: str, from_name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: tensors[from_name]}


def without_offsets(tensors: Tensors) -> Tensors:
    return {name: replace(source, add=0.0) for name, source in tensors.items()}


BUGS = {
    "no rotary embedding": Bug(
        ENGINE, every_layer(rope=None), config={"rope_scaling": {"rope_type": "linear", "factor": 1e9}}
    ),
    "another rotary base": Bug(ENGINE, theta(10.0), config={"rope_theta": 10000.0}),
    "bases of near and far layers swapped": Bug(
        ENGINE,
        lambda spec: replace(spec, ropes=spec.ropes[::-1]),
        config={"rope_theta": 100.0, "rope_local_base_freq": 1000.0},
    ),
    "half the attention scale": Bug(
        ENGINE,
        lambda spec: replace(spec, attn_scale=spec.attn_scale / 2),
        config={"query_pre_attn_scalar": 128},
    ),
    "a window of one token less": Bug(ENGINE, windows(-1), config={"sliding_window": 5}),
    "a window of one token more": Bug(ENGINE, windows(1), config={"sliding_window": 7}),
    "another activation": Bug(ENGINE, lambda spec: replace(spec, activation="silu")),
    "another epsilon": Bug(TOLD, lambda spec: replace(spec, norm_eps=1e-5), config={"rms_norm_eps": 1e-5}),
    "embeddings not scaled": Bug(ENGINE, lambda spec: replace(spec, embed_scale=1.0)),
    "two layers swapped": Bug(WEIGHTS, tensors=swapped("layers.0.", "layers.2.")),
    "gate and up swapped": Bug(WEIGHTS, tensors=swapped(".gate", ".up")),
    "keys of another layer": Bug(WEIGHTS, tensors=taken("layers.1.k", "layers.0.k")),
    "values of another layer": Bug(WEIGHTS, tensors=taken("layers.2.v", "layers.1.v")),
    "norms swapped": Bug(WEIGHTS, tensors=swapped(".attn_norm", ".ffn_norm")),
    "offsets of norms forgotten": Bug(WEIGHTS, tensors=without_offsets),
    "the embedding as output matrix": Bug(WEIGHTS, tensors=taken("head", "embed")),
}
# What a format has no place for, so that it cannot be wrong: mlx-lm's and llama.cpp's own files have the
# activation and the scale of embeddings in their code, and MLX keeps norms as the checkpoint has them.
NO_PLACE = {
    "mlx": {"another activation", "embeddings not scaled", "offsets of norms forgotten"},
    "gguf": {"another activation", "embeddings not scaled"},
}


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> ConvertInput:
    path = tmp_path_factory.mktemp("right")
    family, random = models.load(CONFIG), np.random.default_rng(0)
    tensors = {}
    for name, source in family.tensors.items():
        shape = family.spec.shape(name)
        values = random.standard_normal(shape) * (1.5 / shape[-1] ** 0.5 if len(shape) == 2 else 0.3)
        tensors[source.name] = values.astype(np.float32)
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    return convert.read(path, "right")


def written(kind: str, model: ConvertInput, path: Path) -> str:
    """Writes an output with 4 bits; the name of its format."""
    format, _, ring = kind.partition(" ")
    if format in ("coreml", "gguf"):
        pytest.importorskip("coremltools" if format == "coreml" else "gguf", reason="needs an extra")
    options = {"opset_only": True} if ring else {}
    formats.named(format).write(model, path, "q4", **options)
    return format


def runs(format: str) -> bool:
    """Whether the format's engine is installed here."""
    try:
        backend = formats.named(format).BACKEND
        engines.called(backend).open(Path("no such output"), 1, backend)
    except UnsupportedModel:
        return False
    except Exception:
        return True
    return True


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_right_passes_with_room(kind: str, right: ConvertInput, tmp_path: Path) -> None:
    path = tmp_path / f"out{'.gguf' if kind == 'gguf' else ''}"
    format = written(kind, right, path)
    for source in (right, None):
        output = formats.named(format).read_back(path, None if source is None else right.spec)
        found = check(format, output, path, source)
        if found.engine.error is not None and found.engine.limit is not None:
            assert found.engine.error <= found.engine.limit / 2
        else:
            assert format in ("mlx", "gguf") and "not installed" in str(found.engine.not_run)
    assert output.told == output.spec and output.scheme.startswith("q4")
    assert found.weights is None and found.quality is None


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("kind", FORMATS)
def test_bugs_are_refused(kind: str, bug: str, right: ConvertInput, tmp_path: Path) -> None:
    if bug in NO_PLACE.get(kind, ()):
        return
    planted = BUGS[bug]
    wrong = right
    if planted.spec is not None:
        wrong = replace(wrong, spec=planted.spec(wrong.spec))
    if planted.tensors is not None:
        wrong = replace(wrong, tensors=planted.tensors(wrong.tensors))
    if planted.config is not None and kind == "mlx":
        checkpoint = copy.copy(wrong.checkpoint)
        checkpoint.config = CONFIG | planted.config
        wrong = replace(wrong, checkpoint=checkpoint)
    path = tmp_path / f"out{'.gguf' if kind == 'gguf' else ''}"
    format = written(kind, wrong, path)
    output = formats.named(format).read_back(path, right.spec)
    with pytest.raises(VerificationFailed) as refused:
        check(format, output, path, right)
    says = [planted.says]
    if planted.says == ENGINE and format != "edge" and (format == "gguf" or not runs(format)):
        says += [TOLD, WEIGHTS]  # a scale may have been folded into weights
    assert any(words in str(refused.value) for words in says)
