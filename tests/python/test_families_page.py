"""docs/families.md says what the tests check. Run as a program, this writes its table anew."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest

for needed in ("transformers", "gguf", "onnxruntime", "coremltools"):
    pytest.importorskip(needed, reason="needs the [test], [gguf], [onnx] and [coreml] extras")

import test_format_coreml
import test_format_gguf
import test_format_mlx
from tiny_models import EDGE_ALONE, RECURRENT, TINY_CONFIGS

from edgekit.converters import models

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
BEGIN, END = "<!-- table -->\n\n", "\n<!-- end of table -->"


def table() -> str:
    rows = ["| family | what | lines | edge | onnx | onnx ring | mlx | gguf | coreml |", "| --- " * 9 + "|"]
    return "\n".join([*rows, *(_row(kind) for kind in models.known())]) + "\n"


def _row(kind: str) -> str:
    names = [name for name, config in TINY_CONFIGS.items() if config["model_type"] == kind]
    module = importlib.import_module(f"edgekit.converters.models.{kind}")
    what = " ".join(str(module.__doc__).split()).split(". ")[0].rstrip(".")
    lines = len(Path(str(module.__file__)).read_text().splitlines())
    heads = {name: "head size" for name in names if _odd_heads(name)}
    alone = dict.fromkeys(EDGE_ALONE, "no form")
    more = [name for name, config in test_format_gguf.CONFIGS.items() if config["model_type"] == kind]
    coreml = {name: "no form" for name in names if name not in test_format_coreml.TAKEN}
    cells = list(ELSEWHERE.get(kind, ())) or [
        "yes" if names else "no",
        _cell(names, heads | dict.fromkeys(RECURRENT, "no form") | alone),
        _cell(names, alone),
        _cell(names, {n: word.replace("does not know", "not known") for n, word in MLX.items()}),
        _cell([*names, *more], {n: word.replace("architecture", "not known") for n, word in GGUF.items()}),
        _cell(names, coreml),
    ]
    return f"| `{kind}` | {what} | {lines} | {' | '.join(cells)} |"


# Families that are held by tests of their own.
ELSEWHERE = {"rwkv7": ("yes", "no: no form", "yes", "no: not known", "no: not known", "no: no form")}
MLX, GGUF = test_format_mlx.REFUSED, test_format_gguf.REFUSED


def _cell(names: list[str], refused: Mapping[str, str]) -> str:
    """Which of a family's configs a format refuses, in a word of the refusal."""
    why = sorted({refused[name] for name in names if name in refused})
    if not why:
        return "yes"
    return f"{'no' if all(name in refused for name in names) else 'but for'}: {', '.join(why)}"


def _odd_heads(name: str) -> bool:
    return any(layer.head_dim % 8 for layer in models.load(TINY_CONFIGS[name]).spec.layers)


def test_the_page_is_what_the_tests_check() -> None:
    told = PAGE.read_text("utf-8").split(BEGIN)[1].split(END)[0]
    assert told == table(), "docs/families.md is stale: python tests/python/test_families_page.py"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], "utf-8")
