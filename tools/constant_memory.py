"""Memory, speed, perplexity and recall of long texts in a session of fixed size, as JSON and a plot.

python tools/constant_memory.py MODEL.edge... --text BOOK.txt -o docs/constant-memory
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

import edgekit

Array = NDArray[np.float64]

WINDOW, SINKS = 256, 4
BUCKETS = 100
NAMES = ("Tom", "Ben", "Sam", "Max", "Tim", "Jack")
FACT = "Once upon a time, there was a little boy. His name was {0}. {0} liked to run."
FILLER = (
    " They went to the park and played with the ball. The sun was warm and the sky was blue. Mom made a cake"
    " and it was very good. Then it was time to go home, and everyone was happy."
)
QUESTION = ' The boy said, "My name is'


# ---- one long text written ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LongRun:
    """A text of `tokens` tokens in one session. Of each of BUCKETS equal parts: resident memory at its end,
    in KiB; the median time of a token, in milliseconds; and the median time of its last tokens over that of
    a session of the same size that filled its window a moment ago, measured in turn.
    """

    tokens: int
    planned_bytes: int
    evicted: int
    rss_kib: list[float]
    ms_per_token: list[float]
    old_over_young: list[float]
    ending: str

    @property
    def rss_slope(self) -> float:
        """KiB per 100,000 tokens, by least squares, after the first tenth (where pages are first touched)."""
        settled = self.rss_kib[len(self.rss_kib) // 10 :]
        per_bucket = np.polyfit(np.arange(len(settled)), settled, 1)[0]
        return float(per_bucket * len(self.rss_kib) / self.tokens * 100_000)

    @property
    def slowdown(self) -> float:
        """Median bucket of the last tenth over that of the first tenth; the window fills in the first bucket,
        which is left out. What else the machine does is in it; it is not in `old_over_young`.
        """
        tenth = len(self.ms_per_token) // 10
        return float(np.median(self.ms_per_token[-tenth:]) / np.median(self.ms_per_token[1 : tenth + 1]))

    @property
    def drift(self) -> float:
        """`old_over_young`, median of the last tenth."""
        return float(np.median(self.old_over_young[-(len(self.old_over_young) // 10) :]))


def timed(
    session: edgekit.Session, tokens: int, prompt: str | list[int]
) -> Iterator[tuple[edgekit.Event, float]]:
    """Events of a generation that follows what the cache holds, with milliseconds since the last text."""
    before = time.perf_counter()
    for event in session.generate(
        prompt, max_tokens=tokens, temperature=0.8, ignore_eos=True, append=session.position > 0
    ):
        yield event, 1e3 * (time.perf_counter() - before)
        if event.kind == "text":
            before = time.perf_counter()


def write_long(session: edgekit.Session, tokens: int, buckets: int = BUCKETS) -> LongRun:
    """Samples `tokens` tokens at temperature 0.8. Raises FloatingPointError when logits are not finite."""
    process = psutil.Process()
    bucket = tokens // buckets
    probe = min(500, bucket)
    # Allocated before the run, so that it adds nothing.
    times, probe_times = np.zeros(bucket), np.zeros(probe)
    rss, medians, ratios = np.zeros(buckets), np.zeros(buckets), np.zeros(buckets)
    recent: deque[int] = deque(maxlen=session.plan.window + session.plan.sinks)
    young = session.fork()
    done = evicted = 0
    for event, ms in timed(session, bucket * buckets, "Once upon a time"):
        if event.kind == "evicted":
            evicted += event.count
        if event.kind != "text":
            continue
        for token in event.tokens:
            recent.append(token)
            times[done % bucket] = ms / len(event.tokens)
            done += 1
            if done % bucket:
                continue
            young.reset()
            young.forward(list(recent)[:-1], all_logits=False)
            at = 0
            for other, other_ms in timed(young, probe, [recent[-1]]):
                if other.kind == "text":
                    for _ in other.tokens:
                        probe_times[at] = other_ms / len(other.tokens)
                        at += 1
            row = done // bucket - 1
            medians[row] = np.median(times)
            ratios[row] = np.median(times[-probe:]) / np.median(probe_times)
            rss[row] = process.memory_info().rss / 1024
    if not np.isfinite(session.forward([recent[-1]])).all():
        raise FloatingPointError(f"logits are not finite after {done} tokens")
    return LongRun(
        done,
        session.plan.total_bytes,
        evicted,
        rss.tolist(),
        medians.tolist(),
        ratios.tolist(),
        session.model.tokenizer.decode(list(recent)[-60:]),
    )


# ---- one long text read ------------------------------------------------------------------------------------


def surprise(logits: NDArray[np.float32], following: NDArray[np.int32]) -> Array:
    """-log p of the token after each row, nats: [n] from logits [n, vocab_size] and ids [n]."""
    peak = logits.max(axis=1)
    log_sum = np.log(np.exp(logits - peak[:, None]).sum(axis=1, dtype=np.float64)) + peak
    return np.asarray(log_sum - logits[np.arange(len(following)), following], np.float64)


def read_long(session: edgekit.Session, ids: NDArray[np.int32]) -> Array:
    """Surprise of ids[1:] in one session whose ring wraps: [len(ids) - 1]."""
    parts = []
    for start in range(0, len(ids) - 1, 1024):
        end = min(start + 1024, len(ids) - 1)
        parts.append(surprise(session.forward(ids[start:end]), ids[start + 1 : end + 1]))
    return np.concatenate(parts)


def read_recomputed(session: edgekit.Session, ids: NDArray[np.int32]) -> Array:
    """Surprise of ids[1:] when nothing is ever evicted, only started anew: before each quarter of a window,
    the first `sinks` tokens and the last three quarters are computed afresh. [len(ids) - 1].
    """
    window, sinks = session.plan.window, session.plan.sinks
    hop = window // 4
    parts = [surprise(session.forward(ids[: window + sinks - 1]), ids[1 : window + sinks])]
    for start in range(window + sinks, len(ids), hop):
        text = np.concatenate([ids[:sinks], ids[start - (window - hop) : start + hop]])
        count = min(hop, len(ids) - start)
        session.reset()
        parts.append(surprise(session.forward(text[:-1])[-count:], text[-count:]))
    return np.concatenate(parts)


def perplexities(surprises: Array, buckets: int) -> list[float]:
    return [float(np.exp(part.mean())) for part in np.array_split(surprises, buckets)]


# ---- recall ------------------------------------------------------------------------------------------------


def recall(model: edgekit.Model, window: int, gap: int) -> tuple[int, float]:
    """A story names a boy; `gap` tokens later he says his name. Tokens from the name to the question's end,
    and the evidence for that name: log p of the name when it is the boy's, less log p of the same name when
    the boy has another; nats, mean over NAMES. 0: nothing is remembered.
    """
    encode = partial(model.tokenizer.encode, add_special_tokens=False)
    names = [np.array(encode(" " + name), np.int32) for name in NAMES]
    filler = encode(FILLER * (2 + gap // len(encode(FILLER))))[:gap]
    question = encode(QUESTION)
    log_p = np.zeros((len(NAMES), len(NAMES)))
    with model.session(window=window, sinks=SINKS, kv="f32") as session:
        for row, name in enumerate(NAMES):
            session.reset()
            fact = model.tokenizer.encode(FACT.format(name))
            asked = session.forward([*fact, *filler, *question], all_logits=False)
            for column, ids in enumerate(names):
                with session.fork() as answer:
                    logits = np.concatenate([asked, answer.forward(ids)[:-1]])
                log_p[row, column] = -surprise(logits, ids).sum()
    own = np.diag(log_p)
    others = (log_p.sum(axis=0) - own) / (len(NAMES) - 1)
    distance = len(encode(FACT.split("{0}")[2])) + gap + len(question)
    return distance, float((own - others).mean())


# ---- the plot ----------------------------------------------------------------------------------------------

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b")
WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 70


@dataclass(frozen=True)
class Panel:
    """Lines over a common axis from 0; each line is a name, its x and its y."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]]
    top: float = 0.0  # the y axis reaches at least here


