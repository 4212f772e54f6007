"""Gaussian radial basis functions, as in FastKAN, with the base function silu."""

from __future__ import annotations  # help() shows types as they are written here

from math import sqrt

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_metakan.basis.base import Extrapolation, put
from sklearn_metakan.basis.grid import GridBasis, empty_features


class RBFBasis(GridBasis):
    r"""``B(t) = [silu(t), B_0(t), ..., B_G(t)]``, ``B_k(t) = exp(-((t - c_k) / h)^2)``.

    The centres c_k are the G + 1 knots of the grid, both ends included, and the width is
    their distance h.

    Parameters
    ----------
    in_features : int
    grid_size : int, default=7
        G, the number of cells, at least 1; one centre more than cells.
    knots : (float, float) or array of shape (in_features, 2), default=(-2, 2)
        Ends of the grid, for all inputs or for each. The defaults are FastKAN's 8 centres.
    extrapolation : {"linear", "base", "constant", "error"}, default="linear"
        Outside the grid: value and slope of the edge continued; the Gaussians' own tails,
        then silu alone; the value at the end; a ValueError.
    dtype : torch.dtype, default: torch's default
        Of the knots.

    Raises
    ------
    ValueError
        If a size is below 1, or extrapolation or knots are not as described.

    Shape
    -----
    ``evaluate``: (n, in_features) -> (n, in_features, grid_size + 2).

    Source: Li, "Kolmogorov-Arnold Networks are Radial Basis Function Networks" (2024),
    arXiv 2405.06721. The layer norm of its inputs is not part of the basis.

    Examples
    --------
    >>> import torch
    >>> basis = RBFBasis(1, grid_size=2, knots=(-1, 1))
    >>> basis.evaluate(torch.tensor([[0.0]])).round(decimals=4)
    tensor([[[0.0000, 0.3679, 1.0000, 0.3679]]])
    """

    settings = ("in_features", "grid_size", "extrapolation")

    def __init__(
        self,
        in_features: int,
        grid_size: int = 7,
        knots: tuple[float, float] | ArrayLike = (-2.0, 2.0),
        extrapolation: Extrapolation = "linear",
        dtype: torch.dtype | None = None,
    ) -> None:
        if min(in_features, grid_size) < 1:
            raise ValueError(
                f"in_features and grid_size must be at least 1, got {in_features} and {grid_size}."
            )
        super().__init__(in_features, grid_size + 2, knots, extrapolation, True, dtype)
        self.grid_size = grid_size

    @property
    def numbers_per_value(self) -> int:
        return 4 * self.n_functions + 8  # measured

    def _family(self, x: Tensor, low: Tensor, high: Tensor, first: int, last: int) -> list[Tensor]:
        rate = sqrt(2) * self.grid_size / (high - low)  # exp(-s^2) = g(sqrt(2) s)
        centres = torch.arange(-1, self.grid_size + 1, dtype=x.dtype, device=x.device)
        most = torch.finfo(x.dtype).max ** 0.5
        u = (x - low).mul_(rate).clamp_(-most, most)[..., None]
        z = put(empty_features(x, self.n_functions), torch.sub, u, sqrt(2) * centres)
        derivatives = gaussian(z, first, last)
        for order, values in enumerate(derivatives, first):
            if order:
                values.mul_((rate**order)[:, None])
        return derivatives


def gaussian(z: Tensor, first: int, last: int) -> list[Tensor]:
    """Derivatives of orders first to last of ``g(z) = exp(-z^2 / 2)``.

    ``g^(k) = (-1)^k He_k(z) g(z)``, by ``g^(k+1) = -z g^(k) - k g^(k-1)``.

    Examples
    --------
    >>> import torch
    >>> [float(g) for g in gaussian(torch.tensor(0.0), 0, 4)]
    [1.0, -0.0, -1.0, 0.0, 3.0]
    """
    derivatives = [torch.exp((z * z).mul_(-0.5))]
    for k in range(last):
        following = z * derivatives[k]
        if k:
            following.add_(derivatives[k - 1], alpha=k)
        derivatives.append(following.neg_())
    return derivatives[first:]
