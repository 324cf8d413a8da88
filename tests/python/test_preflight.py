"""What a dry run promises is what the conversion does."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_chat_model

import edgekit
from edgekit import conversion
from edgekit.converters.formats import onnx

# Model card, configs and the graph's metadata, which the estimate leaves out.
SMALL_FILES = 40_000


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_chat_model.write(tmp_path / "tiny")


@pytest.mark.parametrize(
    ("format", "scheme", "opset_only"),
    [
        ("edge", "q4", False),
        ("edge", "f16", False),
        ("mlx", "q4", False),
        ("mlx", "mxfp4", False),
        ("mlx", "f32", False),
        ("onnx", "q4", False),
        ("onnx", "f32", False),
        ("onnx", "q4", True),
        ("gguf", "q4_0", False),
        ("gguf", "f32", False),
    ],
)
def test_sizes_are_those_of_the_output(
    checkpoint: Path, tmp_path: Path, format: str, scheme: str, opset_only: bool
) -> None:
    if format == "gguf":
        pytest.importorskip("gguf", reason="needs the [gguf] extra")

    def converted(dry_run: bool) -> edgekit.ConvertReport:
        return edgekit.convert(
            checkpoint,
            tmp_path / "out",
            format=format,
            scheme=scheme,
            opset_only=opset_only,
            verify=False,
            dry_run=dry_run,
        )

    promised = converted(dry_run=True)
    assert not (tmp_path / "out").exists()
    estimate = promised.preflight
    assert estimate is not None and promised.bytes == estimate.bytes
    done = converted(dry_run=False)
    assert done.bytes is not None and done.preflight is None
    # An .edge file keeps room in its header; the directories of the others hold the tokenizer too.
    assert abs(done.bytes - estimate.bytes) < SMALL_FILES
    weights = tmp_path / "out" / "model.onnx_data"
    if format == "onnx":
        graph = (tmp_path / "out" / "model.onnx").stat().st_size
        assert 0 <= weights.stat().st_size + graph - estimate.bytes < 1000
    assert estimate.memory_bytes > estimate.bytes
    assert estimate.seconds > 0
    assert (estimate.weight_error == 0) == (scheme == "f32")
    assert estimate.weight_error < 0.15


def test_the_opset_alone_belongs_to_onnx(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(edgekit.UsageError, match="onnx"):
        edgekit.convert(checkpoint, tmp_path / "out", format="mlx", opset_only=True)
    with pytest.raises(edgekit.UsageError, match="q4, q8, f32"):
        edgekit.convert(checkpoint, tmp_path / "out", format="onnx", scheme="f16", opset_only=True)
    assert set(onnx.OPSET_ONLY_SCHEMES) <= set(onnx.SCHEMES)


@pytest.mark.parametrize("format", conversion.schemes())
def test_a_dry_run_refuses_what_the_conversion_refuses(format: str, tmp_path: Path) -> None:
    if format == "gguf":
        pytest.importorskip("gguf", reason="needs the [gguf] extra")
    checkpoint = tiny_chat_model.write(
        tmp_path / "tiny", rope_scaling={"rope_type": "dynamic", "factor": 2.0}
    )
    with pytest.raises(edgekit.UnsupportedModel, match="dynamic"):
        edgekit.convert(checkpoint, tmp_path / "out", format=format, dry_run=True)
