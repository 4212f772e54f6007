"""Networks for images: convolutions of univariate functions, pooling, a linear head."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, Literal, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sklearn_metakan.basis import BasisName, Extrapolation
from sklearn_metakan.nn.conv import KANConv2d
from sklearn_metakan.nn.layers import Init, InputLaw, KANLayer, initialize
from sklearn_metakan.nn.network import (
    HIDDEN_RANGE,
    KANNetwork,
    MetaLearners,
    build,
    make_layers,
)
from sklearn_metakan.nn.random import Augment, Augmentation, Dropout, draw_seed

Norm = Literal["batch", "instance", "layer"]
NormOrder = Literal["after", "before"]


class ConvKAN(KANNetwork):
    """A convolutional KAN for images; with meta-learners, a convolutional MetaKAN.

    ``scale -> [KANConv2d -> norm -> activation] * L -> mean over pixels -> dropout -> linear``;
    with ``norm_order="before"`` a block is ``norm -> KANConv2d -> activation``. Images are
    padded by half the kernel, with features of zero, so that a stride of 1 keeps their size.

    Parameters
    ----------
    image_shape : (channels, height, width)
    hidden_channels : sequence of int
        Of the convolutions' outputs, at least one.
    n_outputs : int
    kernel_size : int, default=3
    strides : int or sequence of int, default=1
        Of every convolution, or of each.
    norm : {"batch", "instance", "layer", None}, default=None
        Statistics over the batch and the pixels of a channel, over the pixels of a channel of
        an image, or over all channels and pixels of an image; with a factor and a shift for
        each channel.
    norm_order : {"after", "before"}, default="after"
        Whether a convolution's output or its input is normalised.
    activation : {"prelu", "silu", None}, default=None
        "prelu" has one trainable slope a layer. After the last instance norm None is "silu":
        the mean over the pixels, which comes next, would be the same for every image.
    pixel_centre, pixel_scale : float or array of shape (channels,), default=0 and 1
        What the network sees is ``(x - pixel_centre) * pixel_scale``, fixed numbers, for x of
        any dtype.
    augment : {"flip", "crop", "flip_crop", None} or callable, default=None
        Random changes of the images in training, before the scaling; see ``Augment``.
    dropout : float in [0, 1), default=0.0
        Of the pooled channels, before the head.
    hidden_range : float, default=3.0
        Half the width of the grid after a norm and in hidden layers: [-3, 3].
    meta_learners, edge_scale, basis, grid_size, degree, knots, extrapolation, init, backend, \
    working_memory, generator, dtype : as for ``KAN``
        ``knots`` are those of the first convolution, for what it sees, by channel where they
        are an array.

    Shape
    -----
    (n, channels, height, width) -> (n, n_outputs)

    Raises
    ------
    ValueError
        For settings out of range or that contradict each other, as in ``KAN``; an instance norm
        where strides leave one pixel; in ``forward``, a batch norm in training of a batch that
        holds one number for each channel, and images of another number of channels.

    Source: Drokin, "Kolmogorov-Arnold Convolutions" (2024), arXiv 2407.01092; Zhao et al.
    (ICML 2025), section on images.

    Examples
    --------
    The paper's networks of four layers, B-splines, for CIFAR-10:

    >>> import torch
    >>> from sklearn_metakan.nn import ConvKAN, MetaLearner
    >>> def count(network):
    ...     return sum(p.numel() for p in network.parameters())
    >>> paper = {
    ...     "strides": (1, 2, 2, 1), "norm": "batch", "activation": "prelu", "dropout": 0.5
    ... }
    >>> shapes = (3, 32, 32), (32, 64, 128, 256), 10
    >>> count(ConvKAN(*shapes, **paper))
    3494958
    >>> count(ConvKAN(*shapes, **paper, meta_learners=MetaLearner(1, 64, 9)))
    392183
    """

    pixel_centre: Tensor
    pixel_scale: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        hidden_channels: Sequence[int],
        n_outputs: int,
        *,
        kernel_size: int = 3,
        strides: int | Sequence[int] = 1,
        norm: Norm | None = None,
        norm_order: NormOrder = "after",
        activation: Literal["prelu", "silu"] | None = None,
        pixel_centre: float | ArrayLike = 0.0,
        pixel_scale: float | ArrayLike = 1.0,
        augment: Augmentation | Callable[[Tensor], Tensor] | None = None,
        dropout: float = 0.0,
        hidden_range: float = HIDDEN_RANGE,
        meta_learners: MetaLearners | None = None,
        edge_scale: bool = False,
        basis: BasisName = "bspline",
        grid_size: int = 5,
        degree: int = 3,
        knots: tuple[float, float] | ArrayLike = (-1.0, 1.0),
        extrapolation: Extrapolation = "linear",
        init: Init | None = "variance",
        backend: str = "auto",
        working_memory: float | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(image_shape, hidden_channels, kernel_size, norm, norm_order, activation)
        self.image_shape, self.norm_order = tuple(image_shape), norm_order
        widths = (image_shape[0], *hidden_channels)
        every_stride = spread_strides(strides, len(hidden_channels))
        before = norm_order == "before"
        first: tuple[Any, Extrapolation, InputLaw] = knots, extrapolation, "uniform"
        if norm and before:  # the first convolution too sees what was normalised
            inner: Extrapolation = "linear" if extrapolation == "error" else extrapolation
            first = (-hidden_range, hidden_range), inner, "normal"
        how: dict[str, Any] = {"backend": backend, "working_memory": working_memory}
        conv = partial(KANConv2d, padding=kernel_size // 2, init=None, dtype=dtype, **how)
        layers = make_layers(
            [partial(conv, kernel_size=kernel_size, stride=stride) for stride in every_stride],
            widths,
            (kernel_size, kernel_size),
            {"name": basis, "grid_size": grid_size, "degree": degree},
            first,
            hidden_range,
            meta_learners,
            edge_scale,
            dtype,
        )
        self.sizes = [self.image_shape[1:]]  # of the image before and after every layer
        for layer in layers:
            self.sizes.append(layer.out_size(self.sizes[-1]))
        _check_sizes(norm, self.sizes[:-1] if before else self.sizes[1:])
        of_norms = widths[:-1] if before else widths[1:]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(NORMS[norm](width, dtype=dtype) for width in of_norms)
        self.activations = nn.ModuleList(ACTIVATIONS[activation](dtype) for _ in layers)
        if norm == "instance" and not before and activation is None:
            self.activations[-1] = nn.SiLU()
        numbers = [width * prod(size) for width, size in zip(widths, self.sizes, strict=True)]
        sides = [*pairwise(numbers)]  # of an image, before and after every layer
        widest = max(sides, key=sum)
        for layer in layers:
            layer.widest = widest
        self.out_features, self.widest_layer = n_outputs, sum(widest)
        self.widest_features = max(numbers[:-1]) * layers[0].basis.n_functions
        for name, value in (("pixel_centre", pixel_centre), ("pixel_scale", pixel_scale)):
            of_channels = torch.as_tensor(value, dtype=dtype or torch.get_default_dtype()).flatten()
            self.register_buffer(name, of_channels.expand(widths[0]).clone().view(-1, 1, 1))
        # Without its own starting values: those come from the global generator.
        self.head = nn.utils.skip_init(nn.Linear, hidden_channels[-1], n_outputs, dtype=dtype)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.zero_()
            if init is not None:
                bound = hidden_channels[-1] ** -0.5
                weight = self.head.weight  # the same numbers in every dtype
                weight.copy_(weight.double().uniform_(-bound, bound, generator=generator))
                initialize(layers, generator, init)
        # Their seeds come last: starting values do not depend on them.
        self.augment = nn.Identity() if augment is None else Augment(augment, draw_seed(generator))
        self.dropout = Dropout(dropout, draw_seed(generator)) if dropout else nn.Identity()

    def with_layers(self, layers: Sequence[KANLayer]) -> ConvKAN:
        network = copy(self)
        network._modules = self._modules | {
            "layers": nn.ModuleList(layers),
            "augment": nn.Identity(),
            "dropout": nn.Identity(),
        }
        return network

    def forward(self, x: Tensor) -> Tensor:
        x = self.augment(x)
        x = (x.to(self.pixel_scale.dtype) - self.pixel_centre) * self.pixel_scale
        before = self.norm_order == "before"
        for layer, norm, activation in zip(self.layers, self.norms, self.activations, strict=True):
            x = layer(norm(x)) if before else norm(layer(x))
            x = activation(x)
        return self.head(self.dropout(x.mean((2, 3)))).to(self.pixel_scale.dtype)


def build_conv_network(
    image_shape: tuple[int, int, int], hidden_channels: list[int], n_outputs: int, **settings: Any
) -> ConvKAN:
    """``build_network`` for images: its settings, and those of ``ConvKAN``.

    Parameters
    ----------
    image_shape : (int, int, int)
        Channels, height and width.
    hidden_channels : list of int
    n_outputs : int
    **settings : dict

    Returns
    -------
    ConvKAN

    Raises
    ------
    ValueError
        As for ``ConvKAN`` and ``build_network``.
    """
    return build(ConvKAN, image_shape, hidden_channels, n_outputs, **settings)


def spread_strides(strides: int | Sequence[int], n_layers: int) -> tuple[int, ...]:
    """One stride for each layer.

    Parameters
    ----------
    strides : int or sequence of int
    n_layers : int

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        For strides below 1, or a sequence of another length.
    """
    each = tuple(strides) if isinstance(strides, Iterable) else (strides,) * n_layers
    if len(each) != n_layers or min(each, default=1) < 1:
        raise ValueError(
            "strides must be a whole number of at least 1, or one for each of the "
            f"{n_layers} hidden_channels, got {strides!r}."
        )
    return each


def _check(
    image_shape: tuple[int, int, int],
    hidden_channels: Sequence[int],
    kernel_size: int,
    norm: str | None,
    norm_order: str,
    activation: str | None,
) -> None:
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (channels, height, width), got {image_shape}.")
    if len(hidden_channels) < 1 or min(hidden_channels) < 1:
        raise ValueError(
            f"hidden_channels must name at least one positive width, got {list(hidden_channels)}."
        )
    most = 2 * max(image_shape[1:]) - 1
    if not 1 <= kernel_size <= max(3, most):
        raise ValueError(
            f"kernel_size must be from 1 to {max(3, most)} for images of {image_shape[1:]}, got "
            f"{kernel_size}: what is farther out would never meet a pixel."
        )
    for name, value, known in (
        ("norm", norm, tuple(NORMS)),
        ("norm_order", norm_order, get_args(NormOrder)),
        ("activation", activation, tuple(ACTIVATIONS)),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}.")


def _check_sizes(norm: str | None, sizes: Sequence[tuple[int, ...]]) -> None:
    """An instance norm of single pixels would leave nothing of them."""
    if norm == "instance" and min(map(prod, sizes)) == 1:
        raise ValueError(
            "norm='instance' needs more than one pixel, but with these strides images shrink to "
            "1 x 1. Use smaller strides, or norm='layer'."
        )


class BatchNorm(nn.BatchNorm2d):
    """torch's, with another message where a batch holds a single number for each channel."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            raise ValueError(
                "norm='batch' needs more than one number for each channel, but a batch holds one "
                "image, which with these strides shrinks to 1 x 1. Choose a batch_size that leaves "
                "no single image over, smaller strides, or norm='layer'."
            )
        return super().forward(x)


NORMS: dict[str | None, Callable[..., nn.Module]] = {
    "batch": BatchNorm,
    "instance": partial(nn.InstanceNorm2d, affine=True),
    "layer": partial(nn.GroupNorm, 1),
    None: nn.Identity,
}
ACTIVATIONS: dict[str | None, Callable[[torch.dtype | None], nn.Module]] = {
    "prelu": lambda dtype: nn.PReLU(dtype=dtype),
    "silu": lambda dtype: nn.SiLU(),
    None: nn.Identity,
}
