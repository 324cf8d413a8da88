"""The loss of a student on a batch of texts, with its gradients, a few tokens' logits in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.converters.distill.losses import Loss
from edgekit.converters.distill.targets import Targets
from edgekit.converters.distill.texts import Window
from edgekit.converters.interpreters.torch import Tensor, TorchDecoder, torch

ROWS = 128  # whose logits are in memory at once


def step(
    student: TorchDecoder,
    windows: Sequence[Window],
    loss: Loss,
    targets: Targets | None,
    *,
    learn: bool = True,
) -> float:
    """Mean loss in nats a token. With `learn` gradients are added to the student's parameters."""
    count = sum(len(window.ids) - window.first for window in windows)
    total = 0.0
    with torch.set_grad_enabled(learn):
        for window in windows:
            ids = torch.tensor(list(window.ids))
            target = targets(window.ids) if targets is not None else None
            hidden = student.hidden(ids[None])[0]
            cut = hidden.detach().requires_grad_(learn)
            for begin in range(window.first - 1, len(ids) - 1, ROWS):
                rows = slice(begin, min(begin + ROWS, len(ids) - 1))
                logits = student.head(cut[rows])
                if target is None:
                    each = _next_token(logits, ids[rows.start + 1 : rows.stop + 1])
                else:
                    each = loss.of(*target.pair(rows, logits))
                part = each.sum() / count
                total += part.item()
                if learn:
                    part.backward()
            if learn:
                hidden.backward(cut.grad)
    return total


def _next_token(logits: Tensor, following: Tensor) -> Tensor:
    return -logits.float().log_softmax(-1).gather(-1, following[:, None])[:, 0]
