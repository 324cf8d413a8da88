"""docs/python.md as a reader pastes it: block after block, beside a package and a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny_chat_model

import edgekit

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_every_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_chat_model.write(tmp_path / "checkpoint")
    edgekit.convert(tmp_path / "checkpoint", tmp_path / "model.edge", scheme="q8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == PAGE.read_text(encoding="utf-8").count("```") // 2 > 5
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"block {number} of {PAGE.name}", "exec"), names)
    assert capsys.readouterr().out.strip()


def test_every_public_name_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    missing = [
        name for name in edgekit.__all__ if not name.startswith("__") and not re.search(rf"\b{name}\b", text)
    ]
    assert not missing
