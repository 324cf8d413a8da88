"""How near computations of one package are: the GPU and each instruction set, beside the best of these.

    pip install -e .[gpu] && python tools/gpu_agreement.py MODEL.edge [--tokens 96] [--prompt TEXT]

The best instruction set writes greedily after the prompt; all others read the same tokens. Prints the largest
difference of a token's logits as a part of their spread (greatest less least), its median and most over the
tokens, and how many of the written tokens are the first choice up to the first that is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edgekit

PROMPT = "The history of the lighthouse begins with"


def logits(model: edgekit.Model, ids: list[int]) -> NDArray[np.float32]:
    with model.session(window=len(ids) + 8) as session:
        return np.asarray(session.forward(ids))


def continued(model: edgekit.Model, ids: list[int], count: int) -> list[int]:
    """`ids`, and `count` greedy tokens."""
    with model.session(window=len(ids) + count + 8) as session:
        given = ids
        while len(ids) < count + len(given):
            row = session.forward(ids if session.position == 0 else ids[-1:], all_logits=False)
            ids = [*ids, int(np.asarray(row)[-1].argmax())]
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL.edge")
    parser.add_argument("--tokens", type=int, default=96, help="written after the prompt")
    parser.add_argument("--prompt", default=PROMPT)
    args = parser.parse_args()
    best, *others = edgekit.isas()
    with edgekit.Model(args.model, isa=best) as model:
        prompt = model.tokenizer.encode(args.prompt)
        ids = continued(model, prompt, args.tokens)
        wanted = logits(model, ids)
    spread = wanted.max(1) - wanted.min(1)
    print(f"| beside {best} | median | most | first choices that are the same |\n|---|---:|---:|---:|")
    for name in ["gpu", *others]:
        ways = {"backend": "gpu"} if name == "gpu" else {"isa": name}
        with edgekit.Model(args.model, **ways) as model:  # type: ignore[arg-type]
            if model.relayed:
                raise SystemExit(f"error: {model.relayed}")
            found = logits(model, ids)
        apart = np.abs(found - wanted).max(1) / spread
        same = (found.argmax(1) == wanted.argmax(1))[len(prompt) - 1 : -1]
        first = args.tokens if same.all() else int(same.argmin())
        how = f"{np.median(apart):.2%} | {apart.max():.2%}"
        print(f"| {name} | {how} | {first} of {args.tokens} |", flush=True)


if __name__ == "__main__":
    main()
