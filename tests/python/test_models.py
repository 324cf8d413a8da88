"""Every family against Transformers: the numpy reference on a small random checkpoint gives the same
logits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.converters import models
from edgekit.converters.checkpoint import Checkpoint
from edgekit.converters.reference import Reference

pytest.importorskip("transformers", reason="needs the [test] extra")

from tiny_models import TINY_CONFIGS, make_checkpoint, torch_logits

IDS = [int(i) for i in np.random.default_rng(0).integers(0, 199, 40)]


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_reference_equals_transformers(name: str, tmp_path: Path) -> None:
    model = models.open_model(Checkpoint(make_checkpoint(name, tmp_path)))
    ours = Reference(model.spec, model.load).logits(IDS)
    theirs = torch_logits(name, IDS)
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
