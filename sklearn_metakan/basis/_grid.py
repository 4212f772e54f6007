"""What smooth families on a grid share: its ends, the base function, extrapolation."""

from abc import abstractmethod
from typing import get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_metakan.basis._base import Basis, Extrapolation, check_inside
from sklearn_metakan.basis._knots import check_finer
from sklearn_metakan.basis._silu import silu


class GridBasis(Basis):
    """Functions that are smooth on the whole line, on a grid of two ends for each input.

    A family gives derivatives of any order on the line (``_family``); here they are continued
    beyond the grid: "linear" goes on with value and slope (C1), "constant" with the value,
    "base" leaves the functions as they are there, "error" refuses.

    Parameters
    ----------
    in_features, n_functions : int
    knots : (float, float) or array of shape (in_features, 2)
        Ends of the grid, for all inputs or for each.
    extrapolation : {"linear", "base", "constant", "error"}
    has_silu : bool
        Whether the first function is silu.
    dtype : torch.dtype, default: torch's default
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
        valid = stored.isfinite().all(1) & (stored[:, 0] < stored[:, 1])
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

    def refined(self, grid_size: int) -> Basis:
        check_finer(self.grid_size, grid_size)
        return self.with_grid(grid_size)

    @abstractmethod
    def _family(self, x: Tensor, start: int, first: int, last: int) -> list[Tensor]:
        """Derivatives of orders first to last, by x on the whole line: (n, b, C) each.

        With ``has_silu``, what stands in ``[..., 0]`` does not matter.
        """

    def _ends(self, x: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Lower and upper ends of the grids of these inputs, (b) or (1)."""
        rows = slice(0, 1) if len(self.ends) == 1 else slice(start, start + x.shape[1])
        low, high = self.ends[rows].unbind(1)
        return low, high

    def _coordinate(self, x: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """u, which is -1 and 1 at the ends of the grid, and du/dx."""
        low, high = self._ends(x, start)
        rate = 2 / (high - low)
        return (x - (low + high) / 2).mul_(rate), rate

    def _functions(self, x: Tensor, start: int, first: int, last: int) -> list[Tensor]:
        functions = self._family(x, start, first, last)
        if self.has_silu:
            for order, values in enumerate(functions, first):
                values[..., 0] = silu(x, order)
        return functions

    def _inside(self, x: Tensor, start: int) -> Tensor:
        if self.extrapolation == "base":
            return x
        low, high = self._ends(x, start)
        if self.extrapolation == "error":
            check_inside(x, low, high)
        return x.clamp(low, high)

    def values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        (functions,) = self._functions(self._inside(x, start), start, derivative, derivative)
        return self._continue(functions, x, start, derivative)

    def contract(self, grad: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        if derivative == 0:
            return super().contract(grad, x, start, derivative)
        (functions,) = self._functions(self._inside(x, start), start, derivative, derivative)
        return self._contract(functions, grad, x, start, derivative)

    def values_and_contract(
        self, grad: Tensor, x: Tensor, start: int, derivative: int
    ) -> tuple[Tensor, Tensor]:
        inside = self._inside(x, start)
        functions, slopes = self._functions(inside, start, derivative, derivative + 1)
        values = self._continue(functions, x, start, derivative)
        return values, self._contract(slopes, grad, x, start, derivative + 1)

    def _continue(self, functions: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        """From the functions at the nearest point of the grid to those at x; in place."""
        if self.extrapolation == "linear" and derivative == 0:
            low, high = self._ends(x, start)
            ends = torch.stack([low, high]).expand(2, x.shape[1])
            (slopes,) = self._functions(ends, start, 1, 1)
            functions.addcmul_((x - low).clamp_(max=0.0)[..., None], slopes[0])
            functions.addcmul_((x - high).clamp_(min=0.0)[..., None], slopes[1])
        elif self._is_flat_outside(derivative):
            functions.masked_fill_(self._outside(x, start)[..., None], 0.0)
        return functions

    def _contract(
        self, functions: Tensor, grad: Tensor, x: Tensor, start: int, derivative: int
    ) -> Tensor:
        """``contract`` for orders of at least 1; takes the place of the functions."""
        result = functions.mul_(grad).sum(-1)
        if self._is_flat_outside(derivative):
            result.masked_fill_(self._outside(x, start), 0.0)
        return result

    def _is_flat_outside(self, derivative: int) -> bool:
        highest = {"linear": 1, "constant": 0}.get(self.extrapolation)
        return highest is not None and derivative > highest

    def _outside(self, x: Tensor, start: int) -> Tensor:
        low, high = self._ends(x, start)
        return (x < low) | (x > high)
