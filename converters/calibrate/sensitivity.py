"""What errors in each matrix cost, by one backward pass: where bits are worth most.

The divergence that a small change of weights causes is half its square in the metric of Fisher's information.
Of that the diagonal is taken, and errors to be as large everywhere in a row: the squared gradients of tokens
that the model itself chooses, times the squared lengths of inputs, times the mean square of a row's weights.

A layer is in memory at a time: forwards its input is kept, backwards it is run again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from edgekit.converters.convert import ConvertInput, Progress, silent
from edgekit.converters.interpreters.torch import Tensor, TorchDecoder, torch

HEAD_ROWS = 128  # tokens whose logits are in memory


def measure(
    model: ConvertInput, texts: Sequence[Sequence[int]], seed: int = 0, progress: Progress = silent
) -> dict[str, float]:
    """By the names of matrices: the mean divergence (KL, in nats a token) of errors whose squares are as
    large as those of the matrix. A grid whose errors are the e-th part of that causes e times as much.

    `texts` are token ids. Raises UnsupportedModel without torch.
    """
    return _Sensitivity(model, seed).measure(texts, progress)


class _Sensitivity(TorchDecoder):
    def __init__(self, model: ConvertInput, seed: int) -> None:
        super().__init__(model.spec, self._weights)
        self._model = model
        self._cached: dict[str, Tensor | None] = {}
        self._costs: dict[str, float] = defaultdict(float)
        self._generator = torch.Generator().manual_seed(seed)

    def measure(self, texts: Sequence[Sequence[int]], progress: Progress) -> dict[str, float]:
        task, steps = "finding where bits count", 2 * len(self.spec.layers)
        inputs: list[list[Tensor]] = []
        with torch.no_grad():
            states = [self.embed(torch.tensor([text])) for text in texts]
            for index, layer in enumerate(self.spec.layers):
                progress(task, index, steps)
                self._cached.clear()
                inputs.append(states)
                states = [self.block(x, f"layers.{index}", layer) for x in states]
        self._cached.clear()
        gradients = [self._of_output(x) for x in states]
        for index, layer in reversed(list(enumerate(self.spec.layers))):
            progress(task, steps - 1 - index, steps)
            self._cached.clear()
            for i, x in enumerate(inputs.pop()):
                x.requires_grad_()
                self.block(x, f"layers.{index}", layer).backward(gradients[i])
                gradients[i] = x.grad
        size = self._row_size("embed") * self.spec.embed_scale**2
        for text, gradient in zip(texts, gradients, strict=True):  # of the rows that were read
            self._costs["embed"] += float(gradient[0].square().sum(1) @ size[list(text)])
        tokens = sum(map(len, texts))
        return {name: cost / (2 * tokens) for name, cost in self._costs.items()}

    def product(self, x: Tensor, name: str) -> Tensor:
        y = super().product(x, name)
        if y.requires_grad:
            length = x.detach().square().sum(-1, keepdim=True)

            def count(gradient: Tensor) -> None:
                rows = (gradient.square() * length).flatten(0, -2).sum(0)
                self._costs[name] += float(rows @ self._row_size(name))

            y.register_hook(count)
        return y

    def _of_output(self, x: Tensor) -> Tensor:
        """The gradient of what the layers gave, for tokens chosen by the model."""
        x.requires_grad_()
        hidden = self.norm(x, "final_norm")
        parts = hidden.detach().split(HEAD_ROWS, 1)
        gradients = []
        for part in parts:
            part.requires_grad_()
            logits = self.head(part)
            chosen = torch.multinomial(logits[0].detach().softmax(-1), 1, generator=self._generator)
            loss = torch.nn.functional.cross_entropy(logits[0], chosen[:, 0], reduction="sum")
            loss.backward()
            gradients.append(part.grad)
        hidden.backward(torch.cat(gradients, 1))
        return x.grad

    def _row_size(self, name: str) -> Tensor:
        """The mean square of each row."""
        return self._need(name).square().mean(1)

    def _weights(self, name: str) -> Tensor | None:
        if name not in self._cached:
            values = self._model.load(name)
            self._cached[name] = None if values is None else torch.from_numpy(np.ascontiguousarray(values))
        return self._cached[name]
