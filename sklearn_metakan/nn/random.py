"""Modules that draw random numbers from a generator of their own: dropout, and changed images."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Augmentation = Literal["flip", "crop", "flip_crop"]


class Drawing(nn.Module):
    """Base of modules that are random in training, so that the global generator stays untouched.

    The private generator is seeded with ``seed`` on first use and kept for each device; a copy
    starts its sequence again.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generator: torch.Generator | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"generator": None}

    def generator_on(self, device: torch.device) -> torch.Generator:
        """The private generator, on this device."""
        if self.generator is None or self.generator.device != device:
            self.generator = torch.Generator(device).manual_seed(self.seed)
        return self.generator


def draw_seed(generator: torch.Generator | None) -> int:
    """A seed for a ``Drawing``."""
    return int(torch.randint(2**62, (), generator=generator))


class Dropout(Drawing):
    """Zero each number with probability p in training, scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    p : float in [0, 1)
    seed : int

    Shape
    -----
    Any, which stays.

    Raises
    ------
    ValueError
        For p out of range.
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
        stays = torch.rand(x.shape, generator=generator, device=x.device) >= self.p
        return x * stays / (1 - self.p)


class Augment(Drawing):
    """Random changes of the images of a batch, in training alone.

    "flip" mirrors each image left to right with probability 1/2. "crop" pads it with zeros,
    an eighth of its side on either end, and cuts a window of its size out at a random place.
    Every image draws its own; pixels are moved, never computed, so any dtype goes.

    Parameters
    ----------
    augmentation : {"flip", "crop", "flip_crop"} or callable
        A callable is given the batch of images (n, c, h, w) on its device, before any scaling,
        and returns one of the same shape; its random numbers are its own affair.
    seed : int

    Shape
    -----
    (n, c, h, w) -> (n, c, h, w)

    Raises
    ------
    ValueError
        For an unknown augmentation; in ``forward``, if a callable returns anything but a
        tensor of the shape that it was given.

    Source: He et al., "Deep residual learning" (2016), section 4.2, for CIFAR-10.

    Examples
    --------
    >>> import torch
    >>> images = torch.arange(6).view(1, 1, 2, 3)
    >>> augment = Augment("flip", seed=0)
    >>> {tuple(augment(images)[0, 0, 0].tolist()) for _ in range(20)} == {(0, 1, 2), (2, 1, 0)}
    True
    """

    def __init__(self, augmentation: Augmentation | Callable[[Tensor], Tensor], seed: int) -> None:
        super().__init__(seed)
        if not callable(augmentation) and augmentation not in get_args(Augmentation):
            raise ValueError(
                f"augment must be None, one of {get_args(Augmentation)} or callable, got "
                f"{augmentation!r}."
            )
        self.augmentation = augmentation

    def extra_repr(self) -> str:
        return f"{self.augmentation!r}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if callable(self.augmentation):
            return self._call(self.augmentation, x)
        n, c, h, w = x.shape
        rows = torch.arange(h, device=x.device).expand(n, h)
        columns = torch.arange(w, device=x.device).expand(n, w)
        if "flip" in self.augmentation:
            columns = torch.where(self._below(2, x) == 0, columns, columns.flip(1))
        if "crop" in self.augmentation:
            down, right = (h + 4) // 8, (w + 4) // 8  # an eighth, rounded; 4 of 28 or 32
            x = pad(x, (right, right, down, down))
            rows = rows + self._below(2 * down + 1, x)
            columns = columns + self._below(2 * right + 1, x)
        image = torch.arange(n, device=x.device).view(n, 1, 1, 1)
        channel = torch.arange(c, device=x.device).view(1, c, 1, 1)
        return x[image, channel, rows.view(n, 1, h, 1), columns.view(n, 1, 1, w)]

    def _below(self, high: int, x: Tensor) -> Tensor:
        """A whole number from 0 to high - 1 for each image, (n, 1)."""
        generator = self.generator_on(x.device)
        return torch.randint(high, (len(x), 1), generator=generator, device=x.device)

    def _call(self, augmentation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        y = augmentation(x)
        if not isinstance(y, Tensor) or y.shape != x.shape:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(
                f"augment must return a tensor of the shape that it was given, {tuple(x.shape)}, "
                f"got {got}."
            )
        return y
