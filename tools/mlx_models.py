"""Models in MLX's affine format, made by mlx-lm's own code, on its CPU. Needs mlx-lm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.optimizers import Adam
from mlx_lm.quant import dwq as distilled
from mlx_lm.quant import gptq as walked
from mlx_lm.utils import load, quantize_model, save

from edgekit.in_place_of import in_place_of

BATCH = 4
HELD_OUT = BATCH  # pieces on which DWQ says how far it has come
# Adam moves a scale by about so much at a step. mlx-lm's default is 1e-6 for 512 steps of 4,100 tokens; with
# fewer steps each has to go further.
TRAVEL = 512e-6


def nearest(checkpoint: Path, out: Path, bits: int, group: int) -> None:
    """What `mlx_lm.convert -q` writes."""
    model, tokenizer, config = load(str(checkpoint), return_config=True)
    model, config = quantize_model(model, config, group, bits)
    _save(out, checkpoint, model, tokenizer, config)


def gptq(checkpoint: Path, out: Path, bits: int, group: int, pieces: Sequence[Sequence[int]]) -> None:
    """What `mlx_lm.gptq` writes with so many bits everywhere, by pieces of one length. In float32: sums of
    squares are beyond float16.
    """
    model, tokenizer, config = load(str(checkpoint), return_config=True)
    dtype = model.layers[0].self_attn.q_proj.weight.dtype
    model.set_dtype(mx.float32)
    model, config["quantization"] = walked.gptq_quantize(
        model, mx.array(pieces), bits, group, bits, group, batch_size=BATCH
    )
    model.set_dtype(dtype)
    _save(out, checkpoint, model, tokenizer, config)


def dwq(checkpoint: Path, out: Path, bits: int, group: int, pieces: Sequence[Sequence[int]]) -> None:
    """What `mlx_lm.dwq` writes after one pass over pieces of one length."""
    model, tokenizer, config = load(str(checkpoint), return_config=True)
    dtype = model.layers[0].self_attn.q_proj.weight.dtype
    model.set_dtype(mx.float32)
    student, config = quantize_model(copy.deepcopy(model), config, group, bits)
    data = [(list(ids), 0) for ids in pieces]
    distilled.dwq_quantize(
        student,
        lambda batch, index, split: model(batch),
        Adam(TRAVEL / (len(data) // BATCH - 1), bias_correction=True),
        data[HELD_OUT:],
        data[:HELD_OUT],
        batch_size=BATCH,
        max_seq_length=len(pieces[0]),
        seed=0,
        dtype=mx.float32,
    )
    student.set_dtype(dtype)
    _save(out, checkpoint, student, tokenizer, config)


def _save(out: Path, checkpoint: Path, *rest: Any) -> None:
    with in_place_of(out) as part:
        save(part, checkpoint, *rest)
