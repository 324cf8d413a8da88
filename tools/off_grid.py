"""A checkpoint that no quantized format fits by luck, of a model that is published as a quantized file only.

    python tools/off_grid.py MODEL.gguf FOLDER

As they lie, the weights of such a file are on its grid, the format that it came from reproduces them exactly,
and every comparison with other formats is rigged. Here each gain of a norm, each row of `v_proj` and each row
of `up_proj` is multiplied by a factor between exp(-1/4) and exp(1/4), and what reads it divided by the same:
the function stays, the grid goes. FOLDER becomes a checkpoint of float16; for dense decoders with a gated
MLP.
"""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edgekit
from edgekit.in_place_of import in_place_of

F32 = NDArray[np.float32]
F16 = NDArray[np.float16]


def write(gguf: Path, folder: Path, seed: int = 0) -> None:
    with in_place_of(folder) as temporary:
        edgekit.convert(gguf, temporary, format="mlx", scheme="f16", verify=False)
        move(temporary, seed)


def move(folder: Path, seed: int) -> None:
    """Moves the checkpoint of float16 in `folder` off its grid, in its files."""
    tensors = mapped(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    offset = 1.0 if config["model_type"].startswith("gemma") else 0.0  # of the gains as they are stored
    groups = config["num_attention_heads"] // config["num_key_value_heads"]
    random = np.random.default_rng(seed)

    def factors(count: int) -> F32:
        return np.exp(random.uniform(-0.25, 0.25, count)).astype(np.float32)

    def scale(name: str, by: F32) -> None:
        """Rows by `[n, 1]`, columns by `[1, k]`."""
        tensors[name][:] = tensors[name].astype(np.float32) * by

    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        before_mlp = f"{at}.pre_feedforward_layernorm.weight"
        if before_mlp not in tensors:
            before_mlp = f"{at}.post_attention_layernorm.weight"
        for norm, readers in {
            f"{at}.input_layernorm.weight": [f"{at}.self_attn.{name}_proj.weight" for name in "qkv"],
            before_mlp: [f"{at}.mlp.{name}_proj.weight" for name in ("gate", "up")],
        }.items():
            gain = tensors[norm].astype(np.float32) + offset
            tensors[norm][:] = gain * (f := factors(gain.size)) - offset
            for name in readers:
                scale(name, 1 / f[None])
        value = f"{at}.self_attn.v_proj"
        f = factors(len(tensors[f"{value}.weight"]))
        scale(f"{value}.weight", f[:, None])
        if f"{value}.bias" in tensors:
            scale(f"{value}.bias", f)
        heads = np.repeat(f.reshape(config["num_key_value_heads"], -1), groups, axis=0)
        scale(f"{at}.self_attn.o_proj.weight", 1 / heads.reshape(1, -1))
        f = factors(len(tensors[f"{at}.mlp.up_proj.weight"]))
        scale(f"{at}.mlp.up_proj.weight", f[:, None])
        scale(f"{at}.mlp.down_proj.weight", 1 / f[None])


def mapped(folder: Path) -> dict[str, F16]:
    """The tensors of a checkpoint's files, to be written to."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin = 8 + size + entry["data_offsets"][0]
            found[name] = np.memmap(path, np.float16, "r+", begin, tuple(entry["shape"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    write(args.model, args.folder)


if __name__ == "__main__":
    main()
