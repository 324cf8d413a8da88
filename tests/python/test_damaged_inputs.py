"""Damaged GGUF, MLX and ONNX inputs give a model or an EdgekitError: no crash, no other exception."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.converters import convert
from edgekit.converters.formats import gguf, mlx, onnx
from edgekit.errors import EdgekitError

pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import make_checkpoint

HUGE = (-1, 0, 1, 3, 1 << 31, 1 << 62, 1e308, "", "x", None, [], {}, True)
Random = np.random.Generator


def bytes_changed(data: bytes, random: Random, within: int) -> bytes:
    """A few bytes of the first `within` are others, or some are missing."""
    changed = bytearray(data)
    for at in random.integers(0, min(within, len(data)), int(random.integers(1, 4))):
        changed[at] = int(random.integers(256))
    if random.random() < 0.2:
        del changed[int(random.integers(len(changed))) :]
    return bytes(changed)


def members_changed(config: dict[str, Any], random: Random) -> Iterator[dict[str, Any]]:
    """Each member once missing, and once something else."""
    for name in config:
        yield {key: value for key, value in config.items() if key != name}
        yield config | {name: HUGE[int(random.integers(len(HUGE)))]}


def is_a_model_or_an_error(read: Callable[[], object]) -> bool:
    try:
        read()
    except EdgekitError:
        return False
    return True


def read_all(path: Path) -> None:
    model = convert.read(path, "damaged")
    for name in list(model.tensors)[:12]:
        model.load(name)
        layout = model.layout(name)
        if layout is not None and layout.zero != "other":
            model.codes(name, (0, 2))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf", reason="needs the [gguf] extra")
    out = tmp_path_factory.mktemp("whole")
    model = convert.read(make_checkpoint("llama", out / "hf"), "llama")
    gguf.write(model, out / "model.gguf", "q4_0")
    mlx.write(model, out / "mlx", "q4_g32")
    onnx.write(model, out / "onnx", "q4")
    onnx.write_ring(model, out / "ring", "q4", window=12)
    return out


def test_gguf(whole: Path, tmp_path: Path) -> None:
    random, data = np.random.default_rng(1), (whole / "model.gguf").read_bytes()
    found = []
    for _ in range(150):
        (tmp_path / "x.gguf").write_bytes(bytes_changed(data, random, 4000))
        found.append(is_a_model_or_an_error(lambda: read_all(tmp_path / "x.gguf")))
    assert not all(found)


def test_mlx_weights(whole: Path, tmp_path: Path) -> None:
    random, copy = np.random.default_rng(2), tmp_path / "mlx"
    shutil.copytree(whole / "mlx", copy)
    data = (whole / "mlx" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    found = []
    for _ in range(120):
        (copy / "model.safetensors").write_bytes(bytes_changed(data, random, header))
        found.append(is_a_model_or_an_error(lambda: read_all(copy)))
    assert not all(found)


def test_mlx_config(whole: Path, tmp_path: Path) -> None:
    random, copy = np.random.default_rng(3), tmp_path / "mlx"
    shutil.copytree(whole / "mlx", copy)
    config = json.loads((copy / "config.json").read_text())
    variants = list(members_changed(config, random))
    variants += [config | {"quantization": q} for q in members_changed(config["quantization"], random)]
    variants += [
        config | {"quantization": q} for q in (*HUGE, {"model.embed_tokens": 3, **config["quantization"]})
    ]
    found = []
    for variant in variants:
        (copy / "config.json").write_text(json.dumps(variant))
        found.append(is_a_model_or_an_error(lambda: read_all(copy)))
    assert not all(found)


RUN = """
import sys
from pathlib import Path
from edgekit import EdgekitError, Model
for directory in sys.argv[1:]:
    try:
        with Model(directory, backend="onnx") as model, model.session() as session:
            session.forward([1, 2, 3])
    except EdgekitError:
        print("error")
    else:
        print("model")
"""


def test_onnx(whole: Path, tmp_path: Path) -> None:
    """In a process of its own: ONNX Runtime reads these."""
    pytest.importorskip("edgekit.model", reason="the native module is not built")
    random, source = np.random.default_rng(4), whole / "onnx"
    graph = (source / "model.onnx").read_bytes()
    genai = json.loads((source / "genai_config.json").read_text())
    config = json.loads((source / "config.json").read_text())
    damaged: list[dict[str, bytes]] = [
        {"model.onnx": bytes_changed(graph, random, len(graph))} for _ in range(60)
    ]
    for name, given in (("genai_config.json", genai), ("config.json", config)):
        damaged += [{name: json.dumps(v).encode()} for v in members_changed(given, random)]
    damaged += [{"genai_config.json": json.dumps(genai | {"model": m}).encode()} for m in HUGE]
    ring = (whole / "ring" / "model.onnx").read_bytes()
    weights = (whole / "ring" / "model.onnx_data").read_bytes()
    damaged += [
        {"model.onnx": bytes_changed(ring, random, len(ring)), "model.onnx_data": weights} for _ in range(40)
    ]
    damaged += [{"model.onnx_data": b""}, {"model.onnx": b""}, {"config.json": b"{"}]
    for number, files in enumerate(damaged):
        directory = tmp_path / str(number)
        directory.mkdir()
        for file in source.iterdir():
            if file.is_file():
                (directory / file.name).symlink_to(file)
        for name, data in files.items():
            (directory / name).unlink()
            (directory / name).write_bytes(data)
    directories = [str(tmp_path / str(number)) for number in range(len(damaged))]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    done = subprocess.run(
        [sys.executable, "-c", RUN, *directories],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stdout.splitlines() if line in ("error", "model")]  # protobuf talks too
    assert len(said) == len(damaged) and "error" in said
