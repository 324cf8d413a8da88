"""What a token costs by the shape of the model: bytes read when it is decoded, multiplications when it is
computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.converters.formats import edge
from edgekit.converters.spec import Layer, ModelSpec


@dataclass(frozen=True)
class Cost:
    """Of one package. Experts count by the share of them that a token uses; an untied embedding's table by
    nothing, as one row of it is read.
    """

    spec: ModelSpec
    n_parameters: int
    weight_bytes: float  # read for each decoded token
    body_macs: float  # for each token, the head and attention apart
    head_macs: float  # for the last token of a prompt, and each decoded one

    @staticmethod
    def of(path: Path) -> Cost:
        entries, _ = edge.read_header(path)
        metadata = edge.decode_metadata(entries.pop("__metadata__"))
        spec = ModelSpec.from_json(metadata["spec"])
        parameters, weight_bytes, body, head = 0, 0.0, 0.0, 0.0
        for name, matrix in metadata["matrices"].items():
            n, k = matrix["shape"]
            first, last = entries[name]["data_offsets"]
            share = spec.moe.top_k / _experts(spec, name) if spec.moe and ".experts." in name else 1.0
            parameters += n * k
            if name == "head" or (name == "embed" and spec.tied):
                head += n * k
            elif name != "embed":
                body += share * n * k
            if name != "embed" or spec.tied:
                weight_bytes += share * (last - first)
        return Cost(spec, parameters, weight_bytes, body, head)

    def prefill_macs(self, prompt: int, depth: int) -> float:
        """Of `prompt` tokens after `depth` others; logits of the last alone."""
        attention = sum(
            2.0 * layer.n_heads * layer.head_dim * sum(_seen(layer, depth + i + 1) for i in range(prompt))
            for layer in self.spec.layers
        )
        return prompt * self.body_macs + self.head_macs + attention

    def decode_bytes(self, position: float, cache_bytes: int, slots: int) -> float:
        """Read for a token at `position`: weights, and its part of a cache of `slots` positions."""
        return self.weight_bytes + cache_bytes * self._elements(position) / max(1.0, self._elements(slots))

    def _elements(self, positions: float) -> float:
        return sum(layer.n_kv_heads * layer.head_dim * _seen(layer, positions) for layer in self.spec.layers)


def _seen(layer: Layer, positions: float) -> float:
    return min(positions, layer.window) if layer.window else positions


def _experts(spec: ModelSpec, name: str) -> int:
    return spec.layers[int(name.split(".")[1])].n_experts
