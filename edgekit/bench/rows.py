"""From single measurements to the rows of a result: medians, and what they are of what the device can do."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgekit.bench.cost import Cost

Sample = Mapping[str, Any]
"""One measurement: engine, depth, prompt, ttft_ms, decode_ms, decoded; `machine`, the limits then."""


def rows(
    samples: Iterable[Sample],
    engines: Mapping[str, Mapping[str, Any]],
    cost: Cost,
    probes: Sequence[Mapping[str, Any]],
    decode: int,
) -> list[dict[str, Any]]:
    """One for each engine, depth and prompt."""
    groups: dict[tuple[str, int, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample["engine"], sample["depth"], sample["prompt"]), []).append(sample)
    found = []
    for (label, depth, prompt), group in sorted(groups.items()):
        row: dict[str, Any] = {"engine": label, "depth": depth, "prompt": prompt, "decode": decode}
        row["other_model"] = engines[label]["other_model"]
        row |= summary(
            {
                "prefill_tok_s": [rate(prompt, sample["ttft_ms"]) for sample in group],
                "decode_tok_s": [rate(sample["decoded"], sample["decode_ms"]) for sample in group],
                "ttft_ms": [sample["ttft_ms"] for sample in group],
            }
        )
        found.append(row | fractions(row, group, engines[label], cost, probes))
    return found


def fractions(
    row: Mapping[str, Any],
    group: Sequence[Sample],
    engine: Mapping[str, Any],
    cost: Cost,
    probes: Sequence[Mapping[str, Any]],
) -> dict[str, float | None]:
    """Decode over the bytes memory could deliver, prefill over what the dot-product unit could do. What other
    engines read for a token is not known.
    """

    def fraction(of: str, rates: list[float], each: float) -> float | None:
        most = best(probes, of)
        limits = [sample.get("machine", {}).get(of) or most for sample in group]
        shares = [rate * each / limit for rate, limit in zip(rates, limits, strict=True) if limit]
        return statistics.median(shares) if shares else None

    of_bandwidth = None
    if "slots" in engine:
        position = row["depth"] + row["prompt"] + row["decode"] / 2
        read = cost.decode_bytes(position, engine["cache_bytes"], engine["slots"])
        of_bandwidth = fraction("read_bytes_s", row["samples"]["decode_tok_s"], read)
    macs = cost.prefill_macs(row["prompt"], row["depth"])
    prompts = [rate(1, milliseconds) for milliseconds in row["samples"]["ttft_ms"]]
    return {
        "bandwidth_fraction": of_bandwidth,
        "dot_peak_fraction": fraction("dot_macs_s", prompts, macs),
    }


def best(probes: Iterable[Mapping[str, Any]], name: str) -> float | None:
    return max((probe[name] for probe in probes if probe.get(name)), default=None)


def summary(samples: Mapping[str, list[float]]) -> dict[str, Any]:
    """Medians by name; least, greatest and all of them beside."""
    return {
        **{name: statistics.median(values) for name, values in samples.items()},
        "min": {name: min(values) for name, values in samples.items()},
        "max": {name: max(values) for name, values in samples.items()},
        "samples": samples,
    }


def rate(tokens: int, milliseconds: float) -> float:
    return 1e3 * tokens / milliseconds if milliseconds > 0 else 0.0
