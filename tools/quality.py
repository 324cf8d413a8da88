"""A table of docs/quality.md: what is left of a real model in every package of it, ours and others'.

    python tools/quality.py MODEL.gguf --corpora CORPORA --work DIRECTORY [--only PATTERN…] [--svg F.svg]
    python tools/quality.py MODEL.gguf --corpora CORPORA --work DIRECTORY --tasks tools/completions.jsonl …

The model is moved off the grid that it was published on first (tools/off_grid.py). Measured are the second
halves of WikiText-2's validation text and of two books; what calibrates has the first half of the former.
llama.cpp, mlx-lm and ONNX Runtime quantize with their own code, by their own recipes; every package is scored
in its own engine, but MLX's by their weights in ours: MLX's kernels take a second for eight tokens on a CPU.
DIRECTORY keeps checkpoint, packages, the reference's logits and results, and what it has is not made again.
Needs llama-cpp-python, mlx-lm and onnx-ir for theirs.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import off_grid

import edgekit
from edgekit.evaluation import Evaluation, TaskResult, evaluate, read_tasks, report, solve
from edgekit.files import bytes_of
from edgekit.in_place_of import in_place_of

CALIBRATION_TOKENS = 8192
PIECE = 512

# Options of `edgekit.convert`. With CALIBRATED the calibration text chooses the codes, else the built-in one;
# with TUNED scales are trained on it too.
CALIBRATED = "+calibrate"
TUNED = "+tune"
OURS: dict[str, dict[str, Any]] = {
    "default": {},
    "q3": {"scheme": "q3"},
    "q4": {"scheme": "q4"},
    "q4_block32-nearest": {"scheme": "q4_block32", "calibrate": None},
    "q5_block32": {"scheme": "q5_block32"},
    f"q5_block32{CALIBRATED}": {"scheme": "q5_block32"},
    "q6": {"scheme": "q6"},
    "q8": {"scheme": "q8"},
    "mlx-q4": {"format": "mlx"},
    "onnx-q4_f32": {"format": "onnx", "scheme": "q4_f32"},
    f"q3{CALIBRATED}": {"scheme": "q3"},
    f"q4{CALIBRATED}": {"scheme": "q4"},
    f"q5{CALIBRATED}": {"scheme": "q5"},
    f"q6{CALIBRATED}": {"scheme": "q6"},
    f"mlx-q4{CALIBRATED}": {"format": "mlx"},
    f"onnx-q4_f32{CALIBRATED}": {"format": "onnx", "scheme": "q4_f32"},
}
SUFFIX = {"edge": ".edge", "gguf": ".gguf"}
IMATRIX = "+imatrix"
LLAMA_CPP = (
    f"Q3_K_M{IMATRIX}", f"IQ4_XS{IMATRIX}", "Q4_0", "Q4_K_M", f"Q4_K_M{IMATRIX}", "Q6_K", "Q8_0"
)  # fmt: skip
MLX_LM = {"": "nearest", "-GPTQ": "gptq", "-DWQ": "dwq"}  # functions of tools/mlx_models.py
MLX_BITS, MLX_GROUPS = 4, (64, 32)
DWQ_TOKENS = TUNE_TOKENS = 4 * CALIBRATION_TOKENS
ONNXRUNTIME = ("RTN", "RTN-symmetric", "k-quant", "HQQ")  # tools/onnxruntime_models.py
THEIRS = ("mlx-lm", "onnxruntime")  # begin the names of theirs


@dataclass(frozen=True)
class Texts:
    """Of the folder with wikitext-2/ and gutenberg/."""

    corpora: Path

    @property
    def calibration(self) -> str:
        return self._half("wikitext-2/wiki.valid.tokens", 0)

    @property
    def measured(self) -> dict[str, str]:
        books = ("gutenberg/frankenstein.txt", "gutenberg/pride_and_prejudice.txt")
        return {
            "wikitext": self._half("wikitext-2/wiki.valid.tokens", 1),
            "books": "".join(self._half(book, 1) for book in books),
        }

    def _half(self, name: str, which: int) -> str:
        text = (self.corpora / name).read_text("utf-8")
        middle = text.index("\n", len(text) // 2)
        return text[middle:] if which else text[:middle]


class Model:
    """A model's folder: the checkpoint, and what is made of it, by name."""

    def __init__(self, gguf: Path, work: Path, texts: Texts, threads: int) -> None:
        self.folder, self.texts, self.threads = work / gguf.stem, texts, threads
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self._made("checkpoint", lambda out: off_grid.write(gguf, out))
        self.reference = self._made("f16.edge", lambda out: self._convert(out, scheme="f16"))

    def recipes(
        self, sizes: Sequence[int] = (), seeds: Sequence[int] = (0,)
    ) -> dict[str, Callable[[], Path]]:
        """A package's name, and what makes it; ours also at `sizes` of so many megabytes, the calibrated by
        each of `seeds`.
        """
        found: dict[str, Callable[[], Path]] = {}
        mixes = {
            f"{size}MB{end}": {"target_bytes": size * 10**6} for size in sizes for end in ("", CALIBRATED)
        }
        made = {**OURS, **mixes}
        tuned = {
            f"{name}{TUNED}": {**options, "tune": TUNE_TOKENS}
            for name, options in made.items()
            if name.endswith(CALIBRATED)
        }
        for name, options in {**made, **tuned}.items():
            if CALIBRATED not in name:
                found[name] = functools.partial(self._ours, name, options)
                continue
            for seed in seeds:
                seeded = f"{name}@{seed}" if seed else name
                calibration = {"calibrate": self._calibration(), "seed": seed}
                found[seeded] = functools.partial(self._ours, seeded, {**options, **calibration})
        for name in LLAMA_CPP:
            found[name] = functools.partial(self._llama_cpp, name)
        for group in MLX_GROUPS:
            for end, method in MLX_LM.items():
                name = f"mlx-lm {MLX_BITS}bit-g{group}{end}"
                found[name] = functools.partial(self._mlx_lm, name, method, group)
        for algorithm in ONNXRUNTIME:
            found[f"onnxruntime {algorithm}"] = functools.partial(self._onnxruntime, algorithm)
        return found

    def result(self, package: Path, text: str, tokens: int) -> Evaluation:
        """Kept, as long as the package stays what it was."""
        kept = self.folder / "results" / f"{package.name}-{text}-{tokens}.json"
        if not kept.exists() or kept.stat().st_mtime < package.stat().st_mtime:
            scored = self._in_floats if package.name.startswith("mlx") else self._evaluated
            found = scored(package, text, tokens)
            _write(kept, found)
        return Evaluation(**json.loads(kept.read_text("utf-8")))

    def _evaluated(self, package: Path, text: str, tokens: int) -> Evaluation:
        (found,) = evaluate(
            [package],
            self.reference,
            self.texts.measured[text],
            tokens=tokens,
            threads=self.threads,
            cache=self.folder / "logits",
        )
        return found

    def _in_floats(self, package: Path, text: str, tokens: int) -> Evaluation:
        """By the weights of `package`, in our engine."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            wide = Path(folder) / "f32.edge"
            edgekit.convert(package, wide, scheme="f32", verify=False)
            found = self._evaluated(wide, text, tokens)
        size = bytes_of(package)
        bits = found.bits_per_weight * size / found.size_bytes
        return replace(found, model=str(package), engine="mlx", size_bytes=size, bits_per_weight=bits)

    def solved(self, package: Path, tasks: Path) -> TaskResult:
        """Kept likewise."""
        kept = self.folder / "results" / f"{package.name}-{tasks.stem}.json"
        if not kept.exists() or kept.stat().st_mtime < max(package.stat().st_mtime, tasks.stat().st_mtime):
            (found,) = solve([package], read_tasks(tasks), threads=self.threads)
            _write(kept, found)
        return TaskResult(**json.loads(kept.read_text("utf-8")))

    def _made(self, name: str, make: Callable[[Path], Any]) -> Path:
        out = self.folder / name
        if not out.exists():
            began = time.process_time()
            make(out)
            print(f"{out}: {time.process_time() - began:.0f} CPU-seconds", file=sys.stderr)
        return out

    def _ours(self, name: str, options: Mapping[str, Any]) -> Path:
        suffix = SUFFIX.get(options.get("format", "edge"), "")
        return self._made(f"{name}{suffix}", lambda out: self._convert(out, **options))

    def _convert(self, out: Path, **options: Any) -> None:
        edgekit.convert(self.checkpoint, out, verify=False, **options)

    def _calibration(self) -> Path:
        return self._made("calibration.txt", lambda out: out.write_text(self.texts.calibration, "utf-8"))

    def _llama_cpp(self, name: str) -> Path:
        import llama_models

        def make(out: Path) -> None:
            importance = self._importance() if name.endswith(IMATRIX) else None
            llama_models.quantize(self._wide(), out, name.removesuffix(IMATRIX), importance)

        return self._made(f"{name}.gguf", make)

    def _wide(self) -> Path:
        return self._made("f16.gguf", lambda out: self._convert(out, format="gguf", scheme="f16"))

    def _importance(self) -> Mapping[str, Any]:
        import llama_models
        import numpy as np

        def make(out: Path) -> None:
            pieces = self._pieces(CALIBRATION_TOKENS)
            with in_place_of(out) as part, part.open("wb") as file:
                np.savez(file, **llama_models.importance(self._wide(), pieces, self.threads))

        return np.load(self._made("imatrix.npz", make))

    def _mlx_lm(self, name: str, method: str, group: int) -> Path:
        import mlx_models

        tokens = {"nearest": 0, "gptq": CALIBRATION_TOKENS, "dwq": DWQ_TOKENS}[method]
        return self._made(
            name,
            lambda out: getattr(mlx_models, method)(
                self.checkpoint, out, MLX_BITS, group, *([self._pieces(tokens)] if tokens else [])
            ),
        )

    def _onnxruntime(self, algorithm: str) -> Path:
        import onnxruntime_models

        wide = self._made("f32-onnx", lambda out: self._convert(out, format="onnx", scheme="f32"))
        return self._made(
            f"onnxruntime {algorithm}", lambda out: onnxruntime_models.quantize(wide, out, algorithm)
        )

    def _pieces(self, tokens: int) -> list[list[int]]:
        """About `tokens` ids of the calibration text, in pieces of `PIECE`."""
        with edgekit.Model(self.reference) as model:
            ids = model.tokenizer.encode(self.texts.calibration, add_special_tokens=False)
            start = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
        step = PIECE - len(start)
        return [start + ids[at : at + step] for at in range(0, tokens, step)]


def _write(path: Path, found: Evaluation | TaskResult) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found.to_json()), "utf-8")


def table(rows: list[tuple[str, dict[str, Evaluation]]]) -> str:
    """Markdown, the smallest first."""
    lines = [
        "| package | MB | bits | KL, WikiText | 99% | same first choice | perplexity | KL, books | 99% |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in sorted(rows, key=lambda row: row[1]["wikitext"].size_bytes):
        wiki, books = found["wikitext"], found["books"]
        cells = [
            _label(name),
            f"{wiki.size_bytes / 1e6:.1f}",
            f"{wiki.bits_per_weight:.2f}",
            _with(wiki.kl_mean, wiki.kl_mean_interval),
            f"{wiki.kl_p99:.3f}",
            f"{wiki.same_first:.1%}",
            f"× {wiki.ppl_ratio:.4f}",
            _with(books.kl_mean, books.kl_mean_interval),
            f"{books.kl_p99:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def task_table(reference: TaskResult, rows: list[tuple[str, TaskResult]]) -> str:
    """Markdown, the smallest first."""
    lines = ["| package | MB | solved | lost | gained |", "|---|---:|---:|---:|---:|"]
    for name, found in sorted([*rows, ("f16", reference)], key=lambda row: row[1].size_bytes):
        pairs = list(zip(reference.solved, found.solved, strict=True))
        cells = [
            _label(name),
            f"{found.size_bytes / 1e6:.1f}",
            f"{sum(found.solved)} of {found.tasks}",
        ]
        cells += [str(pairs.count(pair)) for pair in ((True, False), (False, True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _label(name: str) -> str:
    if name in LLAMA_CPP:
        return f"llama.cpp {name}"
    return name if name.startswith(THEIRS) else f"**`{name}`**"


def _with(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f}–{interval[1]:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="names of packages")
    parser.add_argument(
        "--size", nargs="+", type=int, default=[], metavar="MB", help="mixes of these sizes too"
    )
    parser.add_argument("--seed", nargs="+", type=int, default=[0], help="of the calibrated packages")
    parser.add_argument("--tokens", type=int, default=4096, help="of each text; half of them are scored")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--svg", type=Path, help="writes KL over bytes on WikiText")
    parser.add_argument("--tasks", type=Path, help="solves these instead of reading texts")
    args = parser.parse_args()

    model = Model(args.model, args.work, Texts(args.corpora), args.threads)
    packages = {
        name: make
        for name, make in model.recipes(args.size, args.seed).items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in args.only)
    }
    if args.tasks:
        reference = model.solved(model.reference, args.tasks)
        solved = [(name, model.solved(make(), args.tasks)) for name, make in packages.items()]
        print(task_table(reference, solved))
        return
    rows = []
    for name, make in packages.items():
        package = make()
        found = {text: model.result(package, text, args.tokens) for text in ("wikitext", "books")}
        rows.append((name, found))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr)
    print(table(rows))
    if args.svg:
        args.svg.write_text(report.kl_over_bytes([found["wikitext"] for _, found in rows]), "utf-8")


if __name__ == "__main__":
    main()
