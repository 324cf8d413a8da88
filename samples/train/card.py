"""The model card: what the sample model is, what it was trained on and how well it does."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from .stories import Stories

CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [tinystories, llama, edgekit]
---

# edgekit sample model

A Llama of {parameters:.2f} million parameters that tells short stories for small children, in English. It is
small enough to live in a repository and real enough to try every part of edgekit on: a trained tokenizer, a
chat template, an end-of-text token, weights in bfloat16.

    edgekit convert samples/model -o sample.edge
    edgekit run sample.edge --raw "Once upon a time"
    edgekit run sample.edge "Tell me a story about a dog."
    edgekit chat sample.edge

## Architecture

`LlamaForCausalLM`: {layers} layers, width {hidden}, {heads} query heads and {kv_heads} key-value heads of
{head_dim}, MLP {mlp}, vocabulary {vocab} (byte-level BPE with Llama 3's pre-tokenization, trained on the same
stories), rotary base 10000, context {context}, tied embeddings.

## Data

[TinyStories](https://huggingface.co/datasets/roneneldan/TinyStories) (Eldan and Li, 2023), licence
CDLA-Sharing-1.0: {train_stories} stories, {tokens} tokens, from the head of its training set; {valid_stories}
more were held out, and {duplicates} duplicates left out. The stories were written by GPT-3.5 and GPT-4.
About three quarters of the text was only at hand in lower case: its capitals were restored by rules learnt
from the cased part ({case:.1%} of words exact on cased stories kept aside).

In each epoch {chat:.0%} of the stories appear as the answer to a request for their most telling noun
("Tell me a story about a fox."), in the format of the chat template, with no loss on the request.

## Training

{steps} steps of {batch} tokens ({epochs:.1f} epochs; requests count as tokens), one core of a shared CPU,
{minutes:.0f} minutes. Muon (rate {lr_matrix}, weight decay {wd}) for the layers' matrices, Adam (rate
{lr_vector}) for the embedding and the norms; constant rates, falling to 0 over the last {decay} steps;
sequences of {half} tokens, at the end of {context}; bfloat16 autocast; moving average of the weights.
Seed {seed}.

    python samples/train_sample_model.py --corpora ../shared/data/corpora -o samples/model{flags}

step | epoch | training loss | validation loss | minutes
---: | ---: | ---: | ---: | ---:
{history}

The gap between the two losses is memory: a million tokens are few for this many parameters.
Losses are nats a token; the validation loss is that of the averaged bfloat16 weights on held-out stories. At
the end it is {loss:.3f}: a perplexity of {perplexity:.2f}, or {bits:.3f} bits a character.

## What it writes

{samples}

## Limits

It knows nothing but these stories, understands nothing else than a wish for one, and loses the thread after
a paragraph or two: characters change their names, objects appear from nowhere. At temperature 0 it tends to
repeat a sentence over and over; 0.7 suits it better. It answers in English only.
It is a test object and a demonstration, of no other use. The tone is that of its data; nothing filters it.

## Licence

The weights and the tokenizer: Apache-2.0. The training data: CDLA-Sharing-1.0, whose terms place no
restriction on results such as a trained model.
"""


def write(
    out: Path,
    args: Namespace,
    config: LlamaConfig,
    texts: Stories,
    history: list[dict[str, Any]],
    bits: float,
    tokens: int,
    samples: list[tuple[str, str]],
) -> None:
    """Writes out/README.md from what the run was given and what it measured."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in LlamaForCausalLM(config).parameters())
    every = max(1, len(history) // 8)
    shown = history[every - 1 :: every]
    if shown[-1] is not history[-1]:
        shown.append(history[-1])
    row = "{step} | {epoch} | {train_loss:.3f} | {valid_loss:.3f} | {minutes:.0f}"
    rows = [row.format(**entry, minutes=entry["seconds"] / 60) for entry in shown]
    told = [f"{name}:\n\n" + "\n".join(f"> {line}" for line in text.split("\n")) for name, text in samples]
    last = history[-1]
    (out / "README.md").write_text(
        CARD.format(
            parameters=parameters / 1e6,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
            mlp=config.intermediate_size,
            vocab=config.vocab_size,
            context=config.max_position_embeddings,
            half=config.max_position_embeddings // 2,
            train_stories=len(texts.train),
            valid_stories=len(texts.valid),
            duplicates=texts.duplicates,
            case=texts.case_accuracy,
            tokens=tokens,
            chat=args.chat,
            steps=args.steps,
            batch=args.batch_tokens,
            epochs=last["epoch"],
            minutes=last["seconds"] / 60,
            lr_matrix=args.lr_matrix,
            lr_vector=args.lr_vector,
            wd=args.weight_decay,
            decay=args.decay,
            seed=args.seed,
            flags=f" --steps {args.steps} --decay {args.decay}",
            history="\n".join(rows),
            loss=last["valid_loss"],
            perplexity=math.exp(last["valid_loss"]),
            bits=bits,
            samples="\n\n".join(told),
        ),
        "utf-8",
    )
