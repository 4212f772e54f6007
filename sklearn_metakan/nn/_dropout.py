"""Dropout with a generator of its own, so that the global one stays untouched."""

import torch
from torch import Tensor

from sklearn_metakan.nn._drawing import Drawing


class Dropout(Drawing):
    """Zero each number with probability p in training, scale the others by 1 / (1 - p).

    Unlike ``torch.nn.Dropout`` it draws from a private generator, seeded with ``seed`` on
    first use and kept for each device.
    """

    def __init__(self, p: float, seed: int) -> None:
        super().__init__(seed)
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {p}.")
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        generator = self.generator_on(x.device)
        keep = torch.rand(x.shape, generator=generator, device=x.device) >= self.p
        return x * keep / (1 - self.p)
