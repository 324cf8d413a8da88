"""What a scheme costs in speed: the same random weights in each scheme, beside llama.cpp's nearest types.

python tools/scheme_speed.py CONFIG.json --work DIRECTORY [--schemes q4_block32,q5_block32] [--types Q6_K]

CONFIG.json is the config.json of a Hugging Face checkpoint. DIRECTORY keeps the models and the result of
`edgekit bench` as JSON. All run in one interleaved run; the first scheme is what the others are compared
with.
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

SCHEMES = "q4_block32,q4_affine32,q3_block32,q5_block32,q6_block32,q8_block32"
TYPES = "Q4_K_M,Q5_K_M,Q6_K"


def make_models(
    config: Path, work: Path, schemes: list[str], types: list[str]
) -> tuple[list[Path], list[Path]]:
    """Our packages and llama.cpp's files."""
    name = config.name.removesuffix(".json").removesuffix(".config")
    ours = {work / f"{name}-{scheme}.edge": scheme for scheme in schemes}
    theirs = {work / f"{name}-{file_type}.gguf": file_type for file_type in types}
    if not all(path.exists() for path in (*ours, *theirs)):
        checkpoint, wide = work / f"{name}-checkpoint", work / f"{name}-f16.gguf"
        if not checkpoint.exists():
            synth.synth(json.loads(config.read_text()), checkpoint)
        for path, scheme in ours.items():
            if not path.exists():
                print(f"making {path}", file=sys.stderr)
                edgekit.convert(checkpoint, path, scheme=scheme, calibrate=None, verify=False)
        if not wide.exists():
            edgekit.convert(checkpoint, wide, format="gguf", scheme="f16", verify=False)
        for path, file_type in theirs.items():
            if not path.exists():
                print(f"making {path}", file=sys.stderr)
                llama_models.quantize(wide, path, file_type)
        wide.unlink()
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    return list(ours), list(theirs)


def spread(row: dict[str, Any], metric: str) -> str:
    return f"{row[metric]:.4g} ({row['min'][metric]:.4g}–{row['max'][metric]:.4g})"


def table(result: dict[str, Any]) -> str:
    """A row for each model and prompt: speed, and the bytes that decode reads a second beside the first
    model's.
    """
    order = list(result["engines"])
    lines = [
        "| model | MiB | prompt | decode, tok/s | of the bandwidth | beside the first | prefill, tok/s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    first: dict[int, float] = {}
    for row in sorted(result["rows"], key=lambda row: order.index(row["engine"])):
        size = result["engines"][row["engine"]]["file_bytes"]
        read = row["decode_tok_s"] * size
        first.setdefault(row["prompt"], read)
        share = row["bandwidth_fraction"]
        lines.append(
            f"| {row['engine']} | {size / 2**20:.0f} | {row['prompt']} | {spread(row, 'decode_tok_s')} | "
            f"{f'{share:.0%}' if share else ''} | {read / first[row['prompt']]:.2f} | "
            f"{spread(row, 'prefill_tok_s')} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.json")
    parser.add_argument("--work", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--schemes", default=SCHEMES)
    parser.add_argument("--types", default=TYPES, help="'' for none")
    parser.add_argument("--prompt", default="128")
    parser.add_argument("--decode", type=int, default=48)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=machine.usable_cpus())
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    types = list(filter(None, args.types.split(",")))
    ours, theirs = make_models(args.config, args.work, args.schemes.split(","), types)
    options = protocol.Options(
        prompts=tuple(map(int, args.prompt.split(","))),
        decode=args.decode,
        threads=args.threads,
        kv="f16",
        repetitions=args.repetitions,
    )
    peers = [f"edgekit={path}" for path in ours[1:]] + [f"llama_cpp={path}" for path in theirs]
    result = protocol.run(ours[0], options, peers)
    ours[0].with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{report.machine_line(result)}\n\n{table(result)}")
    for warning in report.warnings(result):
        print(f"\nwarning: {warning}")


if __name__ == "__main__":
    main()
