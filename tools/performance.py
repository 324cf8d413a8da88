"""The tables of docs/performance.md: edgekit beside llama.cpp on models of real shapes and random weights.

python tools/performance.py CONFIG.json [CONFIG.json ...] --work DIRECTORY [--depth 0,4096] [--repetitions 5]

CONFIG.json is the config.json of a Hugging Face checkpoint. DIRECTORY keeps the models (for a model of 1 B
parameters 2 GB) and the result of `edgekit bench` as JSON. llama.cpp has its Q4_0 and its Q4_K_M of the same
weights, made by its own code, each at three settings; the best of all counts. Build llama-cpp-python for your
processor (docs/benchmark.md).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import llama_models

import edgekit
from edgekit.bench import machine, protocol, report
from edgekit.converters import synth

THEIRS = ("Q4_0", "Q4_K_M")
PEER = "llama_cpp"


def make_models(config: Path, work: Path) -> tuple[Path, list[Path]]:
    """Our package and llama.cpp's files."""
    name = config.name.removesuffix(".json").removesuffix(".config")
    ours = work / f"{name}.edge"
    theirs = [work / f"{name}-{file_type}.gguf" for file_type in THEIRS]
    if all(path.exists() for path in (ours, *theirs)):
        return ours, theirs
    checkpoint, wide = work / f"{name}-checkpoint", work / f"{name}-f16.gguf"
    print(f"making {name} in {work}", file=sys.stderr)
    synth.synth(json.loads(config.read_text()), checkpoint)
    edgekit.convert(checkpoint, ours, scheme="q4", verify=False)
    edgekit.convert(checkpoint, wide, format="gguf", scheme="f16", verify=False)
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()
    for path, file_type in zip(theirs, THEIRS, strict=True):
        llama_models.quantize(wide, path, file_type)
    wide.unlink()
    return ours, theirs


def spread(row: dict[str, Any], metric: str) -> str:
    return f"{row[metric]:.4g} ({row['min'][metric]:.4g}–{row['max'][metric]:.4g})"


def setting(label: str) -> str:
    """ "llama_cpp MODEL-Q4_0 flash_attention=on kv=f16" as "Q4_0, flash attention on, f16"."""
    file_type = next(name for name in THEIRS if f"-{name} " in label)
    settings = dict(word.split("=") for word in label.split() if "=" in word)
    return f"{file_type}, flash attention {settings['flash_attention']}, {settings['kv']}"


def speeds(result: dict[str, Any], metric: str, what: str) -> list[list[str]]:
    """A row for each depth and prompt."""
    lines = []
    for ours in result["rows"]:
        if ours["engine"].split()[0] != protocol.OURS:
            continue
        theirs = max(
            (
                row
                for row in result["rows"]
                if row["engine"].split()[0] == PEER
                and (row["depth"], row["prompt"]) == (ours["depth"], ours["prompt"])
            ),
            key=lambda row: row[metric],
        )
        fraction = ours["bandwidth_fraction" if metric == "decode_tok_s" else "dot_peak_fraction"]
        lines.append(
            [
                what.format(prompt=ours["prompt"], depth=ours["depth"], after=ours["depth"] + ours["prompt"]),
                spread(ours, metric),
                spread(theirs, metric),
                setting(theirs["engine"]),
                f"**{ours[metric] / theirs[metric]:.2f}×**",
                f"{fraction:.0%}" if fraction else "",
            ]
        )
    return lines


def loads(result: dict[str, Any]) -> list[list[str]]:
    metric = "open_to_first_token_ms"
    lines = []
    for cache in ("warm", "cold"):
        rows = [row for row in result["loads"] if row["cache"] == cache]
        ours = [row for row in rows if row["engine"].split()[0] == protocol.OURS]
        theirs = [row for row in rows if row["engine"].split()[0] == PEER]
        if not ours or not theirs:
            continue
        best = min(theirs, key=lambda row: row[metric])
        lines.append(
            [
                f"open + first token of {ours[0]['prompt']}, {cache}, ms",
                spread(ours[0], metric),
                spread(best, metric),
                setting(best["engine"]),
                f"**{ours[0][metric] / best[metric]:.2f}×**",
                "",
            ]
        )
    return lines


def memory(result: dict[str, Any]) -> list[list[str]]:
    """Anonymous memory that is neither the process's before opening nor keys and values."""
    cost: dict[str, float] = {}
    for label, engine in result["engines"].items():
        if engine.get("memory") and engine.get("memory_before"):
            held = engine["memory"]["anonymous_bytes"] - engine["memory_before"]["anonymous_bytes"]
            cost[label] = (held - engine.get("cache_bytes", 0)) / 2**20
    ours = [value for label, value in cost.items() if label.split()[0] == protocol.OURS]
    theirs = {label: value for label, value in cost.items() if label.split()[0] == PEER}
    if not ours or not theirs:
        return []
    best = min(theirs, key=lambda label: theirs[label])
    what = "anonymous memory beyond keys and values, MiB (theirs: with them)"
    return [[what, f"{ours[0]:.1f}", f"{theirs[best]:.0f}", setting(best), "", ""]]


def table(result: dict[str, Any]) -> str:
    head = ["what", "edgekit", "llama.cpp, best", "its setting", "ratio", "of the machine's limit"]
    lines = [
        *speeds(result, "decode_tok_s", "decode, tok/s, after {after} tokens"),
        *speeds(result, "prefill_tok_s", "prefill of {prompt} at depth {depth}, tok/s"),
        *loads(result),
        *memory(result),
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---", *["---:"] * 5], *lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", type=Path, nargs="+", metavar="CONFIG.json")
    parser.add_argument("--work", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--prompt", default="128,512")
    parser.add_argument("--depth", default="0")
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=machine.usable_cpus())
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    options = protocol.Options(
        prompts=tuple(map(int, args.prompt.split(","))),
        decode=args.decode,
        depths=tuple(map(int, args.depth.split(","))),
        threads=args.threads,
        kv="int8",
        repetitions=args.repetitions,
    )
    for config in args.configs:
        ours, theirs = make_models(config, args.work)
        result = protocol.run(ours, options, [f"{PEER}={path}" for path in theirs])
        ours.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"\n{ours.stem}: {report.machine_line(result)}\n\n{table(result)}")
        for label, engine in result["engines"].items():
            if engine["engine"] == protocol.OURS or "off" in label:
                print(
                    f"\n{label}: {engine['file_bytes'] / 2**20:.0f} MiB, "
                    f"{engine['bits_per_weight']:.2f} bits per weight"
                )
        for warning in report.warnings(result):
            print(f"\nwarning: {warning}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
