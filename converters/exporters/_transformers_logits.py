"""Run by the Python that has Transformers: CHECKPOINT OUT.npy ID... -> float32 logits [ids, vocab_size]."""

from __future__ import annotations

import sys

import numpy
import torch
from transformers import AutoModelForCausalLM

if __name__ == "__main__":
    checkpoint, out, *ids = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(checkpoint).float().eval()
    with torch.no_grad():
        logits = model(torch.tensor([[int(id) for id in ids]])).logits[0]
    numpy.save(out, logits.numpy())
