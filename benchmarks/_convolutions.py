"""Convolutional networks measured beside each other, and the convolutions of their steps alone.

Channels 32, 64, 128, 256 on 32x32 images, as in the paper's networks of four layers, without
norms and dropout: convolutions, SiLU between those of the plain network, mean, linear head.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from _models import Model, factors_of_input, sources, started
from _paper_conv_networks import STRIDES as STRIDES_OF_PAPER
from _timing import Random
from torch import nn
from torch.nn import functional
from torch.nn import grad as ways_back

from sklearn_metakan.nn._build import build_conv_network
from sklearn_metakan.ops import aligned_channels

SIZE, STRIDES = 32, STRIDES_OF_PAPER[4]


class MapProduct(NamedTuple):
    """One convolution of a step, 3x3 kernels, padding 1, channels last."""

    batch: int
    n_in: int
    n_out: int
    size: int
    stride: int
    way: Literal["forward", "to input", "to weight"]

    @property
    def after(self) -> int:
        """A side of y's maps."""
        return -(-self.size // self.stride)

    def start(self, random: Random) -> Callable[[], Any]:
        x = random(self.batch, self.size, self.size, self.n_in).movedim(-1, 1)
        weight = random(self.n_out, 3, 3, self.n_in).movedim(-1, 1)
        grad = random(self.batch, self.after, self.after, self.n_out).movedim(-1, 1)
        geometry = (self.stride, 1, 1, 1)
        match self.way:
            case "forward":
                return partial(functional.conv2d, x, weight, None, *geometry)
            case "to input":
                return partial(ways_back.conv2d_input, x.shape, weight, grad, *geometry)
        return partial(ways_back.conv2d_weight, x, weight.shape, grad, *geometry)


def map_products(channels: Sequence[int], batch: int, features: int) -> tuple[MapProduct, ...]:
    """Of a step of a network whose layers convolve ``features`` maps of each channel."""
    products, size = [], SIZE
    for layer, ((n_in, n_out), stride) in enumerate(zip(pairwise(channels), STRIDES, strict=True)):
        n_maps = aligned_channels(n_in * features)
        for way in ("forward", "to weight", "to input")[: 3 if layer else 2]:
            products.append(MapProduct(batch, n_maps, n_out, size, stride, way))
        size = products[-1].after
    return tuple(products)


def conv_models(backend: str, basis: str = "bspline") -> list[Model]:
    """The plain network in the MLP's place, every source, and all features kept at once."""
    models = [Model("mlp", "plain convolutions (SiLU)", _plain, lambda grid_size: 1)]
    for key, label, options in sources(basis):
        for place, suffix, its in (
            ("", "", backend),
            ("-kept", ", all features kept", "reference"),
        ):
            if place and key not in ("kan", "paper"):
                continue
            build = partial(started, _network, options, its)
            count = partial(factors_of_input, options)
            models.append(Model(key + place, label + suffix, build, count))
    return models


def _plain(widths: Sequence[int], grid_size: int, device: torch.device) -> nn.Module:
    layers: list[nn.Module] = []
    for (n_in, n_out), stride in zip(pairwise(widths[:-1]), STRIDES, strict=True):
        layers += [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.SiLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-2], widths[-1])]
    return nn.Sequential(*layers).to(device, memory_format=torch.channels_last)


def _network(widths: Sequence[int], **options: Any) -> nn.Module:
    shape = (widths[0], SIZE, SIZE)
    return build_conv_network(shape, list(widths[1:-1]), widths[-1], strides=STRIDES, **options)
