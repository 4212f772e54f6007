"""How features and weights of a block make their part of y, and the ways back.

``Dense`` multiplies matrices, ``Convolution`` convolves maps of features. Whatever makes the
features (rows, K) and the weights (K, out) knows neither; rows are pixels, in a convolution.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn import grad as ways_back

if TYPE_CHECKING:
    from sklearn_metakan.ops._edge_sum import CoefficientSource

_CONVOLVE: dict[int, Any] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TO_INPUT: dict[int, Any] = {
    1: ways_back.conv1d_input,
    2: ways_back.conv2d_input,
    3: ways_back.conv3d_input,
}
_TO_WEIGHT: dict[int, Any] = {
    1: ways_back.conv1d_weight,
    2: ways_back.conv2d_weight,
    3: ways_back.conv3d_weight,
}


def slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def size_after(size: Sequence[int], *geometry: Sequence[int]) -> tuple[int, ...]:
    """Sides of y's maps; ``geometry`` is kernel, stride, padding and dilation."""
    sides = zip(size, *geometry, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)


class Product(Protocol):
    """Blocks are some inputs i, ``inputs``, times some rows of x.

    ``functions_first``: order of K within features and weights, (C, b) or (b, C); see
    ``Features``.

    Attributes
    ----------
    pixels : int
        Rows of the features for one row of x.
    orders_freely : bool
        Whether functions may come first.
    """

    @property
    def pixels(self) -> int: ...

    @property
    def orders_freely(self) -> bool: ...

    def shape(self, n: int, source: "CoefficientSource") -> tuple[int, ...]:
        """Of y for n rows of x."""
        ...

    def output(self, x: Tensor, source: "CoefficientSource") -> Tensor:
        """Uninitialised room for y."""
        ...

    def numbers(self, source: "CoefficientSource", functions: int) -> tuple[int, int]:
        """Numbers held beside features and weights: for a row of the features, for an input."""
        ...

    def input_blocks(self, in_features: int, size: int) -> Iterator[slice]: ...

    def edges(self, inputs: slice) -> slice:
        """Where the source has these inputs."""
        ...

    def whole(self, features: Tensor, weights: Tensor) -> Tensor:
        """y from the features and weights of all inputs, (b, C) in order; differentiable."""
        ...

    def add(
        self, y: Tensor, features: Tensor, weights: Tensor, inputs: slice, functions_first: bool
    ) -> None:
        """Put the block's part into y; whatever was there counts from the second block on."""
        ...

    def to_features(
        self, grad: Tensor, weights: Tensor, inputs: slice, functions_first: bool
    ) -> Tensor:
        """From y's gradient to that of the features (rows, K)."""
        ...

    def to_weights(
        self,
        out: Tensor,
        features: Tensor,
        grad: Tensor,
        inputs: slice,
        functions_first: bool,
        add: bool,
    ) -> None:
        """From y's gradient to that of the weights (K, out), put into ``out`` or added."""
        ...


class Dense:
    """``y = F W``, x of shape (n, in) and y (n, out)."""

    pixels = 1
    orders_freely = True

    def shape(self, n: int, source: "CoefficientSource") -> tuple[int, ...]:
        return n, source.out_features

    def output(self, x: Tensor, source: "CoefficientSource") -> Tensor:
        return x.new_empty(self.shape(len(x), source))

    def numbers(self, source: "CoefficientSource", functions: int) -> tuple[int, int]:
        return 0, 0

    def input_blocks(self, in_features: int, size: int) -> Iterator[slice]:
        return slices(in_features, size)

    def edges(self, inputs: slice) -> slice:
        return inputs

    def whole(self, features: Tensor, weights: Tensor) -> Tensor:
        return features @ weights

    def add(
        self, y: Tensor, features: Tensor, weights: Tensor, inputs: slice, functions_first: bool
    ) -> None:
        _multiply(y, features, weights, add=inputs.start > 0)

    def to_features(
        self, grad: Tensor, weights: Tensor, inputs: slice, functions_first: bool
    ) -> Tensor:
        return grad.to(weights.dtype) @ weights.T

    def to_weights(
        self,
        out: Tensor,
        features: Tensor,
        grad: Tensor,
        inputs: slice,
        functions_first: bool,
        add: bool,
    ) -> None:
        _multiply(out, features.T, grad.to(features.dtype), add)


def _multiply(out: Tensor, left: Tensor, right: Tensor, add: bool) -> None:
    """``out = left @ right`` or ``+=``; factors may be rounded, the sum is not."""
    if left.dtype != out.dtype and out.is_cuda:
        right = right.to(left.dtype)
        if add:
            torch.addmm(out, left, right, out_dtype=out.dtype, out=out)
        else:
            torch.mm(left, right, out_dtype=out.dtype, out=out)
    elif left.dtype == right.dtype == out.dtype and not torch.is_autocast_enabled(out.device.type):
        out.addmm_(left, right, beta=1 if add else 0)
    elif add:
        out.add_(left @ right.to(left.dtype))
    else:
        out.copy_(left @ right.to(left.dtype))


