"""Convolutional networks measured beside each other, and the convolutions of their steps alone.

Channels 32, 64, 128, 256 on 32x32 images, as in the paper's networks of four layers, without
norms and dropout: convolutions, SiLU between those of the plain network, mean, linear head.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from _models import DEGREE, SOURCES, Model, factors_of_input, start_randomly
from torch import Tensor, nn
from torch.nn import functional
from torch.nn import grad as ways_back

from sklearn_metakan.nn._build import build_conv_network

SIZE, STRIDES = 32, (1, 2, 2, 1)
ALIGNED = 4  # channels of features: otherwise they keep convolutions from the matrix units
FEW = range(9, 32)  # channels that take longer than 32 do
Random = Callable[..., Tensor]


class MapProduct(NamedTuple):
    """One convolution of a step, 3x3 kernels, padding 1, channels last."""

    batch: int
    n_in: int
    n_out: int
    size: int
    stride: int
    way: Literal["forward", "to input", "to weight"]

    def start(self, random: Random) -> Callable[[], Any]:
        after = -(-self.size // self.stride)
        x = random(self.batch, self.size, self.size, self.n_in).movedim(-1, 1)
        weight = random(self.n_out, 3, 3, self.n_in).movedim(-1, 1)
        grad = random(self.batch, after, after, self.n_out).movedim(-1, 1)
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
        n_maps = -(-n_in * features // ALIGNED) * ALIGNED
        n_maps = FEW.stop if n_maps in FEW else n_maps
        for way in ("forward", "to weight", "to input")[: 3 if layer else 2]:
            products.append(MapProduct(batch, n_maps, n_out, size, stride, way))
        size = -(-size // stride)
    return tuple(products)


def conv_models(backend: str) -> list[Model]:
    """The plain network in the MLP's place, every source, and all features kept at once."""
    models = [Model("mlp", "plain convolutions (SiLU)", _plain, lambda grid_size: 1)]
    for key, (label, options) in SOURCES.items():
        linear = options.get("meta_hidden_dim") == 0
        features = options["prompt_dim"] if linear else None
        for place, suffix, its in (
            ("", "", backend),
            ("-kept", ", all features kept", "reference"),
        ):
            if place and key not in ("kan", "paper"):
                continue
            build = partial(_kan, options, its)
            count = partial(factors_of_input, features)
            models.append(Model(key + place, label + suffix, build, count))
    return models


def _plain(widths: Sequence[int], grid_size: int, device: torch.device) -> nn.Module:
    layers: list[nn.Module] = []
    for (n_in, n_out), stride in zip(pairwise(widths[:-1]), STRIDES, strict=True):
        layers += [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.SiLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-2], widths[-1])]
    return nn.Sequential(*layers).to(device, memory_format=torch.channels_last)


def _kan(
    options: dict[str, Any],
    backend: str,
    widths: Sequence[int],
    grid_size: int,
    device: torch.device,
) -> nn.Module:
    network = build_conv_network(
        (widths[0], SIZE, SIZE),
        list(widths[1:-1]),
        widths[-1],
        strides=STRIDES,
        grid_size=grid_size,
        degree=DEGREE,
        init=None,
        backend=backend,
        **options,
    ).to(device)
    start_randomly(network, device)
    return network
