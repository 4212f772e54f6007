"""What smooth families on a grid share: its ends, the base function, extrapolation."""

from abc import abstractmethod
from typing import Self, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_metakan.basis.base import Basis, Extrapolation, check_inside, silu
from sklearn_metakan.basis.knots import check_finer


class GridBasis(Basis):
    """Functions that are smooth on the whole line, on a grid of two ends for each input.

    A family gives derivatives of any order on the line (``_family``); here they are continued
    beyond the grid: "linear" goes on with value and slope (C1), "constant" with the value,
    "base" leaves the functions as they are there, "error" refuses.

    Raises a ValueError if extrapolation is none of the four, or knots have another shape than (2,)
    or (in_features, 2), do not increase strictly, or span more than the dtype can hold.
    """

    ends: Tensor
    grid_size: int  # of families with cells

    def __init__(
        self,
        in_features: int,
        n_functions: int,
        knots: tuple[float, float] | ArrayLike,
        extrapolation: Extrapolation,
        has_silu: bool,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if extrapolation not in get_args(Extrapolation):
            raise ValueError(
                f"extrapolation must be one of {get_args(Extrapolation)}, got {extrapolation!r}."
            )
        self.in_features, self.n_functions = in_features, n_functions
        self.extrapolation, self.has_silu = extrapolation, has_silu
        ends = np.asarray(knots, dtype=np.float64)
        if ends.shape not in ((2,), (in_features, 2)):
            raise ValueError(
                f"knots of {type(self).__name__} must be the two ends of a grid, or have the "
                f"shape (in_features, 2) = {(in_features, 2)}, got shape {ends.shape}."
            )
        stored = torch.tensor(np.atleast_2d(ends), dtype=dtype or torch.get_default_dtype())
        valid = stored.diff(dim=1).isfinite()[:, 0] & (stored[:, 0] < stored[:, 1])
        if not valid.all():
            row = int(valid.logical_not().nonzero()[0])
            raise ValueError(
                f"knots must be finite and strictly increasing in {stored.dtype}, "
                f"got {np.atleast_2d(ends)[row].tolist()} in row {row}."
            )
        self.register_buffer("ends", stored)

    @property
    def domain(self) -> Tensor:
        return self.ends.expand(self.in_features, 2)

    @property
    def knots(self) -> Tensor:
        return self.ends[0] if len(self.ends) == 1 else self.ends

    @property
    def breakpoints(self) -> Tensor:
        return self.ends

    def refined(self, grid_size: int) -> Self:
        check_finer(self.grid_size, grid_size)
        return self.with_grid(grid_size)

    @abstractmethod
    def _family(self, x: Tensor, low: Tensor, high: Tensor, first: int, last: int) -> list[Tensor]:
        """Derivatives of orders first to last, by x on the whole line: (n, b, C) each.

        The grid is that of these inputs, low and high (b) or (1). With ``has_silu``, what stands
        in ``[..., 0]`` does not matter.
        """

    def values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        return self._orders(x, start, derivative, derivative)[0]

    def _orders(self, x: Tensor, start: int, first: int, last: int) -> list[Tensor]:
        """The family with silu, continued beyond the grid."""
        rows = slice(0, 1) if len(self.ends) == 1 else slice(start, start + x.shape[1])
        low, high = self.ends[rows].unbind(1)
        if self.extrapolation == "error":
            check_inside(x, low, high)
        inside = x if self.extrapolation == "base" else x.clamp(low, high)
        functions = self._family(inside, low, high, first, last)
        if self.has_silu:
            for order, values in enumerate(functions, first):
                values[..., 0] = silu(inside, order)
        if self.extrapolation == "linear" and first == 0:
            ends = torch.stack([low, high]).expand(2, x.shape[1])
            (slopes,) = self._family(ends, low, high, 1, 1)
            if self.has_silu:
                slopes[..., 0] = silu(ends, 1)
            most = torch.finfo(x.dtype).max  # infinity times a slope of zero would be NaN
            functions[0].addcmul_((x - low).clamp_(-most, 0.0)[..., None], slopes[0])
            functions[0].addcmul_((x - high).clamp_(0.0, most)[..., None], slopes[1])
        if self.extrapolation != "base" and last > (self.extrapolation == "linear"):
            outside = ((x < low) | (x > high))[..., None]
            for order, values in enumerate(functions, first):
                if order > (self.extrapolation == "linear"):
                    values.masked_fill_(outside, 0.0)
        return functions


def empty_features(x: Tensor, n_functions: int) -> Tensor:
    """(n, b, C) without numbers; in memory (C, b, n) if x has rows last: passes are contiguous."""
    if x.stride(0) < x.stride(1):
        return x.new_empty(n_functions, *x.T.shape).permute(2, 1, 0)
    return x.new_empty(*x.shape, n_functions)


def coordinate(x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """u, which is -1 and 1 at the ends of the grid, and du/dx; u as large as squares can be."""
    rate = 2 / (high - low)
    most = torch.finfo(x.dtype).max ** 0.5
    return (x - (low / 2 + high / 2)).mul_(rate).clamp_(-most, most), rate
