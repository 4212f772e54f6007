"""Dropout with a generator of its own, so that the global one stays untouched."""

from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero each number with probability p in training, scale the others by 1 / (1 - p).

    Unlike ``torch.nn.Dropout`` it draws from a private generator, seeded with ``seed`` on
    first use and kept for each device.
    """

    def __init__(self, p: float, seed: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {p}.")
        self.p, self.seed = p, seed
        self.generator: torch.Generator | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"generator": None}

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if self.generator is None or self.generator.device != x.device:
            self.generator = torch.Generator(x.device).manual_seed(self.seed)
        keep = torch.rand(x.shape, generator=self.generator, device=x.device) >= self.p
        return x * keep / (1 - self.p)
