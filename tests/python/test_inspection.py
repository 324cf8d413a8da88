"""`edgekit inspect` says what is inside, whatever format it has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_chat_model
from click.testing import CliRunner

import edgekit
from edgekit.cli import cli

# A format's output, the flags that make it, and how it holds a matrix of a model's body at its 4 bits.
OUTPUTS = {
    "edge": ("m.edge", {"scheme": "q4"}, "q4_block32"),
    "mlx": ("mlx", {"scheme": "q4_g32"}, "q4"),
    "onnx": ("onnx", {}, "q4"),
    "onnx ring": ("ring", {"opset_only": True}, "q4"),
    "gguf": ("m.gguf", {}, "q4"),
    "coreml": ("coreml", {}, "q4"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inspect")
    tiny_chat_model.write(place / "tiny")
    return place


def written(place: Path, name: str) -> Path:
    out, options, _ = OUTPUTS[name]
    if not (place / out).exists():
        format = name.partition(" ")[0]
        edgekit.convert(place / "tiny", place / out, format=format, verify=False, **options)  # type: ignore[arg-type]
    return place / out


def inspect(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_format_is_understood(place: Path, name: str) -> None:
    done = inspect(written(place, name), "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["format"] == name.partition(" ")[0] and document["spec"]["model_type"] == "llama"
    layouts = {row["name"]: row["layout"] for row in document["tensors"]}
    assert layouts["layers.1.down"] == OUTPUTS[name][2] and layouts["layers.0.q"] == OUTPUTS[name][2]
    assert (
        document["source"]["license"] == "cc0-1.0"
        and document["tokenizer_bytes"]
        and document["chat_template_bytes"]
    )
    assert document["eos_ids"] and 77_000 < document["n_parameters"] < 79_000
    size = document["file_bytes"]
    assert document["bits_per_weight"] == pytest.approx(8 * size / document["n_parameters"])
    human = inspect(written(place, name), "--tensors").stdout
    for words in ("cc0-1.0", "layers.1.down", "keys and values", "llama, 7"):
        assert words in human


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "edge"])
def test_what_keys_and_values_take_grows_with_the_context(place: Path, name: str) -> None:
    def cache(tokens: int) -> dict[str, int]:
        found: dict[str, int] = json.loads(
            inspect(written(place, name), "--context", str(tokens), "--json").stdout
        )["cache"]
        return found

    assert cache(32)["tokens"] == 32 and cache(64)["bytes"] >= cache(32)["bytes"] > 0
    if name in ("mlx", "onnx", "gguf"):
        assert cache(64)["bytes"] == 2 * cache(32)["bytes"]


def test_a_plan_of_our_engine_is_asked_of_our_packages_alone(place: Path) -> None:
    done = inspect(written(place, "gguf"), "--kv", "int8")
    assert done.exit_code == 2 and "this is gguf" in done.output


@pytest.mark.parametrize(
    ("name", "file"),
    [("onnx", "model.onnx"), ("coreml", "model.mlpackage/Data/com.apple.CoreML/model.mlmodel")],
)
def test_what_is_damaged_is_said(place: Path, tmp_path: Path, name: str, file: str) -> None:
    shutil.copytree(written(place, name), tmp_path / name)
    whole = (tmp_path / name / file).read_bytes()
    spec = whole.index(b"edgekit.spec")
    for damaged in (whole[:100], whole[:spec] + whole[spec:].replace(b'"model_type"', b'"model_tape"', 1)):
        (tmp_path / name / file).write_bytes(damaged)
        for verb in ("inspect", "verify"):
            done = CliRunner().invoke(cli, [verb, str(tmp_path / name)])
            assert isinstance(done.exception, edgekit.InvalidFile), done.exception


def test_what_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    done = inspect(tmp_path / "passwd")
    assert done.exit_code != 0 and "passwd" in str(done.exception)
