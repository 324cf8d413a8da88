"""Hugging Face's exporter, for architectures that edgekit does not know (docs/formats.md).

optimum-onnx wants a Transformers older than others do, so it is called in a Python of its own: the one that
$EDGEKIT_OPTIMUM_PYTHON names, else this one. Its graph keeps keys and values that grow by concatenation, and
the export holds the whole model in memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgekit.converters.checkpoint import read_json
from edgekit.converters.convert import Progress, describe, silent
from edgekit.converters.exporters import Exported, _quantize_graph
from edgekit.converters.quality import Quality, compare
from edgekit.errors import InvalidFile, UnsupportedModel, UsageError, VerificationFailed

# scheme -> (bits, accuracy level) of MatMulNBits
BITS = {"q4": (4, 4), "q8": (8, 4), "q4_f32": (4, 0), "q8_f32": (8, 0), "f32": (0, 0)}
SCHEMES = tuple(BITS)
TOKENS = 32
# (an output, token ids) -> float32 [len(ids), vocab_size]
Logits = Callable[[Path, list[int]], NDArray[np.float32]]
# Largest error of the logits by the bits of the codes, of their spread.
LIMITS = {0: 2e-3, 8: 0.3, 4: 1.0}
TASK = "text-generation-with-past"
INSTALL = (
    "python -m venv optimum && optimum/bin/pip install 'edgekit[optimum]', "
    "then EDGEKIT_OPTIMUM_PYTHON=optimum/bin/python edgekit convert …"
)
KNOWS = f"""
import sys
from optimum.exporters.tasks import TasksManager
import optimum.exporters.onnx.model_configs, torch, transformers
kinds = TasksManager.get_supported_tasks_for_model_type(sys.argv[1], "onnx", library_name="transformers")
sys.exit(0 if {TASK!r} in kinds else 9)
"""


def check(checkpoint: Path) -> None:
    """Raises UsageError when optimum is not there, UnsupportedModel for what it does not export."""
    kind = read_json(checkpoint / "config.json").get("model_type")
    if not isinstance(kind, str):
        raise InvalidFile(f"config: 'model_type' is {kind!r}; the name of an architecture is expected")
    found = _run("-c", KNOWS, kind)
    if "ModuleNotFoundError" in found.stderr or "ImportError" in found.stderr:
        raise UsageError(
            f"--exporter optimum needs optimum-onnx, which {_python()} has not: {_last_line(found)}",
            hint=INSTALL,
        )
    if found.returncode:
        raise UnsupportedModel(f"optimum-onnx does not export {kind!r} ({TASK}): {_last_line(found)}")


def export(checkpoint: Path, path: Path, scheme: str, progress: Progress = silent) -> Exported:
    """Exports `checkpoint` in float32, then quantizes. Raises UnsupportedModel when optimum fails."""
    bits, accuracy_level = BITS[scheme]
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        progress("exporting by optimum", 0, 3)
        done = _run("-m", "optimum.exporters.onnx", "--model", str(checkpoint), "--task", TASK, directory)
        file = Path(directory) / "model.onnx"
        if done.returncode or not file.exists():
            raise UnsupportedModel(f"optimum-onnx could not export {checkpoint.name}: {_last_line(done)}")
        progress("exporting by optimum", 1, 3)
        model = onnx.load(str(file))
        config = read_json(Path(directory) / "config.json")
        n_parameters = sum(int(np.prod(t.dims)) for t in model.graph.initializer if len(t.dims) > 1)
        if bits:
            _quantize_graph.quantize(model, bits, accuracy_level)
        progress("exporting by optimum", 2, 3)
        path.mkdir()
        for other in Path(directory).iterdir():
            if other.is_file() and not other.name.startswith(file.name):
                other.replace(path / other.name)
    given = (config.get("max_position_embeddings"), config.get("n_positions"))
    context = next((length for length in given if isinstance(length, int)), 0)
    words = describe(path, config, int(config.get("vocab_size") or 0))
    facts = {f"edgekit.{key}": json.dumps(value) for key, value in words.items()}
    facts |= {
        "edgekit.scheme": scheme,
        "edgekit.model_type": str(config.get("model_type")),
        "edgekit.context": str(context),
        "edgekit.cache": "grows",
        "edgekit.source.name": checkpoint.name,
    }
    helper.set_model_props(model, facts)
    data = {"save_as_external_data": True, "location": f"{file.name}.data", "size_threshold": 1024}
    onnx.save_model(model, str(path / file.name), **data)
    progress("exporting by optimum", 3, 3)
    return Exported(str(config.get("model_type")), n_parameters)


def verify(checkpoint: Path, path: Path, scheme: str, logits: Logits) -> Quality:
    """Logits beside Transformers', of 32 random ids; `logits` are those of the engine that runs the output.
    Raises VerificationFailed.
    """
    vocab_size = int(read_json(path / "config.json")["vocab_size"])
    ids = np.random.default_rng(0).integers(0, vocab_size, TOKENS).tolist()
    with tempfile.TemporaryDirectory(prefix="edgekit-optimum-") as directory:
        out = Path(directory) / "logits.npy"
        script = str(Path(__file__).with_name("_transformers_logits.py"))
        done = _run(script, str(checkpoint), str(out), *map(str, ids))
        if done.returncode:
            raise UnsupportedModel(f"Transformers could not run {checkpoint.name}: {_last_line(done)}")
        want = np.load(out)
    quality = compare("random ids", ids, logits(path, ids), want)
    if not quality.relative_error <= LIMITS[BITS[scheme][0]]:  # also when it is not a number
        raise VerificationFailed(
            f"the output does not compute what the checkpoint computes: the logits differ by "
            f"{quality.relative_error:.3g} of their spread; "
            f"{LIMITS[BITS[scheme][0]]:g} is allowed for {scheme}",
            hint="this is a bug; please report it with the checkpoint's config.json",
        )
    return quality


def _python() -> str:
    return os.environ.get("EDGEKIT_OPTIMUM_PYTHON") or sys.executable


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    try:
        return subprocess.run(
            [_python(), *arguments], env=os.environ | quiet, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UsageError(f"EDGEKIT_OPTIMUM_PYTHON: cannot run {_python()}: {error.strerror}") from None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended with {done.returncode}"
