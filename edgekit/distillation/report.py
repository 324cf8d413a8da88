"""A distillation as one HTML page: how the loss fell, and teacher and student side by side."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.distillation import LOG, DistillReport
from edgekit.page import Table, curves, page
from edgekit.units import number, quantity, size

WORDS = {
    "bits per byte": "how much the held-out text surprises a model, by byte of it",
    "KL": "Kullback–Leibler divergence of the teacher's distribution from the student's, in nats a token",
    "same first choice": "how often both hold the same token for the likeliest",
    "package": "bytes as an .edge file, all of it; tokens a second decoded from it on this machine",
    "loss": "of each step, on its own texts; validation: on a text that is not learned from",
}


def html_page(report: DistillReport, command: str) -> str:
    facts = [
        ["teacher", report.teacher],
        ["student", f"{report.path}: {report.n_layers} layers, {report.vocab_size} tokens"],
        ["took", f"{report.seconds:.0f} s"],
    ]
    if report.scores is not None:
        facts.append(["held-out text", f"{report.scores.n_bytes} bytes"])
    lines = _lines(Path(report.path) / LOG)
    return page(
        f"{Path(report.path).name}: edgekit distill",
        facts=facts,
        command=command,
        figures=[curves("loss by step", lines, "nats", "steps")] if lines else [],
        tables=[("before and after", table(report))],
        words=WORDS,
    )


def table(report: DistillReport) -> Table:
    """Teacher, student before it was trained, and student; the first row is of headings."""
    rows: Table = [["", "teacher", "student, untrained", "student"]]
    rows.append(
        [
            "parameters",
            *map(quantity, (report.n_parameters_teacher, report.n_parameters, report.n_parameters)),
        ]
    )
    after, before = report.scores, report.scores_before
    if after is not None:
        rows += [
            [
                "bits per byte",
                f"{after.bits_per_byte_teacher:.4f}",
                "" if before is None else f"{before.bits_per_byte:.4f}",
                f"{after.bits_per_byte:.4f}",
            ],
            ["KL", "0", "" if before is None else f"{before.kl_mean:.4f}", f"{after.kl_mean:.4f}"],
            [
                "same first choice",
                "100%",
                "" if before is None else f"{before.top1_agreement:.1%}",
                f"{after.top1_agreement:.1%}",
            ],
        ]
    if report.packed:
        sides = [report.packed[name] for name in ("teacher", "student")]
        for title, (theirs, ours) in (
            (f"package, {report.scheme}", [size(side.n_bytes) for side in sides]),
            ("tokens/s", [number(side.tokens_per_second) for side in sides]),
        ):
            rows.append([title, theirs, "", ours])
    return rows


def _lines(log: Path) -> dict[str, list[tuple[float, float]]]:
    if not log.exists():
        return {}
    steps = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    found = {
        name: [(step["step"] + 1.0, step[name]) for step in steps if name in step]
        for name in ("loss", "validation")
    }
    return {name: line for name, line in found.items() if line}
