"""ONNX: a directory that ONNX Runtime, its generate() extension and Transformers.js run (docs/formats.md).

`model.onnx` and its data, `genai_config.json`, and the checkpoint's tokenizer files. Written without torch,
in one pass over the checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from edgekit.converters.checkpoint_files import copy_files, flat_config, write_card, write_json
from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.formats import Output
from edgekit.converters.formats._onnx_decoder import EMBED_BITS, Decoder, Scheme
from edgekit.converters.formats._onnx_ring import OPSET, RingDecoder
from edgekit.converters.formats._onnx_weights import Weights
from edgekit.converters.quant.blocks import Blocks
from edgekit.converters.quant.grid import Grid
from edgekit.converters.spec import ModelSpec
from edgekit.converters.text.tokenizer import compile_tokenizer
from edgekit.errors import UsageError

SUFFIX = ""
BACKEND = "onnx"
IR_VERSION, RING_IR_VERSION = 10, 11
OPSETS = {"": 21, "com.microsoft": 1}

# The _f32 schemes keep activations in float32 where the others let ONNX Runtime round them to 8 bits.
SCHEME_OF_NAME: dict[str, Scheme] = {
    "q4": Scheme(bits=4, accuracy_level=4),
    "q8": Scheme(bits=8, accuracy_level=4),
    "q2": Scheme(bits=2, accuracy_level=4),
    **{f"q4_g{block}": Scheme(bits=4, block=block, accuracy_level=4) for block in (32, 64, 128)},
    "q4_f32": Scheme(bits=4),
    "q8_f32": Scheme(bits=8),
    "q4f16": Scheme("F16", bits=4, accuracy_level=4),
    "f16": Scheme("F16"),
    "f32": Scheme("F32"),
    "mix": Scheme(bits=4, accuracy_level=4),
}
SCHEMES = tuple(SCHEME_OF_NAME)
# `opset_only`: standard operators alone, in constant memory (`_onnx_ring.py`).
OPTIONS = ("opset_only",)
OPSET_ONLY_SCHEMES = {name: SCHEME_OF_NAME[f"{name}_f32"] for name in ("q4", "q8")} | {"f32": Scheme("F32")}
RING_WINDOW, RING_SINKS = 2048, 4
# Transformers.js's words for a file's type.
FILE_OF_SCHEME = {
    "q4": "model_q4",
    "q8": "model_quantized",
    "q4f16": "model_q4f16",
    "f16": "model_fp16",
    "f32": "model",
}


def write(
    model: ConvertInput,
    path: Path,
    scheme: str = SCHEMES[0],
    progress: Progress = silent,
    *,
    opset_only: bool = False,
) -> None:
    """Writes `model` as an ONNX directory; memory stays at a few slabs of rows and the scales of one matrix.

    Raises UsageError for an unknown scheme, UnsupportedModel for what the operators cannot do.
    """
    if opset_only:
        write_ring(model, path, scheme, progress)
    else:
        _write(model, path, scheme, "model.onnx", progress)


def write_ring(
    model: ConvertInput,
    path: Path,
    scheme: str = SCHEMES[0],
    progress: Progress = silent,
    *,
    window: int = RING_WINDOW,
    sinks: int = RING_SINKS,
) -> None:
    """The same in standard operators alone, with a cache of `window` recent positions and the first `sinks`:
    memory stays the same for texts of any length.
    """
    graph = _decoder(model, scheme, opset_only=True, window=window, sinks=sinks).build()
    path.mkdir(parents=True)
    copy_files(model, path)
    write_json(path / "config.json", flat_config(model))
    facts = {
        **_facts(model, scheme),
        "edgekit.window": str(window),
        "edgekit.sinks": str(sinks),
        "edgekit.eos_ids": json.dumps(model.metadata.get("eos_ids", [])),
        "edgekit.special_tokens": json.dumps(model.metadata.get("special_tokens", {})),
        "edgekit.generation": json.dumps(model.metadata.get("generation", {})),
        "edgekit.context": str(model.spec.context),
        "edgekit.model_type": model.spec.model_type,
    }
    graph.save(path / "model.onnx", {"": OPSET}, RING_IR_VERSION, facts, progress)
    use = 'edgekit run THIS_DIRECTORY --backend onnx "Hello"'
    note = f"Sees the last {window} tokens and the first {sinks}, in constant memory."
    write_card(model, path, "onnxruntime", scheme, use, [note])


def size_bytes(model: ConvertInput, scheme: str, *, opset_only: bool = False) -> int:
    """Bytes of the graph and its weights, without the small files beside them."""
    facts = sum(map(len, _facts(model, scheme).values()))
    return _decoder(model, scheme, opset_only=opset_only).build().size_bytes() + facts


def cache_bytes(model: ConvertInput, scheme: str, tokens: int, *, opset_only: bool = False) -> int:
    """What a session of the onnx backend allocates for keys and values."""
    tokens = RING_WINDOW + RING_SINKS if opset_only else tokens
    whole = tuple(dataclasses.replace(layer, window=None) for layer in model.spec.layers)
    spec = model.spec if opset_only else dataclasses.replace(model.spec, layers=whole)
    return spec.cache_numbers(tokens) * (2 if SCHEME_OF_NAME[scheme].type == "F16" else 4)


def grids(model: ConvertInput, scheme: str, *, opset_only: bool = False) -> dict[str, Grid]:
    """Of each matrix."""
    decoder = _decoder(model, scheme, opset_only=opset_only)
    return {name: decoder.grid(name) for name in model.spec.matrices()}


def mixed(model: ConvertInput) -> tuple[Grid, ...]:
    scheme = SCHEME_OF_NAME["mix"]
    return tuple(Blocks(bits, scheme.block, scheme.type) for bits in EMBED_BITS)


def _decoder(
    model: ConvertInput,
    scheme: str,
    *,
    opset_only: bool,
    window: int = RING_WINDOW,
    sinks: int = RING_SINKS,
) -> Decoder:
    known = OPSET_ONLY_SCHEMES if opset_only else SCHEME_OF_NAME
    if scheme not in known:
        where = "with --opset-only" if opset_only else "in ONNX"
        raise UsageError(f"there is no scheme {scheme!r} {where}; choose from {', '.join(known)}")
    if opset_only:
        return RingDecoder(model, known[scheme], window, sinks)
    return Decoder(model, known[scheme])


def _facts(model: ConvertInput, scheme: str) -> dict[str, str]:
    """What every graph says of itself."""
    facts = {"edgekit.scheme": scheme, "edgekit.spec": json.dumps(model.spec.to_json())}
    source = model.metadata.get("source", {})
    return facts | {f"edgekit.source.{key}": str(value) for key, value in source.items()}


def write_transformers_js(
    model: ConvertInput, path: Path, scheme: str = SCHEMES[0], progress: Progress = silent
) -> None:
    """The same with the model where Transformers.js looks for it: `onnx/model_q4.onnx` for scheme q4."""
    if scheme not in FILE_OF_SCHEME:
        raise UsageError(
            f"Transformers.js has no name for scheme {scheme!r}; choose from {', '.join(FILE_OF_SCHEME)}"
        )
    _write(model, path, scheme, f"onnx/{FILE_OF_SCHEME[scheme]}.onnx", progress)


def _write(model: ConvertInput, path: Path, scheme: str, file: str, progress: Progress) -> None:
    decoder = _decoder(model, scheme, opset_only=False)
    graph = decoder.build()
    (path / file).parent.mkdir(parents=True)
    copy_files(model, path)
    config = flat_config(model)
    if "/" in file:  # otherwise Transformers.js takes the weights for part of the graph's file
        config["transformers.js_config"] = {"use_external_data_format": {Path(file).name: 1}}
    write_json(path / "config.json", config)
    write_json(path / "genai_config.json", genai_config(model, file, decoder.context))
    graph.save(path / file, OPSETS, IR_VERSION, _facts(model, scheme), progress)
    use = 'edgekit run THIS_DIRECTORY --backend onnx "Hello"'
    notes = []
    if decoder.context < model.spec.context:
        notes.append(f"Its tables of angles are for texts of up to {decoder.context} tokens.")
    write_card(model, path, "onnxruntime-genai", scheme, use, notes)


def holds(path: Path) -> bool:
    return path.is_dir() and any(path.rglob("*.onnx"))


def _file(path: Path) -> Path:
    """The graph of a directory, Transformers.js's place included."""
    return min(path.rglob("*.onnx"), key=lambda file: len(file.parts))


