from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import click

from edgekit.cli import _options, _output


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

    The memory plan is what a session allocates: no more, and nothing later. Weights and tokenizer are mapped
    from the file: shared between processes, and given back when memory is short.

    \b
    edgekit inspect model.edge
    edgekit inspect model.edge --context 32768 --kv int8
    edgekit inspect model.edge --tensors --json
    """
    from edgekit import hub
    from edgekit.model import can_load

    if context is not None and window is not None:
        raise click.UsageError("--context and --window say the same; give one")
    with _output.progress() as progress:
        path = hub.resolve(model, progress)
    if context is not None:
        kept = can_load(path, sinks=sinks).sinks
        if context <= kept:
            raise click.UsageError(f"--context {context} leaves no room beside {kept} sinks")
        window = context - kept
    document = describe(path)
    document["memory_plan"] = _plan_json(can_load(path, window, sinks, kv, memory_budget))
    if as_json:
        _output.emit_json(document)
    else:
        click.echo(_human(document, tensors))


def describe(path: Path) -> dict[str, Any]:
    """Everything a package says about itself, from its header alone."""
    from edgekit.converters.formats import edge
    from edgekit.converters.spec import ModelSpec

    entries, data_offset = edge.read_header(path)
    metadata = edge.decode_metadata(entries.pop("__metadata__"))
    matrices, spec = metadata["matrices"], ModelSpec.from_json(metadata["spec"])
    tensors = []
    parameters = 0
    for name, entry in entries.items():
        first, last = entry["data_offsets"]
        row: dict[str, Any] = {"name": name, "bytes": last - first, "sha256": metadata["sha256"].get(name)}
        if name in matrices:
            n, k = row["shape"] = matrices[name]["shape"]
            row["layout"] = matrices[name]["layout"]
            row["bits_per_weight"] = 8 * row["bytes"] / (n * k)
            parameters += n * k
        elif entry["dtype"] == "F32":
            row["shape"], row["layout"] = list(spec.shape(name)), "f32 vector"
            parameters += math.prod(row["shape"])
        else:
            row["layout"] = "compiled"
        tensors.append(row)
    weight_bytes = sum(row["bytes"] for row in tensors if row["layout"] != "compiled")
    file_bytes = path.stat().st_size
    return {
        "path": str(path),
        "format_version": int(metadata["version"]),
        "scheme": metadata["scheme"],
        "file_bytes": file_bytes,
        "header_bytes": data_offset,
        "weight_bytes": weight_bytes,
        "n_parameters": parameters,
        "bits_per_weight": 8 * file_bytes / parameters,
        "weight_bits_per_weight": 8 * weight_bytes / parameters,
        "source": metadata.get("source"),
        "spec": metadata["spec"],
        "tokenizer_bytes": _bytes_of(tensors, "tokenizer"),
        "chat_template_bytes": _bytes_of(tensors, "chat_template"),
        "eos_ids": metadata.get("eos_ids"),
        "special_tokens": metadata.get("special_tokens"),
        "generation": metadata.get("generation"),
        "quality": metadata.get("quality"),
        "golden": "golden" in metadata,
        "tensors": tensors,
    }


def _bytes_of(tensors: list[dict[str, Any]], name: str) -> int | None:
    return next((row["bytes"] for row in tensors if row["name"] == name), None)


def _plan_json(plan: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(plan)


def _human(document: dict[str, Any], every_tensor: bool) -> str:
    spec, plan, quality = document["spec"], document["memory_plan"], document["quality"]
    source = document["source"] or {}
    rows = [
        ("model", f"{spec['model_type']}, {_output.quantity(document['n_parameters'])} parameters"),
        ("shape", _shape(spec)),
        (
            "scheme",
            f"{document['scheme']}, {document['bits_per_weight']:.2f} bits per weight over the whole file",
        ),
        ("file", f"{_output.size(document['file_bytes'])}, format version {document['format_version']}"),
        ("source", source.get("name", "unknown")),
        ("source sha256", source.get("sha256", "unknown")),
        ("licence", source.get("license", "not stated by the checkpoint")),
        ("tokenizer", _present(document["tokenizer_bytes"])),
        ("chat template", _present(document["chat_template_bytes"])),
        ("ends at", ", ".join(map(str, document["eos_ids"] or [])) or "no token"),
        ("golden vectors", "yes" if document["golden"] else "none"),
    ]
    if quality:
        rows.append(("quality", _output.quality(quality)))
    else:
        rows.append(("quality", "not measured"))
    parts = [_output.table(rows), "", _tensors(document["tensors"], every_tensor)]
    need = [
        ("weights, mapped", plan["weight_bytes"]),
        ("tokenizer and template, mapped", plan["tokenizer_bytes"]),
        ("keys and values", plan["cache_bytes"]),
        ("activations", plan["activation_bytes"]),
        ("model's tables", plan["model_bytes"]),
        ("allocated in all", plan["total_bytes"]),
    ]
    tokens = plan["window"] + plan["sinks"]
    parts += [
        "",
        f"memory for {tokens} tokens ({plan['sinks']} sinks, {plan['kv']} keys and values):",
        _output.table(
            [(f"  {name}", f"{count:,}", _output.size(count)) for name, count in need], right=(1, 2)
        ),
    ]
    return "\n".join(parts)


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
    if every:
        rows = [("tensor", "shape", "layout", "bits/weight", "bytes")]
        for row in tensors:
            shape = "×".join(map(str, row.get("shape", [])))
            bits = f"{row['bits_per_weight']:.2f}" if "bits_per_weight" in row else ""
            rows.append((row["name"], shape, row["layout"], bits, f"{row['bytes']:,}"))
        return _output.table(rows, right=(3, 4))
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for row in tensors:
        counts[row["layout"]] += 1
        sizes[row["layout"]] += row["bytes"]
        weights[row["layout"]] += math.prod(row.get("shape", [0]))
    rows5 = [("layout", "tensors", "bytes", "bits/weight")]
    for layout, count in counts.most_common():
        bits = f"{8 * sizes[layout] / weights[layout]:.2f}" if weights[layout] else ""
        rows5.append((layout, str(count), f"{sizes[layout]:,}", bits))
    return _output.table(rows5, right=(1, 2, 3))
