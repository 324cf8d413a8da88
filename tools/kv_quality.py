"""Perplexity, KL divergence and agreement of each kind of keys and values against f16, as a Markdown table.

python tools/kv_quality.py MODEL.edge... --corpora CORPORA

The text is the stories that were held out when the sample model was trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edgekit

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def log_probabilities(session: edgekit.Session, ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """[len(ids), vocab_size], from an empty cache."""
    session.reset()
    logits = session.forward(ids).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), np.float64)


def compare(path: Path, text: str, kinds: list[str], count: int) -> list[str]:
    """Table rows: each kind against f16, over `count` tokens in texts as long as the model's context."""
    model = edgekit.Model(path, threads=1)
    length = model.context - 1
    tokens = model.tokenizer.encode(text, add_special_tokens=False)[: count - count % length]
    start = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    texts = [np.array(start + tokens[at : at + length], np.int32) for at in range(0, len(tokens), length)]
    wanted = model.session(window=model.context, kv="f16")
    rows = []
    for kind in kinds:
        session = model.session(window=model.context, kv=kind)  # type: ignore[arg-type]
        divergence, same, surprises = [], [], []
        for ids in texts:
            p, q = log_probabilities(wanted, ids), log_probabilities(session, ids)
            divergence.append((np.exp(p) * (p - q)).sum(axis=1))
            same.append(p.argmax(axis=1) == q.argmax(axis=1))
            following = np.arange(len(ids) - 1), ids[1:]
            surprises.append([-p[following].mean(), -q[following].mean()])
        kl = np.concatenate(divergence)
        reference, perplexity = np.exp(np.mean(surprises, axis=0))
        figures = [
            f"{path.stem} ({model.scheme})",
            kind,
            f"{session.plan.cache_bytes / wanted.plan.cache_bytes:.3f}",
            f"{perplexity:.4f}",
            f"{100 * (perplexity / reference - 1):+.3f}%",
            f"{kl.mean():.2e}",
            f"{np.quantile(kl, 0.99):.2e}",
            f"{100 * np.concatenate(same).mean():.2f}%",
        ]
        rows.append(" | ".join(figures))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.edge")
    parser.add_argument("--corpora", required=True, type=Path, help="the folder that holds tinystories/")
    parser.add_argument("--tokens", type=int, default=20_000, help="tokens of the text, at most")
    parser.add_argument("--kv", nargs="+", default=["f32", "f16", "int8", "int4"])
    args = parser.parse_args()

    sys.path.insert(0, str(SAMPLES))
    from train import stories

    text = "\n\n".join(stories.load(args.corpora).valid)
    print("model | KV | bytes ÷ f16 | perplexity | against f16 | mean KL | 99% KL | same top token")
    print("--- | --- | ---: | ---: | ---: | ---: | ---: | ---:")
    for path in args.models:
        for row in compare(path, text, args.kv, args.tokens):
            print(row, flush=True)


if __name__ == "__main__":
    main()
