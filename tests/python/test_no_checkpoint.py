"""What is given where a checkpoint belongs is called by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.converters.sources import open_source
from edgekit.errors import InvalidFile


@pytest.mark.parametrize(
    ("files", "given", "words"),
    [
        (["passwd"], "passwd", "is no checkpoint"),
        (["m.edge"], "m.edge", "an edgekit package already"),
        (["m.edge"], ".", "a folder with edgekit packages"),
        (["model.safetensors"], "model.safetensors", "without config.json"),
        (["pytorch_model.bin"], "pytorch_model.bin", "pickles"),
        (["adapter_config.json", "adapter_model.safetensors"], ".", "a LoRA adapter"),
        (["config.json", "model.onnx"], ".", "in ONNX format"),
        (["config.json", "model.mlpackage"], ".", "a Core ML package"),
        (["a.gguf", "b.gguf"], ".", "several GGUF files"),
        (["notes.txt", "photo.png"], ".", "no config.json.*it holds notes.txt, photo.png"),
        ([], ".", "it holds nothing"),
    ],
)
def test_its_name(tmp_path: Path, files: list[str], given: str, words: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InvalidFile, match=words) as caught:
        open_source(tmp_path / given)
    assert caught.value.hint
