"""Parts of models that not every target has a form for: a format refuses by name, before any work, those that
it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from edgekit.converters.convert import ConvertInput
from edgekit.converters.spec import ModelSpec
from edgekit.errors import UnsupportedModel


def _holds(part: str) -> Callable[[ConvertInput], bool]:
    return lambda model: any(name.rsplit(".", 1)[-1] == part for name in model.tensors)


PARTS: dict[str, Callable[[ConvertInput], bool]] = {
    "gates on what attention gives": _holds("attn_gate"),
    "attention to nothing (sinks)": _holds("sinks"),
    "norms of queries and keys after the rotation": lambda model: model.spec.qk_norm == "head_after_rope",
    "a norm of the embedding": _holds("embed_norm"),
    "norms before the last matrix of a part": _holds("down_norm"),
    "per-layer embeddings": lambda model: model.spec.ple is not None,
    "layers that share keys and values": lambda model: not model.spec.layers_stand_alone,
    "norms of the values": lambda model: model.spec.v_norm,
    "layers times a number": _holds("scalar"),
    "shared experts": lambda model: bool(model.spec.moe and model.spec.moe.d_shared),
    "norms of experts": lambda model: bool(model.spec.moe and model.spec.moe.own_norms),
    "routers other than a softmax": lambda model: bool(
        model.spec.moe and (model.spec.moe.score != "softmax" or model.spec.moe.scale != 1)
    ),
    "mixers beside each other": lambda model: any(layer.beside for layer in model.spec.layers),
    "recurrent layers": lambda model: any(x.recurrence or x.rwkv for x in model.spec.layers),
    "latent attention": lambda model: any(layer.latent for layer in model.spec.layers),
    "layers without a feed-forward part": lambda model: not all(layer.d_ff for layer in model.spec.layers),
    "activation xielu": lambda model: model.spec.activation == "xielu",
    "activation swiglu_oai": lambda model: model.spec.activation == "swiglu_oai",
}


def regular(marked: Sequence[bool]) -> int:
    """Every how many layers one is marked; 0 when that is not regular."""
    every = list(marked).index(True) + 1 if any(marked) else len(marked) + 1
    return every if list(marked) == [(i + 1) % every == 0 for i in range(len(marked))] else 0


def attention_interval(spec: ModelSpec) -> int:
    """Every how many layers one is of attention, between recurrent ones; 0 when that is not regular."""
    return regular([layer.recurrence is None for layer in spec.layers])


def require(
    model: ConvertInput,
    target: str,
    known: Collection[str] = (),
    hint: str = "--format edge runs it on every CPU",
) -> None:
    """Raises UnsupportedModel when the model has a part that is not among `known`."""
    lacking = [part for part, has in PARTS.items() if part not in known and has(model)]
    if lacking:
        raise UnsupportedModel(
            f"{target} has no form for what {model.spec.model_type} computes: {', '.join(lacking)}",
            hint=hint,
        )
