"""How features and weights of a block make their part of y, and the ways back.

``Product`` multiplies matrices, ``Convolution`` (its own file) convolves maps of features.
Whatever makes the features (rows, K) and the weights (K, out) knows neither; rows are pixels, in
a convolution.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sklearn_metakan.ops.source import CoefficientSource

NewGradient = Callable[[], Tensor]


class Product:
    """``y = F W``, x of shape (n, in) and y (n, out).

    Blocks are some inputs i, ``inputs``, times some rows of x. In methods ``functions_first`` is
    the order of K within the weights; see ``Features``.

    Attributes
    ----------
    pixels : int
        Rows of the features for one row of x.
    positions : int
        Inputs that the source has for one of x, the positions of a kernel.
    orders_freely : bool
        Whether functions may come first.
    functions_first : bool
        Whether features always come in the order (C, b), with weights in either.
    sums_along_rows : bool
        Whether ``to_weights`` likes features that lie as (K, rows) in memory, not as (rows, K).
    """

    pixels = 1
    positions = 1
    orders_freely = True
    functions_first = False
    sums_along_rows = True

    def padded(self, k: int) -> int:
        """How many features a card is best given for these k; those beyond are zeros."""
        return k

    def output_shape(self, n: int, source: CoefficientSource) -> tuple[int, ...]:
        """Of y for n rows of x."""
        return n, source.out_features

    def more_numbers(self, source: CoefficientSource, functions: int) -> tuple[int, int]:
        """Numbers held beside features and weights: for a row of the features, for an input."""
        return 0, 0

    def input_blocks(self, in_features: int, size: int) -> Iterator[slice]:
        return slices(in_features, size)

    def edges(self, inputs: slice) -> slice:
        """Where the source has these inputs."""
        return slice(inputs.start * self.positions, inputs.stop * self.positions)

    def whole(self, features: Tensor, weights: Tensor, functions_first: bool) -> Tensor:
        """y from the features and weights of all inputs; differentiable."""
        return features @ weights

    def factor(self, weights: Tensor, inputs: slice, functions_first: bool) -> Tensor:
        """The weights (K, out) of a block as the next two want them; a view or a copy."""
        return weights

    def add(self, y: Tensor, features: Tensor, factor: Tensor, inputs: slice) -> None:
        """Put the block's part into y; whatever was there counts from the second block on."""
        _multiply(y, features, factor, add=inputs.start > 0)

    def to_features(self, grad: Tensor, factor: Tensor, inputs: slice, rows_last: bool) -> Tensor:
        """From y's gradient to that of the features (rows, K), if possible with rows last."""
        grad = grad.to(factor.dtype)
        return (factor @ grad.T).T if rows_last else grad @ factor.T

    def to_weights(
        self, so_far: Tensor | None, new: NewGradient, features: Tensor, grad: Tensor, inputs: slice
    ) -> Tensor:
        """From y's gradient to that of the weights, added to that of other rows.

        It lies as the product likes it; ``new`` gives uninitialised room for it as (K, out).
        """
        out = new() if so_far is None else so_far
        _multiply(out, features.T, grad.to(features.dtype), add=so_far is not None)
        return out

    def as_weights(
        self, gradient: Tensor, new: NewGradient, inputs: slice, functions_first: bool
    ) -> Tensor:
        """The sum of the last over all rows, as (K, out)."""
        return gradient


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


def slices(total: int, size: int) -> Iterator[slice]:
    """Blocks of so many, one after the other; the last may be smaller.

    Parameters
    ----------
    total, size : int

    Returns
    -------
    iterator of slice
    """
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def pixel_rows(x: Tensor) -> Tensor:
    """(n, b, *size) -> (n * pixels, b), one row a pixel; a view where channels lie last."""
    return x.movedim(1, -1).reshape(-1 if x.numel() else 0, x.shape[1])


def channels_last(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Uninitialised, in x's dtype, (n, channels, *size) with channels last in memory."""
    n, channels, *size = shape
    return x.new_empty(n, *size, channels).movedim(-1, 1)


def written_out(grad: Tensor) -> Tensor:
    """The gradient of a mean, say, one number behind many, once for all blocks."""
    return channels_last(grad, grad.shape).copy_(grad) if 0 in grad.stride() else grad
