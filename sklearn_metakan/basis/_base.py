"""What every basis offers: values and derivatives, exact under repeated autograd."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

Extrapolation = Literal["linear", "base", "constant", "error"]


def full_precision(x: Tensor) -> torch.autocast:
    """Basis functions are evaluated in x's dtype, also inside an autocast region."""
    return torch.autocast(x.device.type, enabled=False)


def check_inside(x: Tensor, low: Tensor, high: Tensor) -> None:
    """What extrapolation="error" means."""
    if bool(((x < low) | (x > high)).any()):
        raise ValueError(
            'Inputs lie outside the grid, and extrapolation="error" forbids it; use '
            '"linear", "base" or "constant", or knots that cover the data.'
        )


def flat_beyond(extrapolation: str, derivative: int) -> bool:
    """Whether a function continued so has a derivative of this order that is zero there."""
    return derivative > (1 if extrapolation == "linear" else 0)


class _Evaluate(torch.autograd.Function):
    """F = B^(m)(x); its gradient is again a basis evaluation, B^(m+1)(x).

    Only x is saved. When a graph of the backward pass is asked for, the gradient goes
    through this same function, so derivatives of every order are exact.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: "Basis", start: int, derivative: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.basis, ctx.start, ctx.derivative = basis, start, derivative
        with full_precision(x):
            return basis.values(x, start, derivative)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            features = _Evaluate.apply(x, ctx.basis, ctx.start, ctx.derivative + 1)
            return (grad * features).sum(-1), None, None, None
        with full_precision(x):
            return ctx.basis.contract(grad, x, ctx.start, ctx.derivative + 1), None, None, None


class Basis(nn.Module, ABC):
    """C univariate functions for each of ``in_features`` inputs.

    Attributes
    ----------
    in_features : int
        Number of inputs; each may have its own knots.
    n_functions : int
        C, the number of functions an edge combines, base function included.
    has_silu : bool
        Whether the first function is silu.
    extrapolation : {"linear", "base", "constant", "error"}
        What happens outside the grid.
    """

    in_features: int
    n_functions: int
    has_silu: bool
    extrapolation: Extrapolation

    def evaluate(
        self, x: Tensor, start: int = 0, stop: int | None = None, derivative: int = 0
    ) -> Tensor:
        """Derivatives of order ``derivative`` of all functions, for a block of inputs.

        Parameters
        ----------
        x : Tensor of shape (n, in_features)
        start, stop : int
            The block of inputs, ``start <= i < stop``; all of them by default.
        derivative : int, 0 or more

        Returns
        -------
        Tensor of shape (n, stop - start, C)
            ``[..., c]`` is the derivative of ``B_c`` at ``x_i``. Half-precision inputs
            are evaluated in the precision of the knots.
        """
        block = x[:, start:stop].to(self.domain.dtype)
        return _Evaluate.apply(block, self, start, derivative)

    @property
    def numbers_per_value(self) -> int:
        """Numbers held for one x while functions are evaluated and their gradient contracted."""
        return 4 * self.n_functions

    @property
    @abstractmethod
    def domain(self) -> Tensor:
        """Lower and upper end of the grid of each input, shape (in_features, 2)."""

    @property
    @abstractmethod
    def knots(self) -> Tensor:
        """As the constructor takes them: (2,), (in_features, 2) or (in_features, G + 1)."""

    @property
    @abstractmethod
    def breakpoints(self) -> Tensor:
        """Where derivatives may jump, increasing: shape (1 or in_features, n)."""

    def with_grid(
        self,
        grid_size: int | None = None,
        knots: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Basis":
        """A basis of this kind on another grid, on the same device."""
        ends = (self.knots if knots is None else knots).double().cpu().numpy()
        made = self._made(grid_size, ends, dtype or self.domain.dtype)
        return made.to(self.domain.device)

    @abstractmethod
    def _made(self, grid_size: int | None, knots: np.ndarray, dtype: torch.dtype) -> "Basis":
        """Of this kind with these knots; so many cells, or as many as now."""

    @abstractmethod
    def refined(self, grid_size: int) -> "Basis":
        """On a grid of more cells, over the same range; knots that are not uniform stay."""

    @abstractmethod
    def values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        """Closed form without autograd: x (n, b) are inputs start to start + b."""

    def contract(self, grad: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        """``sum_c grad[..., c] * B_c^(m)(x)``, shape (n, b): the way back to x."""
        return (grad * self.values(x, start, derivative)).sum(-1)

    def values_and_contract(
        self, grad: Tensor, x: Tensor, start: int, derivative: int
    ) -> tuple[Tensor, Tensor]:
        """``values`` of order m and ``contract`` of order m + 1, where they share work."""
        values = self.values(x, start, derivative)
        return values, self.contract(grad, x, start, derivative + 1)