def draw(panels: Sequence[Panel], columns: int = 2) -> str:
    """An SVG with the panels in rows."""
    rows = -(-len(panels) // columns)
    body = "".join(
        f'<g transform="translate({i % columns * WIDTH} {i // columns * HEIGHT})">{_panel(panel)}</g>\n'
        for i, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns * WIDTH}" height="{rows * HEIGHT}" '
        f'viewBox="0 0 {columns * WIDTH} {rows * HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#222">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    x_max = max(max(x) for _, x, _ in panel.lines)
    low = min(0.0, *(min(y) for _, _, y in panel.lines))
    ticks = _ticks(low, max(panel.top, *(max(y) for _, _, y in panel.lines)))
    low, high = ticks[0], ticks[-1]

    def at_x(x: float) -> float:
        return LEFT + x / x_max * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{escape(panel.title)}</text>']
    for y in ticks:
        parts.append(f'<path d="M{LEFT} {at_y(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in _ticks(0, x_max):
        if x <= x_max:
            parts.append(
                f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{x:,g}</text>'
            )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 30}" text-anchor="middle">'
        f"{escape(panel.x_label)}</text>"
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(panel.y_label)}</text>"
    )
    for i, (name, xs, ys) in enumerate(panel.lines):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        at, below = LEFT + i % 2 * (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 28 + i // 2 * 14
        parts.append(f'<rect x="{at}" y="{below}" width="10" height="3" fill="{colour}"/>')
        parts.append(f'<text x="{at + 14}" y="{below + 5}" font-size="10">{escape(name)}</text>')
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that embrace [low, high]."""
    raw = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = int(np.floor(low / step)), int(np.ceil(high / step - 1e-9))
    return [float(step * i) for i in range(first, last + 1)]


# ---- all of it ---------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Every figure of one model."""
    say = partial(print, f"{path.stem}:", flush=True)
    text = args.text.read_text("utf-8")
    model = edgekit.Model(path, threads=args.threads)
    with model.session(window=args.window, sinks=SINKS, kv=args.kv) as session:
        run = write_long(session, args.tokens)
    say(
        f"{run.tokens} tokens written, {np.median(run.ms_per_token):.4f} ms each; last tenth "
        f"{run.slowdown:.3f} times the first, {run.drift:.3f} times a young session; "
        f"RSS {run.rss_kib[-1]:.0f} KiB, slope {run.rss_slope:+.2f} KiB per 100,000 tokens"
    )
    ids = np.array(model.tokenizer.encode(text)[: args.read], np.int32)
    ring = {}
    for sinks in (SINKS, 0):
        with model.session(window=args.window, sinks=sinks, kv=args.kv) as session:
            ring[sinks] = read_long(session, ids)
    with model.session(window=args.window, sinks=SINKS, kv=args.kv) as session:
        recomputed = read_recomputed(session, ids)
    say(
        f"perplexity of {len(ids)} tokens {np.exp(ring[SINKS].mean()):.2f} with {SINKS} sinks, "
        f"{np.exp(ring[0].mean()):.2f} with none, {np.exp(recomputed.mean()):.2f} recomputed"
    )
    recalls = {
        window: [recall(model, window, gap) for gap in (*range(0, 128, 8), *range(128, 513, 32))]
        for window in (64, args.window)
    }
    return {
        "model": path.stem,
        "scheme": model.scheme,
        "isa": model.isa,
        "threads": model.threads,
        "layers": model.n_layers,
        "window": args.window,
        "sinks": SINKS,
        "kv": args.kv,
        "write": {
            **asdict(run),
            "rss_slope_kib_per_100k": run.rss_slope,
            "slowdown": run.slowdown,
            "drift": run.drift,
        },
        "read": {
            "tokens": len(ids),
            "perplexity": {
                "sinks": float(np.exp(ring[SINKS].mean())),
                "no_sinks": float(np.exp(ring[0].mean())),
                "recomputed": float(np.exp(recomputed.mean())),
            },
            "buckets": {
                "sinks": perplexities(ring[SINKS], 20),
                "no_sinks": perplexities(ring[0], 20),
                "recomputed": perplexities(recomputed, 20),
            },
        },
        "recall": {str(window): points for window, points in recalls.items()},
    }


def plot(results: Sequence[dict[str, Any]]) -> str:
    """The SVG of `measure`'s figures."""
    memory, speed, quality = [], [], []
    for result in results:
        run, read = result["write"], result["read"]
        tokens = [run["tokens"] * (i + 1) / len(run["rss_kib"]) / 1e6 for i in range(len(run["rss_kib"]))]
        memory.append((result["model"], tokens, [kib / 1024 for kib in run["rss_kib"]]))
        speed.append((result["model"], tokens, run["old_over_young"]))
        buckets = read["buckets"]
        at = [read["tokens"] * (i + 0.5) / len(buckets["sinks"]) / 1e3 for i in range(len(buckets["sinks"]))]
        for key, label in (("sinks", f"{result['sinks']} sinks"), ("no_sinks", "0 sinks")):
            ratio = [a / b for a, b in zip(buckets[key], buckets["recomputed"], strict=True)]
            quality.append((f"{result['model']}, {label}", at, ratio))
    kept = [
        (f"{result['model']}, window {window}", [x for x, _ in points], [y for _, y in points])
        for result in results
        for window, points in result["recall"].items()
    ]
    return draw(
        [
            Panel("Resident memory of the process", "million tokens written", "MiB", memory),
            Panel(
                "Time of a token ÷ that of a young session",
                "million tokens written",
                "ratio",
                speed,
                top=1.5,
            ),
            Panel(
                "Perplexity of a book, ring ÷ recomputed", "thousand tokens read", "ratio", quality, top=1.5
            ),
            Panel("Evidence for a name told before", "tokens since the name", "nats", kept),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.edge")
    parser.add_argument("--text", required=True, type=Path, help="a book, UTF-8")
    parser.add_argument("-o", "--out", required=True, type=Path, help="writes OUT.json and OUT.svg")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="tokens written")
    parser.add_argument("--read", type=int, default=100_000, help="tokens of the book read, at most")
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--kv", default="int8")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    # A process for each model: what one leaves behind is not in the other's figures.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        results = pool.map(partial(measure, args), args.models, chunksize=1)
    document = {
        "machine": f"{platform.system()} {platform.machine()}",
        "text": args.text.name,
        "models": results,
    }
    args.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    args.out.with_suffix(".svg").write_text(plot(results), "utf-8")


if __name__ == "__main__":
    main()
