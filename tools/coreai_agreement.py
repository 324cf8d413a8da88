"""How near Core AI assets are to their checkpoint, in Apple's own runtime: on Linux its CPU form.

    pip install -e .[coreai] && python tools/coreai_agreement.py CHECKPOINT TEXT [--tokens N] [--scheme f16 …]

The first tokens of TEXT are read one by one, past the end of a ring of `--window` tokens and one step. Prints
the error of the logits (root mean square, of their spread) and how many of the first choices are the same:
against numpy on the weights that the asset has, and against the checkpoint's own, with the same window. Two
choices that are nearer to each other than ten times the error do not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.converters import convert
from edgekit.converters.formats import coreai
from edgekit.engines.coreai import Engine


def compared(found: NDArray[np.float32], want: NDArray[np.float32]) -> str:
    error = float(np.sqrt(np.square(found - want).mean()))
    clear = np.diff(np.sort(want, 1)[:, -2:], axis=1)[:, 0] > 10 * error
    same = found.argmax(1) == want.argmax(1)
    return f"{error / want.std():.5f} | {same.mean():.1%} | {(same & clear).sum()} of {clear.sum()}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--window", type=int, default=192)
    parser.add_argument("--scheme", nargs="+", default=["f16", "neural_engine_q8", "neural_engine_q4", "q4"])
    args = parser.parse_args()
    model = convert.read(args.checkpoint, args.checkpoint.name)
    print("| scheme | beside | error | same first choices | of the clear ones | ms a token |", flush=True)
    print("|---|---|---:|---:|---:|---:|")
    for scheme in args.scheme:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "asset"
            coreai.write(model, path, scheme, window=args.window)
            engine = Engine(path)
            text = args.text.read_text("utf-8")[: 16 * args.tokens]
            ids = engine.words().encode(text)[: args.tokens]
            session, started = engine.session(), time.monotonic()
            found = np.stack([session.forward(np.array([id], np.int32), False)[-1] for id in ids])
            took = 1e3 * (time.monotonic() - started) / len(ids)
            output = coreai.read_back(path)
            for beside, load in (("its own weights", None), ("the checkpoint", model.load)):
                want = output.reference(load).logits(ids)
                print(f"| `{scheme}` | {beside} | {compared(found, want)} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
