"""What a token costs by the shape of the model: bytes read when it is decoded, multiplications when it is
computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgekit.converters import models
from edgekit.converters.checkpoint import read_json
from edgekit.converters.formats import edge
from edgekit.converters.sources import gguf
from edgekit.converters.spec import Layer, ModelSpec
from edgekit.errors import EdgekitError

# What a layer's cells are written from, of a row whose output nobody wants.
WRITTEN = ("k", "v", "latent", "k_rope", "conv_in", "state_q", "state_k", "state_v", "state_dt", "state_beta")


@dataclass(frozen=True)
class Cost:
    """Of one package. Experts count by the share of them that a token uses; an untied embedding's table by
    nothing, as one row of it is read, and so does that of per-layer embeddings.
    """

    spec: ModelSpec
    scheme: str
    n_parameters: int
    weight_bytes: float  # read for each decoded token
    body_macs: float  # for each decoded token, the head and attention apart
    last_macs: float  # of those, what only the last token of a prompt needs
    head_macs: float  # for the last token of a prompt, and each decoded one

    @staticmethod
    def of(path: Path) -> Cost:
        entries, _ = edge.read_header(path)
        metadata = edge.decode_metadata(entries.pop("__metadata__"))
        spec = ModelSpec.from_json(metadata["spec"])
        parameters, weight_bytes, body, last, head = 0, 0.0, 0.0, 0.0, 0.0
        # Of the last layer with a cache of its own, most of a prompt needs what goes into it and no more; of
        # those after it, nothing.
        end = spec.last_writer
        cached = {f"layers.{end}.{part}" for part in WRITTEN}
        for name, matrix in metadata["matrices"].items():
            n, k = matrix["shape"]
            begin, stop = entries[name]["data_offsets"]
            share = spec.moe.top_k / _experts(spec, name) if spec.moe and ".experts." in name else 1.0
            parameters += n * k
            if name == "head" or (name == "embed" and spec.tied):
                head += n * k
            elif name not in ("embed", "ple_embed"):
                body += share * n * k
                if _layer(name) >= end and name not in cached:
                    last += share * n * k
            if name != "ple_embed" and (name != "embed" or spec.tied):
                weight_bytes += share * (stop - begin)
        return Cost(spec, metadata["scheme"], parameters, weight_bytes, body, last, head)

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "spec": self.spec.to_json()}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Cost:
        """Inverse of `to_json`. Raises TypeError or KeyError."""
        return Cost(**{**data, "spec": ModelSpec.from_json(data["spec"])})

    def prefill_macs(self, prompt: int, depth: int) -> float:
        """Of `prompt` tokens after `depth` others; logits of the last alone."""

        def attention(layer: Layer, first: int) -> float:
            seen = sum(_seen(layer, depth + i + 1) for i in range(first, prompt))
            return 2.0 * layer.n_heads * layer.head_dim * seen

        end = self.spec.last_writer
        scores = sum(
            attention(layer, prompt - 1 if index >= end else 0)
            for index, layer in enumerate(self.spec.layers)
        )
        return prompt * self.body_macs - (prompt - 1) * self.last_macs + self.head_macs + scores

    def decode_bytes(self, position: float, cache_bytes: int, slots: int) -> float:
        """Read for a token at `position`: weights, and its part of a cache of `slots` positions."""
        return self.weight_bytes + cache_bytes * self._elements(position) / max(1.0, self._elements(slots))

    def _elements(self, positions: float) -> float:
        """Read by a token: a shared cache is read by each layer that shares it."""
        return sum(layer.cell * _seen(layer, positions) for layer in self.spec.layers)


def parameters(model: Path) -> int | None:
    """Of a peer's model, by its shape: a GGUF file, or a folder with config.json. None where that is not
    told.
    """
    try:
        if model.suffix == ".gguf":
            return sum(prod(tensor.shape) for tensor in gguf.read_header(model)[1].values())
        config = read_json(model / "config.json")
        family = models.load(
            {key: value for key, value in config.items() if not key.startswith("quantization")}
        )
    except EdgekitError:
        return None
    return sum(prod(family.spec.shape(name)) for name in family.tensors)


def _seen(layer: Layer, positions: float) -> float:
    return min(positions, layer.window) if layer.window else positions


def _layer(name: str) -> int:
    """The number in "layers.3.q"; -1 for what belongs to no layer."""
    _, _, rest = name.partition("layers.")
    return int(rest.split(".")[0]) if rest else -1


def _experts(spec: ModelSpec, name: str) -> int:
    return spec.layers[int(name.split(".")[1])].n_experts
