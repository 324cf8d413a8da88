"""Distils the sample model into one of half its size, which tells stories too.

    python samples/distill_sample_model.py -o build/distilled

No text is needed: the student learns from stories that its teacher tells. It takes a few minutes of one CPU
core and `pip install 'edgekit[train]'`; with fewer --stories and --tokens it is faster and learns less.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import edgekit

TEACHER = Path(__file__).parent / "model"
OPENINGS = ("Once upon a time", "One day", "There was a", "In a small", "A little", "Every morning")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for texts and both packages")
    parser.add_argument("--stories", type=int, default=200, help="to learn from (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=50000, help="to train with (default %(default)s)")
    parser.add_argument("--layers", type=int, default=3, help="of the teacher's six (default %(default)s)")
    parser.add_argument("--share", type=float, default=0.5, help="of its parameters (default %(default)s)")
    return parser.parse_args()


def tell(model: edgekit.Model, opening: str, seed: int) -> str:
    told = model.session().generate(opening, max_tokens=220, temperature=0.8, seed=seed)
    return opening + "".join(event.text for event in told if isinstance(event, edgekit.TextEvent))


def write_stories(model: edgekit.Model, path: Path, seeds: range) -> None:
    with path.open("w", encoding="utf-8") as file:
        for seed in seeds:
            story = tell(model, OPENINGS[seed % len(OPENINGS)], seed)
            file.write(json.dumps({"text": story}) + "\n")


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    teacher, student = args.out / "teacher.edge", args.out / "student.edge"
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {what}", file=sys.stderr, flush=True)

    size = edgekit.convert(TEACHER, teacher, scheme="q8").n_parameters or 0
    say(f"the teacher, {size / 1e6:.1f} million parameters, tells {args.stories} stories")
    with edgekit.Model(teacher) as model:
        write_stories(model, args.out / "stories.jsonl", range(args.stories))
        write_stories(model, args.out / "held-out.jsonl", range(args.stories, args.stories + 6))
    say(f"the student learns from {args.tokens} tokens of them")
    shutil.rmtree(args.out / "student", ignore_errors=True)  # of an earlier run
    report = edgekit.distill(
        TEACHER,
        args.out / "student",
        text=[str(args.out / "stories.jsonl")],
        held_out=str(args.out / "held-out.jsonl"),
        layers=args.layers,
        target_params=int(args.share * size),
        tokens=args.tokens,
        learning_rate=2e-3,
    )
    edgekit.convert(args.out / "student", student, scheme="q8")
    scores = report.scores
    assert scores is not None
    say(
        f"{report.n_parameters / size:.0%} of the parameters; bits per byte {scores.bits_per_byte:.3f}, the "
        f"teacher's {scores.bits_per_byte_teacher:.3f}; same first choice {scores.top1_agreement:.0%}"
    )
    for name, path in (("teacher", teacher), ("student", student)):
        with edgekit.Model(path) as model:
            print(f"\n--- the {name} ({path.stat().st_size / 2**20:.1f} MiB)\n{tell(model, OPENINGS[0], 7)}")


if __name__ == "__main__":
    main()
