"""The one convolution of univariate functions, in one, two and three dimensions."""

from collections.abc import Iterable
from math import prod
from numbers import Integral
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sklearn_metakan.basis import Basis
from sklearn_metakan.nn.layers import Init, InputLaw, KANLayer, initialize
from sklearn_metakan.nn.sources import DirectCoefficients, MetaCoefficients
from sklearn_metakan.ops import edge_conv, size_after

Sides = int | tuple[int, ...]


class _KANConv(KANLayer):
    n_dimensions: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sides,
        basis: Basis | None = None,
        source: DirectCoefficients | MetaCoefficients | None = None,
        *,
        stride: Sides = 1,
        padding: Sides | Literal["same", "valid"] = 0,
        dilation: Sides = 1,
        groups: int = 1,
        bias: bool = False,
        backend: str = "auto",
        working_memory: float | None = None,
        input_law: InputLaw = "uniform",
        init: Init | None = "variance",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not _is_whole(groups) or groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                "groups must be a whole number of at least 1 that divides in_channels and "
                f"out_channels, got groups={groups!r} with {in_channels} and {out_channels} "
                "channels."
            )
        kernel_size = self._sides("kernel_size", kernel_size, 1)
        out_features, n_biases = out_channels // groups, out_channels if bias else 0
        fan_in = in_channels // groups * prod(kernel_size)
        how = backend, working_memory, input_law, dtype
        shape = (in_channels, *kernel_size)
        super().__init__(shape, out_features, basis, source, fan_in, n_biases, *how)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = kernel_size
        self.stride = self._sides("stride", stride, 1)
        self.dilation = self._sides("dilation", dilation, 1)
        self.padding = self._padding(padding)
        if init is not None:
            initialize([self], generator, init)

    def _sides(self, name: str, sides: Sides, least: int) -> tuple[int, ...]:
        n = self.n_dimensions
        each = tuple(sides) if isinstance(sides, Iterable) else (sides,) * n
        if len(each) != n or not all(map(_is_whole, each)) or min(each) < least:
            raise ValueError(
                f"{name} must be a whole number of at least {least}, or {n} of them, got {sides!r}."
            )
        return tuple(map(int, each))

    def _padding(self, padding: Sides | str) -> tuple[int, ...]:
        """In pixels."""
        if not isinstance(padding, str):
            return self._sides("padding", padding, 0)
        if padding not in ("same", "valid"):
            raise ValueError(f"padding must be numbers, 'same' or 'valid', got {padding!r}.")
        if padding == "valid":
            return (0,) * self.n_dimensions
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        if max(self.stride) > 1 or any(r % 2 for r in reach):
            raise ValueError(
                "padding='same' needs stride=1 and dilation * (kernel_size - 1) even, got "
                f"stride={self.stride}, kernel_size={self.kernel_size} and "
                f"dilation={self.dilation}. Give padding as numbers."
            )
        return tuple(r // 2 for r in reach)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels} -> {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, backend={self.backend!r}"
        )

    def out_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Sides of y's maps for images of this size."""
        return size_after(size, self.kernel_size, self.stride, self.padding, self.dilation)

    def forward(self, x: Tensor) -> Tensor:
        geometry = self.kernel_size, self.stride, self.padding, self.dilation, self.groups
        how = self.backend, self.working_memory, self.widest
        y = edge_conv(x, self.basis, self.source, *geometry, *how)
        return y if self.bias is None else y + self.bias.view(-1, *[1] * self.n_dimensions)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


class KANConv1d(_KANConv):
    """``KANConv2d`` for sequences: (n, in_channels, length) -> (n, out_channels, length').

    Parameters and errors are those of ``KANConv2d``; sizes are one number.
    """

    n_dimensions = 1


class KANConv2d(_KANConv):
    """A convolution with a univariate function on every edge (output, input, position).

    ``y_o(t) = b_o + sum_i sum_k phi_oik(x_i(s t + d k - p))``, t a pixel of y, k a position
    in the kernel, s, d and p stride, dilation and padding; i over the channels of o's group.
    ``phi_oik(z) = sum_c w_oikc B_c(z)``: the basis gives B_c, one for a channel and all its
    pixels; the source gives w_oikc, and with a meta-learner every edge has its own prompt.

    Beyond the image's border features are zero: an edge whose argument lies in the padding
    contributes nothing, as when maps of features are convolved with zero padding (it does not
    contribute ``phi(0)``).

    Neither the maps of features nor generated weights are kept for the backward pass.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or tuple of int
    basis : Basis, default: cubic B-splines on 5 cells of [-1, 1]
        Of ``in_channels`` inputs.
    source : DirectCoefficients or MetaCoefficients, default: direct
        Of in_features ``(in_channels, *kernel_size)`` and out_features
        ``out_channels // groups``.
    stride, dilation : int or tuple of int, default=1
    padding : int, tuple of int, "same" or "valid", default=0
        On both ends of a side; "same" keeps the size of the image, "valid" is 0.
    groups : int, default=1
        Channels are split into so many groups; an output sums over its own alone.
    bias : bool, default=False
    backend, working_memory, input_law, init, generator, dtype : as for ``KANLinear``

    Shape
    -----
    (n, in_channels, h, w) -> (n, out_channels, h', w'), channels last in memory;
    ``h' = (h + 2 p - d (k - 1) - 1) // s + 1``.

    Raises
    ------
    ValueError
        For settings out of range, and parts that do not fit the layer; in ``forward``, for
        images of another number of channels or dimensions, or smaller than the kernel.

    Source: Drokin, "Kolmogorov-Arnold Convolutions" (2024), arXiv 2407.01092; Zhao et al.
    (ICML 2025); a prompt for each edge is ours.

    Examples
    --------
    >>> import torch
    >>> from sklearn_metakan.nn import KANConv2d, MetaCoefficients, MetaLearner
    >>> source = MetaCoefficients((4, 3, 3), 8, MetaLearner(1, 16, 9))
    >>> layer = KANConv2d(4, 8, 3, source=source, padding=1)
    >>> layer(torch.rand(2, 4, 6, 5)).shape
    torch.Size([2, 8, 6, 5])
    >>> source.prompts.shape
    torch.Size([4, 3, 3, 1, 8])
    """

    n_dimensions = 2


class KANConv3d(_KANConv):
    """``KANConv2d`` for volumes: (n, in_channels, d, h, w) -> (n, out_channels, d', h', w').

    Parameters and errors are those of ``KANConv2d``; sizes are one number or three.
    """

    n_dimensions = 3
