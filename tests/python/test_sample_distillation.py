"""samples/distill_sample_model.py, in a short form."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the [train] extra")

import edgekit

SAMPLES = Path(__file__).parents[2] / "samples"


def test_a_student_of_half_the_size_tells_a_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SAMPLES)
    monkeypatch.setattr(sys, "argv", ["distill", "-o", str(tmp_path), "--stories", "3", "--tokens", "2048"])
    import distill_sample_model

    distill_sample_model.main()
    said = capsys.readouterr()
    assert re.search(r"(49|50)% of the parameters; bits per byte \d\.\d+", said.err)
    assert said.out.count("Once upon a time") == 2
    teacher, student = (edgekit.Model(tmp_path / f"{name}.edge") for name in ("teacher", "student"))
    assert student.file_bytes < 0.55 * teacher.file_bytes
