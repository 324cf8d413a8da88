"""MLX directories as checkpoints: hostile ones get errors (what well-formed ones give is in
test_format_mlx).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.converters import convert, sources
from edgekit.converters.formats import mlx
from edgekit.converters.sources.mlx import MlxCheckpoint
from edgekit.errors import EdgekitError

pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import make_checkpoint


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    model = convert.read(make_checkpoint("llama", tmp_path / "hf"), "llama")
    mlx.write(model, tmp_path / "out", "q4")
    return tmp_path / "out"


def test_is_found_by_its_config(directory: Path) -> None:
    assert isinstance(sources.open_source(directory), MlxCheckpoint)


@pytest.mark.parametrize(
    "quantization",
    [
        {"group_size": 64, "bits": 3, "mode": "affine"},
        {"group_size": 32, "bits": 4, "mode": "affine"},
        {"group_size": 0, "bits": 4, "mode": "affine"},
        {"group_size": 64, "bits": "4", "mode": "affine"},
        {"group_size": 64, "bits": 4, "mode": "ternary"},
        {"group_size": 64, "bits": 4, "mode": "mxfp4"},
        {"bits": 4},
    ],
)
def test_a_quantization_that_does_not_fit_is_an_error(directory: Path, quantization: dict[str, Any]) -> None:
    config = json.loads((directory / "config.json").read_text()) | {"quantization": quantization}
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(EdgekitError):
        MlxCheckpoint(directory).read("model.layers.0.self_attn.q_proj.weight")


def test_rows_outside_are_an_error(directory: Path) -> None:
    checkpoint = MlxCheckpoint(directory)
    whole = checkpoint.read("model.embed_tokens.weight")
    assert (checkpoint.read("model.embed_tokens.weight", (3, 9)) == whole[3:9]).all()
    with pytest.raises(EdgekitError, match="rows"):
        checkpoint.read("model.embed_tokens.weight", (3, 1000))
