"""A checkpoint as a LiteRT-LM model, by LiteRT Torch's own export, for measuring.

python tools/litert_model.py CHECKPOINT MODEL.litertlm [--recipe dynamic_wi4b32_afp32] [--context 640]

For the processor: weights as the recipe of ai-edge-quantizer says (by default 4 bits with a scale for each 32
columns), activations quantized to 8 bits as they come, 32-bit keys and values. Shapes are fixed: a prompt is
computed in pieces of `--prefill` tokens, and attention always reads all `--context` positions, so give no
more than the benchmark needs (depth + prompt + decode + 8). CHECKPOINT is a directory that Transformers can
load. The tokenizer is replaced by one whose words are the ids, "17 4 2093", and no text ends by itself:
LiteRT-LM takes text, and a benchmark has tokens. In an environment of its own, since torch is large:

    pip install litert-torch==0.9.4 torch==2.13.0
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from litert_torch.generative.export_hf.export import export
from tokenizers import Tokenizer, models, pre_tokenizers


def with_numbers_for_words(checkpoint: Path, directory: Path) -> None:
    """`checkpoint` again in `directory`, its weights as links."""
    config = json.loads((checkpoint / "config.json").read_text())
    size = config["vocab_size"]
    config |= {"bos_token_id": None, "pad_token_id": None, "eos_token_id": size}  # there is no such token
    (directory / "config.json").write_text(json.dumps(config))
    words = Tokenizer(models.WordLevel({str(id): id for id in range(size)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(directory / "tokenizer.json"))
    for weights in checkpoint.glob("*.safetensors*"):
        (directory / weights.name).symlink_to(weights.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("target", type=Path, metavar="MODEL.litertlm")
    parser.add_argument("--recipe", default="dynamic_wi4b32_afp32")
    parser.add_argument("--prefill", default="16,128,512", help="tokens of the pieces of a prompt")
    parser.add_argument("--context", type=int, default=640, help="positions of the cache")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.target.parent) as work:
        checkpoint, exported = Path(work, "checkpoint"), Path(work, "exported")
        checkpoint.mkdir()
        with_numbers_for_words(args.checkpoint, checkpoint)
        export(
            str(checkpoint),
            str(exported),
            prefill_lengths=list(map(int, args.prefill.split(","))),
            cache_length=args.context,
            quantization_recipe=args.recipe,
            tokenizer_path_override=str(checkpoint / "tokenizer.json"),  # Transformers has its own for some
        )
        (exported / "model.litertlm").rename(args.target)


if __name__ == "__main__":
    main()
