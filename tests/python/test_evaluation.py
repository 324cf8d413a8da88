"""`edgekit eval`: the figures against what they mean, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat_model
from click.testing import CliRunner

import edgekit
from edgekit.cli import cli
from edgekit.evaluation import evaluate
from edgekit.verification import TEXT


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat_model.write(tmp_path_factory.mktemp("checkpoint"))


def packaged(checkpoint: Path, out: Path, **options: Any) -> Path:
    edgekit.convert(checkpoint, out, verify=False, **options)
    return out


def test_the_figures_are_what_they_are_called(checkpoint: Path, tmp_path: Path) -> None:
    package = packaged(checkpoint, tmp_path / "q4.edge", scheme="q4_block32")
    wide = packaged(checkpoint, tmp_path / "f32.edge", scheme="f32")
    found, same = evaluate([package, wide], checkpoint, TEXT)

    ids = None
    logs = []
    for path in (package, wide):
        with edgekit.Model(path) as model, model.session(window=model.context, sinks=0, kv="f32") as session:
            bos = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
            ids = (bos + model.tokenizer.encode(TEXT, add_special_tokens=False))[: min(512, model.context)]
            logits = session.forward(ids)[:-1].astype(np.float64)
        logs.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    assert ids is not None
    kl = (np.exp(logs[1]) * (logs[1] - logs[0])).sum(1)
    following = np.arange(len(ids) - 1), ids[1:]
    if found.tokens == len(kl):  # the text is one piece of this model's context
        assert found.kl_mean == pytest.approx(kl.mean(), rel=1e-3)
        assert found.ppl == pytest.approx(np.exp(-logs[0][following].mean()), rel=1e-3)
    assert found.tokens % len(kl) == 0
    assert found.kl_mean_interval[0] <= found.kl_mean <= found.kl_mean_interval[1]
    assert found.kl_median <= found.kl_p99 <= found.kl_p999 <= found.kl_max
    assert found.size_bytes == package.stat().st_size
    assert same.kl_max < 1e-6
    assert same.top1_agreement == 1
    assert same.ppl_ratio == pytest.approx(1, abs=1e-5)
    assert found.kl_mean > 100 * same.kl_mean


def test_an_onnx_directory_is_scored_in_its_own_engine(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = evaluate([packaged(checkpoint, tmp_path / "onnx", format="onnx", scheme="f32")], checkpoint, TEXT)
    assert found[0].kl_max < 1e-5


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None,
    reason="llama-cpp-python is not installed (the [peers] extra)",
)
def test_a_gguf_file_is_scored_in_llama_cpp(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "samples" / "model"
    reference = packaged(sample, tmp_path / "f32.edge", scheme="f32")
    found = evaluate(
        [packaged(sample, tmp_path / "m.gguf", format="gguf", scheme="f32")], reference, 3 * TEXT
    )
    assert found[0].kl_max < 1e-4


def test_the_command_prints_a_table_and_json(checkpoint: Path, tmp_path: Path) -> None:
    package = packaged(checkpoint, tmp_path / "q8.edge", scheme="q8")
    text = tmp_path / "text.txt"
    text.write_text(TEXT, "utf-8")
    words = ["eval", str(package), "--reference", str(checkpoint), "--text", str(text)]
    plain = CliRunner().invoke(cli, words)
    assert plain.exit_code == 0, plain.output
    assert "q8.edge" in plain.stdout
    document = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    assert 0 <= document["models"][0]["kl_mean"] < 0.1
    assert document["models"][0]["tokens"] > 100


def test_what_cannot_be_evaluated_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    package = packaged(checkpoint, tmp_path / "f32.edge", scheme="f32")
    with pytest.raises(edgekit.UsageError, match="the text has"):
        evaluate([package], checkpoint, "short")
    with pytest.raises(edgekit.InvalidFile, match=r"nothing\.bin"):
        evaluate([tmp_path / "nothing.bin"], checkpoint, TEXT)
    other = tiny_chat_model.write(tmp_path / "other", vocab_size=640)
    with pytest.raises(edgekit.UnsupportedModel, match="not the same model"):
        evaluate([packaged(other, tmp_path / "other.edge", scheme="f32")], package, TEXT)
