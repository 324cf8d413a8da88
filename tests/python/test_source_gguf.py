"""GGUF files as checkpoints: what `formats/gguf.py` writes comes back, llama.cpp's vocabularies are read,
hostile files are errors.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from edgekit.converters import convert, models, sources
from edgekit.converters.formats import gguf as format
from edgekit.converters.formats._gguf_architecture import computed
from edgekit.converters.interpreters.numpy import Reference
from edgekit.converters.sources.gguf import GgufCheckpoint, read_header
from edgekit.errors import EdgekitError, UnsupportedModel

pytest.importorskip("transformers", reason="needs the [test] extra")
pytest.importorskip("gguf", reason="needs the [gguf] extra")

from tiny_models import TINY_CONFIGS, make_checkpoint

IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 40)]
SHARED = Path(os.environ.get("EDGEKIT_SHARED", Path(__file__).parents[2].parent / "shared"))


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_every_family_comes_back(name: str, tmp_path: Path) -> None:
    model = convert.read(make_checkpoint(name, tmp_path / "hf"), name)
    try:
        format.write(model, tmp_path / "out.gguf", "f32")
    except UnsupportedModel:
        pytest.skip("llama.cpp has no place for it")
    opened = models.open_model(sources.open_source(tmp_path / "out.gguf"))
    want = Reference(computed(model.spec), model.load).logits(IDS)
    got = Reference(opened.spec, opened.load).logits(IDS)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("scheme", ["q4_0", "q5_1", "q8_0", "bf16"])
def test_blocks_come_back(scheme: str, tmp_path: Path) -> None:
    model = convert.read(make_checkpoint("llama", tmp_path / "hf"), "llama")
    format.write(model, tmp_path / "out.gguf", scheme)
    opened = models.open_model(GgufCheckpoint(tmp_path / "out.gguf"))
    limit = {"q4_0": 0.15, "q5_1": 0.06, "q8_0": 0.01, "bf16": 0.005}[scheme]
    for name in model.tensors:
        want, got = model.load(name), opened.load(name)
        assert want is not None and got is not None
        assert np.linalg.norm(got - want) <= limit * np.linalg.norm(want), name


@pytest.mark.parametrize("weights", ["stories260K", "babyllama-tok105"])
def test_a_real_model_keeps_its_tokenizer(weights: str, tmp_path: Path) -> None:
    from edgekit.converters.text.tokenizer import read_definition

    source = SHARED / "data" / "weights" / weights / "hf-derived"
    if not source.exists():
        pytest.skip("needs ../shared")
    model = convert.read(source, weights)
    format.write(model, tmp_path / "out.gguf", "f32")
    opened = GgufCheckpoint(tmp_path / "out.gguf")
    tokenizers = pytest.importorskip("tokenizers", reason="needs the [test] extra")
    ours = tokenizers.Tokenizer.from_file(str(opened.path / "tokenizer.json"))
    theirs = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    assert read_definition(opened.path) is not None
    for text in ("Once upon a time, there was a little girl.", " two  spaces\nand a line", "naïve café 3.14"):
        assert ours.encode(text).ids == theirs.encode(text).ids


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    model = convert.read(make_checkpoint("llama", tmp_path / "hf"), "llama")
    format.write(model, tmp_path / "out.gguf", "f32")
    whole = (tmp_path / "out.gguf").read_bytes()
    damaged = tmp_path / "damaged.gguf"
    for cut in (0, 3, 11, 40, 200, 1000, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:cut])
        with pytest.raises(EdgekitError):
            GgufCheckpoint(damaged)
    random = np.random.default_rng(0)
    for _ in range(300):  # any byte of the header may be wrong: an error or a model, nothing else
        data = bytearray(whole)
        for at in random.integers(0, 3000, 3):
            data[at] = int(random.integers(256))
        damaged.write_bytes(data)
        try:
            opened = GgufCheckpoint(damaged)
            opened.read("model.norm.weight")
        except EdgekitError:
            continue


def test_huge_counts_are_errors_at_once(tmp_path: Path) -> None:
    for tensors, keys in ((1 << 60, 0), (0, 1 << 60), (1 << 40, 1 << 40)):
        (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + bytes(100))
        with pytest.raises(EdgekitError):
            read_header(tmp_path / "x.gguf")
