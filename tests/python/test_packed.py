"""Checkpoints that are run as they are: packed into the cache once, and again when they change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat_model
from click.testing import CliRunner

import edgekit
from edgekit.cli import cli
from edgekit.conversion import packed


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


def run(model: Path) -> dict[str, Any]:
    words = ["run", str(model), "abc", "--raw", "-n", "8", "--temperature", "0", "--ignore-eos", "--json"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_an_mlx_directory_runs(tmp_path: Path, cache: Path) -> None:
    checkpoint = tiny_chat_model.write(tmp_path / "tiny")
    edgekit.convert(checkpoint, tmp_path / "mlx", format="mlx", scheme="q8", verify=False)
    edgekit.convert(checkpoint, tmp_path / "f32.edge", scheme="f32", verify=False)
    assert run(tmp_path / "mlx")["text"]
    with edgekit.Model(next(cache.glob("*.edge"))) as ours, edgekit.Model(tmp_path / "f32.edge") as exact:
        assert ours.scheme == "q8"
        logits = [
            model.session(window=64, kv="f32").forward(exact.tokenizer.encode("abc"))
            for model in (ours, exact)
        ]
    assert np.abs(logits[0] - logits[1]).max() < 0.05 * np.ptp(logits[1])


def test_a_checkpoint_is_packed_once_until_it_changes(tmp_path: Path, cache: Path) -> None:
    checkpoint = tiny_chat_model.write(tmp_path / "tiny")
    first = packed(checkpoint)
    written = first.stat().st_mtime_ns
    assert run(checkpoint) and packed(checkpoint) == first and first.stat().st_mtime_ns == written
    with edgekit.Model(first) as model:
        assert model.scheme == "f16"
    (checkpoint / "generation_config.json").unlink()
    assert packed(checkpoint) != first
    assert len(list(cache.glob("*.edge"))) == 2


def test_what_is_damaged_leaves_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    checkpoint = tiny_chat_model.write(tmp_path / "tiny")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = CliRunner().invoke(cli, ["run", str(checkpoint), "abc"])
    assert isinstance(result.exception, (edgekit.InvalidFile, SystemExit))
    assert not [left for left in cache.iterdir() if left.suffix != ".lock"]
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()
    result = CliRunner().invoke(cli, ["run", str(checkpoint), "abc"])
    assert result.exit_code != 0
