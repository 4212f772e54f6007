"""Modules that draw random numbers from a generator of their own."""

from typing import Any

import torch
from torch import nn


class Drawing(nn.Module):
    """Base of modules that are random in training, so that the global generator stays untouched.

    The private generator is seeded with ``seed`` on first use and kept for each device.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generator: torch.Generator | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"generator": None}

    def generator_on(self, device: torch.device) -> torch.Generator:
        if self.generator is None or self.generator.device != device:
            self.generator = torch.Generator(device).manual_seed(self.seed)
        return self.generator


def draw_seed(generator: torch.Generator | None) -> int:
    return int(torch.randint(2**62, (), generator=generator))
