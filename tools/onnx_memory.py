"""A long text through ONNX of standard operators alone: memory, speed, and agreement with edgekit's engine.

python tools/onnx_memory.py CHECKPOINT [--tokens 100000] [--window 128] [--scheme f32]

The text is sampled by ONNX Runtime; edgekit's engine then reads the same tokens with a cache of the same
size. Prints a table of Markdown. Wants an otherwise idle machine for its times, not for its memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

import edgekit
from edgekit.converters import convert
from edgekit.converters.formats import edge, onnx

BUCKETS = 100
SINKS = 4
TEMPERATURE = 0.8
COLUMNS = (
    "tokens",
    "window",
    "cache bytes",
    "resident MiB, after 1 %",
    "at the end",
    "KiB per 100,000 tokens",
    "ms a token, first tenth",
    "last tenth",
    "largest difference of logits from edgekit's engine, of the largest logit",
)
Logits = NDArray[np.float32]


def sample(logits: Logits, random: np.random.Generator) -> int:
    """Gumbel's trick, at TEMPERATURE."""
    return int((logits / TEMPERATURE + random.gumbel(size=logits.size)).argmax())


def write_text(
    model: edgekit.Model, tokens: int
) -> tuple[NDArray[np.int32], Logits, list[float], list[float]]:
    """Token ids, the last logits, and of each bucket resident KiB and median milliseconds of a token."""
    process, random = psutil.Process(), np.random.default_rng(0)
    bucket = tokens // BUCKETS
    ids, times = np.full(tokens, -1, np.int32), np.zeros(bucket)  # touched, so that it adds nothing later
    rss, medians = np.zeros(BUCKETS), np.zeros(BUCKETS)
    ids[0] = 1
    with model.session() as session:
        logits = np.empty(0, np.float32)
        for position in range(tokens):
            started = time.perf_counter()
            logits = session.forward([int(ids[position])])[-1]
            times[position % bucket] = 1e3 * (time.perf_counter() - started)
            if position + 1 < tokens:
                ids[position + 1] = sample(logits, random)
            if (position + 1) % bucket == 0:
                at = position // bucket
                rss[at], medians[at] = process.memory_info().rss / 1024, np.median(times)
    return ids, logits, rss.tolist(), medians.tolist()


def measure(checkpoint: Path, tokens: int, window: int, scheme: str) -> str:
    tokens -= tokens % BUCKETS
    model = convert.read(checkpoint, checkpoint.name)
    with tempfile.TemporaryDirectory(prefix="edgekit-onnx-memory-") as directory:
        ours, theirs = Path(directory) / "own.edge", Path(directory) / "onnx"
        onnx.write_ring(model, theirs, scheme, window=window, sinks=SINKS)
        edge.write(model, ours, scheme)
        with edgekit.Model(theirs, threads=1) as engine:
            plan = engine.plan()
            ids, logits, rss, medians = write_text(engine, tokens)
        with edgekit.Model(ours, threads=1) as own:
            session = own.session(window=window, sinks=SINKS, kv="f32")
            expected = session.forward(ids, all_logits=False)[-1]
    settled = rss[BUCKETS // 10 :]
    slope = np.polyfit(np.arange(len(settled)), settled, 1)[0] * BUCKETS * 100_000 / tokens
    tenth = BUCKETS // 10
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    values = (
        f"{tokens:,}",
        window,
        plan.cache_bytes,
        f"{rss[0] / 1024:.1f}",
        f"{rss[-1] / 1024:.1f}",
        f"{slope:.0f}",
        f"{np.median(medians[1:tenth]):.2f}",
        f"{np.median(medians[-tenth:]):.2f}",
        f"{error:.1e}",
    )
    rows = (COLUMNS, ["---:"] * len(COLUMNS), values)
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--scheme", choices=list(onnx.OPSET_ONLY_SCHEMES), default="f32")
    given = parser.parse_args()
    print(measure(given.checkpoint, given.tokens, given.window, given.scheme))
