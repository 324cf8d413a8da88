"""The loss of a student on a text, a few tokens' logits in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.checkpoint import checkpoint

from edgekit.converters.distill.losses import Loss
from edgekit.converters.distill.targets import Target, Targets
from edgekit.converters.distill.texts import Window
from edgekit.converters.interpreters.torch import Tensor, TorchDecoder, torch

ROWS = 128  # whose logits are in memory at once


class Objective(torch.nn.Module):  # type: ignore[misc]
    """What is trained: `parameters`, of which `student` takes its weights. Its answer is the loss of a text
    in nats, summed over the tokens that are learned and divided by `count`. Without `targets` the loss is
    that of the next token.
    """

    def __init__(
        self, student: TorchDecoder, parameters: torch.nn.Module, loss: Loss, targets: Targets | None
    ) -> None:
        super().__init__()
        self.trained, self.student, self.loss, self.targets = parameters, student, loss, targets

    def forward(self, window: Window, count: int) -> Tensor:
        ids = torch.tensor(list(window.ids))
        target = None if self.targets is None else self.targets(window.ids)
        hidden = self.student.hidden(ids[None])[0]
        total = hidden.new_zeros(())
        for begin in range(window.first - 1, len(ids) - 1, ROWS):
            rows = slice(begin, min(begin + ROWS, len(ids) - 1))
            # logits are not kept for the gradients, but made again
            total = total + checkpoint(
                self._sum, hidden[rows], ids, target, rows, use_reentrant=False, preserve_rng_state=False
            )
        return total / count

    def _sum(self, hidden: Tensor, ids: Tensor, target: Target | None, rows: slice) -> Tensor:
        logits = self.student.head(hidden)
        if target is None:
            following = ids[rows.start + 1 : rows.stop + 1, None]
            return -logits.float().log_softmax(-1).gather(-1, following).sum()
        each = self.loss.of(*target.pair(rows, logits))
        if self.loss.hidden:
            each = each + self.loss.hidden * target.distance(rows, hidden)
        return each.sum()

    def mean(self, windows: Sequence[Window]) -> float:
        """Nats a token."""
        with torch.no_grad():
            return sum(self(window, count_of(windows)).item() for window in windows)


def count_of(windows: Sequence[Window]) -> int:
    """Of the tokens that are learned."""
    return sum(len(window.ids) - window.first for window in windows)
