"""What 4 bits cost in edgekit and in llama.cpp, as a Markdown table: one checkpoint, one text.

python tools/quantization_quality.py CHECKPOINT --text FILE [--tokens N]

llama.cpp quantizes with its own code (`llama_model_quantize`), from the GGUF file that `edgekit convert`
writes, and computes the logits of its own files.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import llama_models

import edgekit
from edgekit.evaluation import evaluate

OURS = ("q4", "q4_block32", "q4_head8", "q8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        models = []
        for scheme in OURS:
            models.append(Path(folder, f"edgekit {scheme}.edge"))
            edgekit.convert(args.checkpoint, models[-1], scheme=scheme, verify=False)
        wide = Path(folder, "wide.gguf")
        edgekit.convert(args.checkpoint, wide, format="gguf", scheme="f32", verify=False)
        for name in llama_models.FILE_TYPES:
            models.append(Path(folder, f"llama.cpp {name}.gguf"))
            llama_models.quantize(wide, models[-1], name)
        reference = Path(folder, "f32.edge")
        edgekit.convert(args.checkpoint, reference, scheme="f32", verify=False)
        found = evaluate(models, reference, args.text.read_text("utf-8"), tokens=args.tokens)
    print("| | MB | perplexity | KL mean (95%) | KL 99.9% | same first choice |")
    print("|---|---:|---:|---:|---:|---:|")
    for each in found:
        low, high = each.kl_mean_interval
        print(
            f"| {Path(each.model).stem} | {each.size_bytes / 1e6:.2f} | × {each.ppl_ratio:.4f} "
            f"| {each.kl_mean:.5f} ({low:.5f}–{high:.5f}) | {each.kl_p999:.3f} | {each.top1_agreement:.2%} |"
        )


if __name__ == "__main__":
    main()
