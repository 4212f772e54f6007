"""Maps of features, convolved with generated weights, and the ways back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn import grad as ways_back

from sklearn_metakan.ops.products import NewGradient, Product, pixel_rows, slices
from sklearn_metakan.ops.source import CoefficientSource


def aligned_channels(n: int) -> int:
    """So many channels of features, or more, that a card's matrix units take them.

    A multiple of 4; those of an image are few, and 28 took twice what 32 do.

    Parameters
    ----------
    n : int

    Returns
    -------
    int
    """
    return 32 if 8 < n < 32 else -(-n // 4) * 4


def size_after(size: Sequence[int], *geometry: Sequence[int]) -> tuple[int, ...]:
    """Sides of y's maps.

    Parameters
    ----------
    size : sequence of int
        Sides of x's maps, in pixels.
    *geometry : sequences of int
        Kernel, stride, padding and dilation.

    Returns
    -------
    tuple of int
    """
    sides = zip(size, *geometry, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)


@dataclass
class Convolution(Product):
    """y is the convolution of maps of features, x of shape ``(n, in, *size)``.

    The source's inputs are pairs of channel and kernel position, ``(in, *kernel)``. Around
    the image features are zero: what lies there contributes nothing. Maps are laid out with
    channels last, as features are made pixel by pixel.

    Parameters
    ----------
    in_channels : int
    size : tuple of int
        Of the image; one number for each of 1 to 3 dimensions, as in the next four.
    kernel, stride, padding, dilation : tuple of int
    groups : int
        Channels of x and y are split into so many; each of y's sums over its group alone.
    """

    in_channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __post_init__(self) -> None:
        self.pixels, self.positions = prod(self.size), prod(self.kernel)
        # Of several groups, each one's maps lie together.
        self.orders_freely = self.functions_first = self.groups == 1
        self.sums_along_rows = False
        self._channels_of_group = self.in_channels // self.groups
        geometry = self.kernel, self.stride, self.padding, self.dilation
        self.out_size = size_after(self.size, *geometry)
        name = f"conv{len(self.size)}d"
        self._convolution: Any = getattr(functional, name)
        self._to_weight: Any = getattr(ways_back, f"{name}_weight")
        # As the way back to the input, torch.nn.grad's would fill a tensor of the maps' size.
        self._transposed: Any = getattr(functional, name.replace("conv", "conv_transpose"))

    def padded(self, k: int) -> int:
        return aligned_channels(k) if self.groups == 1 else k

    def output_shape(self, n: int, source: CoefficientSource) -> tuple[int, ...]:
        return n, self.groups * source.out_features, *self.out_size

    def more_numbers(self, source: CoefficientSource, functions: int) -> tuple[int, int]:
        """A block's part of y before it is added, and its weights as torch wants them."""
        of_y = prod(self.output_shape(1, source))
        weights = self.positions * source.out_features * functions
        return -(-of_y // self.pixels), 2 * weights

    def input_blocks(self, in_features: int, size: int) -> Iterator[slice]:
        """Some whole groups, or a part of one."""
        of_group = self._channels_of_group
        if size >= of_group:
            yield from slices(in_features, size // of_group * of_group)
            return
        for start in range(0, in_features, of_group):
            for part in slices(of_group, size):
                yield slice(start + part.start, start + part.stop)

    def whole(self, features: Tensor, weights: Tensor, functions_first: bool) -> Tensor:
        everything = slice(0, self.in_channels)
        filters = self.factor(weights, everything, functions_first)
        return self._convolve(features, filters, self.groups)

    def factor(self, weights: Tensor, inputs: slice, functions_first: bool) -> Tensor:
        """Filters, ``(groups * out, b C, *kernel)``; on a card channels last, as maps are."""
        filters = self._by_filter(weights, inputs, functions_first).flatten(2, 3).flatten(0, 1)
        if not filters.is_cuda:  # torch's ways back of some small ones want them like this
            return filters.contiguous()
        return filters.movedim(1, -1).contiguous().movedim(-1, 1)

    def add(self, y: Tensor, features: Tensor, factor: Tensor, inputs: slice) -> None:
        part = self._convolve(features, factor, self._groups(inputs))
        room = y[:, self._channels_of_y(inputs, len(factor))]
        if inputs.start % self._channels_of_group:
            room.add_(part)
        else:
            room.copy_(part)

    def to_features(self, grad: Tensor, factor: Tensor, inputs: slice, rows_last: bool) -> Tensor:
        filters = _rounded(factor)
        grad = grad[:, self._channels_of_y(inputs, len(filters))].to(filters.dtype)
        stride, padding, dilation, groups = self._geometry(inputs)
        reached = zip(self.out_size, self.kernel, stride, padding, dilation, strict=True)
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in reached]
        beyond = [size - n for size, n in zip(self.size, least, strict=True)]
        geometry = None, stride, padding, beyond, groups, dilation
        return pixel_rows(self._transposed(grad, filters, *geometry))

    def to_weights(
        self, so_far: Tensor | None, new: NewGradient, features: Tensor, grad: Tensor, inputs: slice
    ) -> Tensor:
        groups = self._groups(inputs)
        maps = _rounded(self._aligned(features))
        n_out = grad.shape[1] // self.groups * groups
        shape = (n_out, maps.shape[1] // groups, *self.kernel)
        its_grad = grad[:, self._channels_of_y(inputs, n_out)].to(maps.dtype)
        found = self._to_weight(maps, shape, its_grad, *self._geometry(inputs))
        return found.to(grad.dtype) if so_far is None else so_far.add_(found)

    def as_weights(
        self, gradient: Tensor, new: NewGradient, inputs: slice, functions_first: bool
    ) -> Tensor:
        weights = new()
        room = self._by_filter(weights, inputs, functions_first)
        k = room.shape[2] * room.shape[3]
        room.copy_(gradient[:, :k].reshape(room.shape))
        return weights

    def _groups(self, inputs: slice) -> int:
        return max(1, (inputs.stop - inputs.start) // self._channels_of_group)

    def _channels_of_y(self, inputs: slice, n: int) -> slice:
        """The n that these inputs' groups have."""
        first = inputs.start // self._channels_of_group * (n // self._groups(inputs))
        return slice(first, first + n)

    def _geometry(self, inputs: slice) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self._groups(inputs)

    def _aligned(self, features: Tensor) -> Tensor:
        """(rows, K) -> (n, K, *size), on a card with channels of zeros up to ``padded``."""
        maps = features.unflatten(0, (-1, *self.size)).movedim(-1, 1)
        return _with_zeros(maps, self.padded(maps.shape[1])) if maps.is_cuda else maps

    def _convolve(self, features: Tensor, filters: Tensor, groups: int) -> Tensor:
        geometry = (self.stride, self.padding, self.dilation, groups)
        maps = self._aligned(features)
        filters = _with_zeros(filters.to(features.dtype), maps.shape[1] // groups)
        return self._convolution(maps, filters, None, *geometry)

    def _by_filter(self, weights: Tensor, inputs: slice, functions_first: bool) -> Tensor:
        """A view of (K, out) in the order of features: (groups, out, C, b or b, C, *kernel)."""
        channels, groups = inputs.stop - inputs.start, self._groups(inputs)
        if functions_first:  # one group
            opened = weights.unflatten(0, (-1, channels, *self.kernel))
            return opened.movedim(-1, 0)[None]
        opened = weights.unflatten(0, (groups, channels // groups, *self.kernel, -1))
        return opened.movedim((-1, -2), (1, 2 if self.groups == 1 else 3))


def _with_zeros(maps: Tensor, channels: int) -> Tensor:
    """With channels of zeros, so many in all."""
    missing = channels - maps.shape[1]
    if not missing:
        return maps
    by_pixel = functional.pad(maps.movedim(1, -1), (0, missing))
    return by_pixel.movedim(-1, 1)


def _rounded(factor: Tensor) -> Tensor:
    """As autocast would; it does not know the ways back of a convolution."""
    place = factor.device.type
    if factor.dtype == torch.float64 or not torch.is_autocast_enabled(place):
        return factor
    return factor.to(torch.get_autocast_dtype(place))