@dataclass(frozen=True)
class Convolution:
    """y is the convolution of maps of features, x of shape (n, in, *size).

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

    @property
    def pixels(self) -> int:
        return prod(self.size)

    @property
    def orders_freely(self) -> bool:
        return self.groups == 1

    @property
    def out_size(self) -> tuple[int, ...]:
        return size_after(self.size, self.kernel, self.stride, self.padding, self.dilation)

    def shape(self, n: int, source: "CoefficientSource") -> tuple[int, ...]:
        return n, self.groups * source.out_features, *self.out_size

    def output(self, x: Tensor, source: "CoefficientSource") -> Tensor:
        return _channels_last(x, self.shape(len(x), source))

    def numbers(self, source: "CoefficientSource", functions: int) -> tuple[int, int]:
        """A block's part of y before it is added, and its weights as torch wants them."""
        of_y = prod(self.shape(1, source))
        weights = prod(self.kernel) * source.out_features * functions
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

    def edges(self, inputs: slice) -> slice:
        positions = prod(self.kernel)
        return slice(inputs.start * positions, inputs.stop * positions)

    def whole(self, features: Tensor, weights: Tensor) -> Tensor:
        everything = slice(0, self.in_channels)
        return self._convolve(features, self._filters(weights, everything, False), self.groups)

    def add(
        self, y: Tensor, features: Tensor, weights: Tensor, inputs: slice, functions_first: bool
    ) -> None:
        filters = self._filters(weights, inputs, functions_first)
        part = self._convolve(features, filters, self._groups(inputs))
        room = y[:, self._channels_of_y(inputs, weights.shape[1])]
        if inputs.start % self._channels_of_group:
            room.add_(part)
        else:
            room.copy_(part)

    def to_features(
        self, grad: Tensor, weights: Tensor, inputs: slice, functions_first: bool
    ) -> Tensor:
        filters = _rounded(self._filters(weights, inputs, functions_first))
        grad = grad[:, self._channels_of_y(inputs, weights.shape[1])].to(filters.dtype)
        shape = (len(grad), filters.shape[1] * self._groups(inputs), *self.size)
        maps = _TO_INPUT[len(self.size)](shape, filters, grad, *self._geometry(inputs))
        return columns(maps)

    def to_weights(
        self,
        out: Tensor,
        features: Tensor,
        grad: Tensor,
        inputs: slice,
        functions_first: bool,
        add: bool,
    ) -> None:
        room = self._by_filter(out, inputs, functions_first)
        maps = _rounded(self._maps(features))
        grad = grad[:, self._channels_of_y(inputs, out.shape[1])].to(maps.dtype)
        shape = (room.shape[0] * room.shape[1], room.shape[2] * room.shape[3], *self.kernel)
        found = _TO_WEIGHT[len(self.size)](maps, shape, grad, *self._geometry(inputs))
        found = found.reshape(room.shape)
        if add:
            room.add_(found)
        else:
            room.copy_(found)

    @property
    def _channels_of_group(self) -> int:
        return self.in_channels // self.groups

    def _groups(self, inputs: slice) -> int:
        return max(1, (inputs.stop - inputs.start) // self._channels_of_group)

    def _channels_of_y(self, inputs: slice, out: int) -> slice:
        first = inputs.start // self._channels_of_group
        return slice(first * out, (first + self._groups(inputs)) * out)

    def _geometry(self, inputs: slice) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self._groups(inputs)

    def _maps(self, features: Tensor) -> Tensor:
        """(rows, K) -> (n, K, *size)."""
        n = len(features) // self.pixels
        return features.unflatten(0, (n, *self.size)).movedim(-1, 1)

    def _convolve(self, features: Tensor, filters: Tensor, groups: int) -> Tensor:
        geometry = (self.stride, self.padding, self.dilation, groups)
        return _CONVOLVE[len(self.size)](
            self._maps(features), filters.to(features.dtype), None, *geometry
        )

    def _by_filter(self, weights: Tensor, inputs: slice, functions_first: bool) -> Tensor:
        """A view of (K, out): (groups, out, b, C, *kernel), or with C before b."""
        channels, groups = inputs.stop - inputs.start, self._groups(inputs)
        if functions_first:  # one group
            opened = weights.unflatten(0, (-1, channels, *self.kernel))
            return opened.movedim(-1, 0)[None]
        opened = weights.unflatten(0, (groups, channels // groups, *self.kernel, -1))
        return opened.movedim((-1, -2), (1, 3))

    def _filters(self, weights: Tensor, inputs: slice, functions_first: bool) -> Tensor:
        """(K, out) as torch's convolution wants it, (groups * out, b C, *kernel)."""
        return self._by_filter(weights, inputs, functions_first).flatten(2, 3).flatten(0, 1)


def columns(x: Tensor) -> Tensor:
    """(n, b, *size) -> (n * pixels, b), one row a pixel."""
    return x.movedim(1, -1).reshape(-1 if x.numel() else 0, x.shape[1])


def room_for_columns(x: Tensor) -> Tensor:
    """Uninitialised, of x's shape, such that blocks of it are views for ``columns_of_room``."""
    return _channels_last(x, x.shape)


def columns_of_room(room: Tensor) -> Tensor:
    """``columns``, as a view to be written to."""
    n, b, *size = room.shape
    return room.movedim(1, -1).view(n * prod(size), b)


def _channels_last(x: Tensor, shape: Sequence[int]) -> Tensor:
    n, channels, *size = shape
    return x.new_empty(n, *size, channels).movedim(-1, 1)


def _rounded(factor: Tensor) -> Tensor:
    """As autocast would; it does not know the ways back of a convolution."""
    place = factor.device.type
    if factor.dtype == torch.float64 or not torch.is_autocast_enabled(place):
        return factor
    return factor.to(torch.get_autocast_dtype(place))
