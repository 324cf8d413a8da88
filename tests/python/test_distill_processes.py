"""Several processes that train together: what they find is what one finds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_chat_model

torch = pytest.importorskip("torch", reason="needs the [train] extra")
pytest.importorskip("accelerate", reason="needs the [train] extra")

from safetensors.torch import load_file

OPTIONS = ["--layers", "2", "--context", "32", "--batch-tokens", "128", "--tokens", "768"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    tiny_chat_model.write(folder / "teacher", num_hidden_layers=3)
    (folder / "text.txt").write_text("The cat sat on the mat, and the dog sat on the cat. " * 12)
    return folder


def launched(
    folder: Path, launcher: str, *words: str, precision: str = "no"
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    by = {  # --multi_gpu: as many processes on the CPU where there are no GPUs
        "alone": "",
        "accelerate": "-m accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port",
        "torchrun": "-m torch.distributed.run --nproc-per-node 2 --master-port",
    }
    return subprocess.run(
        [sys.executable, *by[launcher].split(), *([port] if by[launcher] else []), *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": precision},
        capture_output=True,
        text=True,
        timeout=300,
    )


def distilled(
    folder: Path, launcher: str, out: str, *options: str, precision: str = "no"
) -> subprocess.CompletedProcess[str]:
    words = ["-m", "edgekit", "distill", "teacher", "-o", out, "--text", "text.txt", *OPTIONS, *options]
    return launched(folder, launcher, *words, precision=precision)


def losses(path: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (path / "distillation.jsonl").read_text().splitlines()]


def test_two_processes_find_what_one_finds(folder: Path) -> None:
    """The same losses at the same batch, and one student, which the first of them writes and speaks of."""
    for launcher in ("alone", "accelerate"):
        done = distilled(folder, launcher, launcher)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("2 layers") == 1
    one, two = (folder / launcher for launcher in ("alone", "accelerate"))
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert len(losses(one)) == 6
    want = load_file(one / "model.safetensors")
    for name, values in load_file(two / "model.safetensors").items():
        torch.testing.assert_close(values, want[name], rtol=1e-3, atol=1e-4)
    assert not list(folder.glob(".*"))


def test_bfloat16_finds_nearly_the_same(folder: Path) -> None:
    done = distilled(folder, "alone", "bf16", precision="bf16")
    assert done.returncode == 0, done.stderr
    want, got = losses(folder / "alone"), losses(folder / "bf16")
    assert got != want
    assert got == pytest.approx(want, rel=0.1)
    done = distilled(folder, "alone", "fp16", precision="fp16")
    assert "does not train in fp16" in done.stderr
    assert not (folder / "fp16").exists()


def test_texts_that_cannot_be_shared_are_told(folder: Path) -> None:
    done = distilled(folder, "accelerate", "odd", "--batch-tokens", "96")
    assert done.returncode != 0
    assert "a step has 3 texts, for 2 processes to share" in done.stderr
    assert not (folder / "odd").exists()


def test_parameters_in_parts_find_what_whole_ones_find(folder: Path) -> None:
    """FSDP2, with a stop on the way."""
    for launcher in ("alone", "torchrun"):
        (folder / f"{launcher}-parts").mkdir()
        worker = Path(__file__).with_name("sharded_worker.py")
        done = launched(folder, launcher, str(worker), f"{launcher}-parts")
        assert done.returncode == 0, done.stderr
    one, two = (folder / f"{launcher}-parts" for launcher in ("alone", "torchrun"))
    want, got = (json.loads((each / "losses.json").read_text()) for each in (one, two))
    assert len(want) == 13  # of twelve steps; the one before the stop was made again
    assert got == pytest.approx(want, rel=1e-5)
    want, got = (torch.load(each / "parameters.pt") for each in (one, two))
    for name, values in want.items():
        torch.testing.assert_close(got[name], values)
