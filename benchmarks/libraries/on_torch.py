"""What the libraries on PyTorch share: eager mode, as their users run them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn

from libraries import Contender
from libraries.workloads import LEARNING_RATE, SPREAD

__all__ = ["MLP", "ConvNet", "contender", "set_threads"]


def set_threads(threads: int) -> None:
    """Threads within an operation; backward passes take one more of their own."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(threads)
    torch.manual_seed(0)


class MLP(nn.Sequential):
    """Dense layers with rectified linear units, the last one zero."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int):
        sizes = [inputs, *hidden, outputs]
        layers = []
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.ReLU()] * (i > 0) + [nn.Linear(a, b)]
        nn.init.zeros_(layers[-1].weight)
        nn.init.zeros_(layers[-1].bias)
        super().__init__(*layers)
        # By which nflows and normflows scale down what becomes a softmax.
        self.hidden_features = hidden[-1]

    def forward(self, x, context=None):
        return super().forward(x)


class ConvNet(nn.Sequential):
    """Convolutions 3x3, 1x1 and 3x3, the last one zero."""

    def __init__(self, inputs: int, width: int, outputs: int):
        super().__init__(
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 3, padding=1),
        )
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)

    def forward(self, x, context=None):
        return super().forward(x)


def contender(
    model: nn.Module,
    x: torch.Tensor,
    log_prob: Callable,
    sample: Callable,
    inverse: Callable,
    forward: Callable,
    after_step: Callable = lambda: None,
    **fields,
) -> Contender:
    """A contender from functions of tensors.

    Args:
      model: what is trained.
      x: the batch.
      log_prob: from `x` to a tensor.
      sample: without arguments, to a tensor.
      inverse: from data to noise.
      forward: from noise to data.
      after_step: what the library asks for after a step.
      **fields: others of `Contender`.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    start = [p.detach().clone() for p in parameters]

    def train():
        model.train()
        optimizer.zero_grad()
        loss = -log_prob(x).mean()
        loss.backward()
        optimizer.step()
        after_step()
        return loss.item()

    def evaluate(function, *arguments):
        model.eval()
        with torch.no_grad():
            return function(*arguments)

    def round_trip():
        draw = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                noise = torch.randn(parameter.shape, generator=draw)
                parameter.copy_(value + SPREAD * noise)
        after_step()
        back = evaluate(lambda: forward(inverse(x)))
        return float((back - x).abs().max())

    return Contender(
        parameters=sum(p.numel() for p in parameters),
        train=train,
        log_prob=lambda: evaluate(log_prob, x),
        sample=lambda: evaluate(sample),
        round_trip=round_trip,
        **fields,
    )