def read_back(path: Path, spec: ModelSpec | None = None) -> Output:
    weights = Weights(_file(path))
    compiled = compile_tokenizer(path)
    window, sinks = (int(weights.facts.get(f"edgekit.{name}", 0)) for name in ("window", "sinks"))
    return Output(
        weights.facts["edgekit.scheme"],
        spec or weights.spec,
        weights.spec,
        weights,
        weights.layout,
        weights.exact,
        compiled.blob if compiled else None,
        (sinks, window) if window else None,
        sinks + window or None,
    )


def genai_config(model: ConvertInput, file: str, context: int) -> dict[str, Any]:
    """What onnxruntime-genai reads."""
    spec: ModelSpec = model.spec
    layer = next((layer for layer in spec.layers if layer.mixer == "attention"), spec.layers[0])
    words = model.checkpoint.config
    eos = model.metadata.get("eos_ids") or [0]
    ids = {"bos_token_id": model.bos_id, "pad_token_id": model.pad_id}
    ids = {name: words.get(name) if id is None else id for name, id in ids.items()}
    search = {"do_sample": False, "max_length": context, "past_present_share_buffer": True}
    advised = model.metadata.get("generation", {})
    names = ("temperature", "top_k", "top_p", "repetition_penalty")
    search |= {name: advised[name] for name in names if name in advised}
    if advised:
        search["do_sample"] = True
    inputs = {"input_ids": "input_ids", "attention_mask": "attention_mask"}
    return {
        "model": {
            "type": "decoder",
            "vocab_size": spec.vocab_size,
            "context_length": context,
            "eos_token_id": eos if len(eos) > 1 else eos[0],
            **{name: id if isinstance(id, int) else eos[0] for name, id in ids.items()},
            "decoder": {
                "filename": file,
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "head_size": layer.head_dim,
                "hidden_size": spec.d_model,
                "num_attention_heads": layer.n_heads,
                "num_key_value_heads": layer.n_kv_heads,
                "num_hidden_layers": len(spec.layers),
                "inputs": inputs
                | {f"past_{kind}_names": f"past_key_values.%d.{kind}" for kind in ("key", "value")},
                "outputs": {"logits": "logits"}
                | {f"present_{kind}_names": f"present.%d.{kind}" for kind in ("key", "value")},
            },
        },
        "search": search,
    }
