"""Which layers, channels and heads of a teacher a student does best without."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from edgekit.converters.convert import Progress, silent
from edgekit.converters.distill.student import units
from edgekit.converters.interpreters.torch import Tensor, TorchDecoder, Weights, torch
from edgekit.converters.spec import Layer, ModelSpec
from edgekit.errors import UnsupportedModel, UsageError

Texts = Sequence[Sequence[int]]
HEAD_ROWS = 128  # whose logits are in memory at once


def layers(spec: ModelSpec, weights: Weights, texts: Texts, n: int, progress: Progress = silent) -> list[int]:
    """The `n` layers that stay, in order: one after another that one goes without which the model's
    distribution is nearest (KL, in nats a token) to the whole model's.
    """
    _within(n, len(spec.layers), "layers")
    if not spec.layers_stand_alone:
        raise UnsupportedModel(
            f"layers of {spec.model_type!r} share more than the residual: none can be dropped"
        )
    kept = list(range(len(spec.layers)))
    to_try = sum(range(n + 1, len(kept) + 1))
    tried = 0
    with torch.no_grad():
        whole = TorchDecoder(spec, weights)
        ids = [torch.tensor([list(text)]) for text in texts]
        wanted = [whole.hidden(text) for text in ids]
        while len(kept) > n:
            divergence = dict.fromkeys(kept, 0.0)
            for text, target in zip(ids, wanted, strict=True):
                for gone, hidden in _without_each(whole, kept, text):
                    divergence[gone] += _kl(whole, target, hidden)
                    tried += 1
                    progress("searching layers to drop", tried, to_try * len(ids))
            kept.remove(min(kept, key=divergence.__getitem__))
    return kept


def _without_each(model: TorchDecoder, kept: Sequence[int], ids: Tensor) -> Any:
    """(a layer, what the output matrix is applied to without it): what lies before it is computed once."""
    x = model.embed(ids)
    for at, gone in enumerate(kept):
        rest = x
        for number in kept[at + 1 :]:
            rest = _block(model, number, rest)
        yield gone, model.norm(rest, "final_norm")
        x = _block(model, gone, x)


def _block(model: TorchDecoder, number: int, x: Tensor) -> Tensor:
    return model.block(x, f"layers.{number}", model.spec.layers[number])


def _kl(model: TorchDecoder, wanted: Tensor, hidden: Tensor) -> float:
    total = 0.0
    for theirs, ours in zip(wanted[0].split(HEAD_ROWS), hidden[0].split(HEAD_ROWS), strict=True):
        p, q = (model.head(x).log_softmax(-1) for x in (theirs, ours))
        total += float((p.exp() * (p - q)).sum())
    return total


def channels(spec: ModelSpec, weights: Weights, texts: Texts, n: int) -> dict[int, list[int]]:
    """The `n` channels of each dense feed-forward part that add most to the residual: second moment of what
    goes into `down`, times the squared length of its column.
    """
    return _most(spec, weights, texts, "down", n, lambda layer: layer.d_ff if not layer.n_experts else 0)


def groups(spec: ModelSpec, weights: Weights, texts: Texts, n: int) -> dict[int, list[int]]:
    """The `n` key/value heads of each layer which, with the query heads that share them, add most."""
    return _most(spec, weights, texts, "o", n, lambda layer: layer.n_kv_heads)


def width(spec: ModelSpec, weights: Weights, texts: Texts, n: int) -> list[int]:
    """The `n` channels of the residual which, over all matrices that read it, add most to what these give."""
    _within(n, spec.d_model, "channels of the residual")
    adds, wider = torch.zeros(spec.d_model), dataclasses.replace(spec, d_model=spec.d_model + 1)

    def tap(name: str, x: Tensor) -> None:
        if 1 in units(spec, wider, name):
            matrix = weights(name)
            assert matrix is not None
            adds.add_(x.square().flatten(0, -2).sum(0) * matrix.square().sum(0) / matrix.square().sum())

    with torch.no_grad():
        model = TorchDecoder(spec, weights, tap=tap)
        for text in texts:
            for rows in model.hidden(torch.tensor([list(text)]))[0].split(HEAD_ROWS):
                model.head(rows)
    return sorted(adds.topk(n).indices.tolist())


def _most(
    spec: ModelSpec,
    weights: Weights,
    texts: Texts,
    part: str,
    n: int,
    units: Callable[[Layer], int],
) -> dict[int, list[int]]:
    sizes = {number: units(layer) for number, layer in enumerate(spec.layers) if units(layer)}
    for size in sizes.values():
        _within(n, size, "channels" if part == "down" else "key/value heads")
    moments: dict[str, Tensor] = {}

    def tap(name: str, x: Tensor) -> None:
        if name.endswith(f".{part}"):
            moments[name] = moments.get(name, 0) + x.square().sum((0, 1))

    with torch.no_grad():
        model = TorchDecoder(spec, weights, tap=tap)
        for text in texts:
            model.hidden(torch.tensor([list(text)]))
        found = {}
        for number, size in sizes.items():
            name = f"layers.{number}.{part}"
            matrix = weights(name)
            assert matrix is not None
            adds = (moments[name] * matrix.square().sum(0)).unflatten(0, (size, -1)).sum(-1)
            found[number] = sorted(adds.topk(n).indices.tolist())
    return found


def width_for(
    spec: ModelSpec, parameters: Callable[[ModelSpec], int], target: int, multiple: int = 32
) -> int:
    """The largest feed-forward width, a multiple, with which a model has at most `target` parameters."""
    widest = max(layer.d_ff for layer in spec.layers)
    for width in range(widest, 0, -1):
        if width % multiple and width != widest:
            continue
        layers = tuple(
            dataclasses.replace(x, d_ff=min(width, x.d_ff)) if x.d_ff and not x.n_experts else x
            for x in spec.layers
        )
        if parameters(dataclasses.replace(spec, layers=layers)) <= target:
            return width
    raise UsageError(
        f"{target} parameters are fewer than the model has without feed-forward parts",
        hint="ask for fewer layers or a smaller vocabulary as well",
    )


def _within(n: int, have: int, what: str) -> None:
    if not 1 <= n <= have:
        raise UsageError(f"{n} {what} of a model that has {have}; give 1 to {have}")
