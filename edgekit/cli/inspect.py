from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import _options, _output

if TYPE_CHECKING:
    from edgekit.events import MemoryPlan

DEFAULT_CONTEXT = 4096


@click.command()
@click.argument("model")
@click.option(
    "--context", type=click.IntRange(1), metavar="N", help="Plan for N tokens in the cache, sinks included."
)
@_options.cache_options
@click.option("--tensors", is_flag=True, help="List every tensor.")
@_options.json_option
def command(
    model: str,
    context: int | None,
    window: int | None,
    sinks: int | None,
    kv: Any,
    memory_budget: int | None,
    tensors: bool,
    as_json: bool,
) -> None:
    """Show what is inside a package, and what it will need, byte for byte.

    MODEL is a .edge file, or what `edgekit convert` writes in another format: a folder of MLX, ONNX or Core
    ML, a .gguf file.

    The memory plan is what a session allocates: no more, and nothing later. Weights and tokenizer are mapped
    from the file: shared between processes, and given back when memory is short. Of other formats, whose
    engines allocate as they like, it says what keys and values take.

    \b
    edgekit inspect model.edge
    edgekit inspect model.edge --context 32768 --kv int8
    edgekit inspect model.edge --tensors --json
    edgekit inspect model.gguf
    """
    from edgekit import hub, inspection

    if context is not None and window is not None:
        raise click.UsageError("--context and --window say the same; give one")
    with _output.progress() as progress:
        path = hub.resolve(model, progress)
    document = inspection.describe(path)
    if document["format"] == "edge":
        document["memory_plan"] = asdict(_planned(path, context, window, sinks, kv, memory_budget))
    elif memory_budget is not None or kv != "auto":
        raise click.UsageError(
            f"--kv and --memory-budget are of .edge packages; this is {document['format']}"
        )
    else:
        tokens, count = inspection.cache_bytes(path, context or window or DEFAULT_CONTEXT)
        document["cache"] = {"tokens": tokens, "bytes": count}
    if as_json:
        _output.emit_json(document)
    else:
        click.echo(_human(document, tensors))


def _planned(
    path: Path, context: int | None, window: int | None, sinks: int | None, kv: Any, memory_budget: int | None
) -> MemoryPlan:
    from edgekit.model import can_load

    if context is not None:
        kept = can_load(path, sinks=sinks).sinks
        if context <= kept:
            raise click.UsageError(f"--context {context} leaves no room beside {kept} sinks")
        window = context - kept
    return can_load(path, window, sinks, kv, memory_budget)


def _human(document: dict[str, Any], every_tensor: bool) -> str:
    spec, source = document["spec"], document["source"] or {}
    rows = [
        ("model", f"{spec['model_type']}, {_output.quantity(document['n_parameters'])} parameters"),
        ("shape", _shape(spec)),
        (
            "scheme",
            f"{document['scheme']}, {document['bits_per_weight']:.2f} bits per weight over the whole file",
        ),
        ("format", f"{document['format']}, {_output.size(document['file_bytes'])}"),
        ("source", source.get("name", "unknown")),
        ("source sha256", source.get("sha256", "unknown")),
        ("licence", source.get("license", "not stated by the checkpoint")),
        ("tokenizer", _present(document["tokenizer_bytes"])),
        ("chat template", _present(document["chat_template_bytes"])),
        ("ends at", ", ".join(map(str, document["eos_ids"] or [])) or "no token"),
        (
            "advised sampling",
            ", ".join(f"{k} {v}" for k, v in (document.get("generation") or {}).items()) or "none",
        ),
    ]
    if document["format"] == "edge":
        quality, calibration = document["quality"], document["calibration"]
        rows += [
            ("codes", _output.calibration(calibration) if calibration else "nearest to the weights"),
            ("golden vectors", "yes" if document["golden"] else "none"),
            ("quality", _output.quality(quality) if quality else "not measured"),
        ]
    memory = _plan(document["memory_plan"]) if "memory_plan" in document else _cache(document["cache"])
    return "\n\n".join([_output.table(rows), _tensors(document["tensors"], every_tensor), memory])


def _cache(cache: dict[str, int]) -> str:
    tokens, count = cache["tokens"], cache["bytes"]
    return f"keys and values of {tokens} tokens: {count:,} bytes, {_output.size(count)}"


def _plan(plan: dict[str, Any]) -> str:
    need = [
        ("weights, mapped", plan["weight_bytes"]),
        ("tokenizer and template, mapped", plan["tokenizer_bytes"]),
        ("keys and values", plan["cache_bytes"]),
        ("rest of a session", plan["activation_bytes"]),
        ("model, for all its sessions", plan["model_bytes"]),
        ("allocated in all", plan["total_bytes"]),
    ]
    tokens = plan["window"] + plan["sinks"]
    rows = [(f"  {name}", f"{count:,}", _output.size(count)) for name, count in need]
    return (
        f"memory for {tokens} tokens ({plan['sinks']} sinks, {plan['kv']} keys and values):\n"
        + _output.table(rows, right=(1, 2))
    )


def _shape(spec: dict[str, Any]) -> str:
    layer = spec["layers"][0]
    text = f"{len(spec['layers'])} layers, width {spec['d_model']}, vocabulary {spec['vocab_size']}"
    attention = next((row for row in spec["layers"] if row.get("mixer", "attention") == "attention"), layer)
    heads = f"{attention['n_heads']}/{attention['n_kv_heads']} of {attention['head_dim']}"
    text += f", heads {heads}, MLP {layer['d_ff']}"
    windows = Counter(row.get("window") for row in spec["layers"])
    local = {window: count for window, count in windows.items() if window}
    for window, count in local.items():
        text += f", {count} layers see {window} tokens"
    return text + (f", trained on {spec['context']} positions" if spec.get("context") else "")


def _present(size: int | None) -> str:
    return "none" if size is None else _output.size(size)


def _tensors(tensors: list[dict[str, Any]], every: bool) -> str:
    """Every tensor, or by kind (the last part of the name) and layout; bytes where the format tells them."""
    if every:
        rows = [("tensor", "shape", "layout", "bits/weight", "bytes")]
        for row in tensors:
            shape = row.get("shape", [])
            rows.append((row["name"], "×".join(map(str, shape)), row["layout"], *_sizes([row])[1:]))
        return _table(rows, right=(3, 4))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in tensors:
        kind = "vectors" if len(row.get("shape", "")) == 1 else row["name"].rpartition(".")[2]
        groups.setdefault((kind, row["layout"]), []).append(row)
    lines = [("tensors", "layout", "number", "parameters", "bits/weight", "bytes")]
    for (kind, layout), members in groups.items():
        lines.append((kind, layout, str(len(members)), *_sizes(members)))
    return _table(lines, right=(2, 3, 4, 5))


def _sizes(tensors: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Parameters, bits per weight and bytes of tensors; "" for what is not told."""
    count = sum(math.prod(row["shape"]) for row in tensors if "shape" in row)
    total = sum(row.get("bytes", 0) for row in tensors)
    bits = f"{8 * total / count:.2f}" if total and count else ""
    return _output.quantity(count) if count else "", bits, f"{total:,}" if total else ""


def _table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> str:
    """Without the columns that are empty below their heading."""
    kept = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    return _output.table(
        [[row[c] for c in kept] for row in rows], right=[kept.index(c) for c in right if c in kept]
    )
