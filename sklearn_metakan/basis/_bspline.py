"""B-splines of any degree on uniform or per-input knots, with the base function silu."""

from math import perm
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_metakan.basis._base import Basis
from sklearn_metakan.basis._knots import cell_polynomials, extend
from sklearn_metakan.basis._silu import silu

Extrapolation = Literal["linear", "base", "constant", "error"]


class BSplineBasis(Basis):
    r"""``B(t) = [silu(t), B_1(t), ..., B_m(t)]``, m = grid_size + degree.

    The knots are extended beyond both ends of the grid, not clamped, so that on a uniform
    grid every spline is a shift of one cardinal spline. Inside a cell, with the local
    coordinate u, the degree + 1 splines that do not vanish are polynomials in u; any
    derivative follows from their coefficients.

    Parameters
    ----------
    in_features : int
    grid_size : int, default=5
        G, the number of cells, at least 1.
    degree : int, default=3
        k, at least 1; the edges are k - 1 times continuously differentiable.
    knots : (float, float) or array, default=(-1, 1)
        The two ends of a uniform grid, for all inputs or, of shape (in_features, 2), for
        each; or all knots of each input, (in_features, grid_size + 1), strictly increasing.
    extrapolation : {"linear", "base", "constant", "error"}, default="linear"
        Outside the grid: value and slope of the edge continued; the splines' own tails,
        then silu alone; the value at the end; a ValueError.
    dtype : torch.dtype, default: torch's default
        Of the knots. Name float64 here rather than cast later: casting cannot bring back
        digits.

    Shape
    -----
    ``evaluate``: (n, in_features) -> (n, in_features, 1 + grid_size + degree).

    Source: de Boor, "On calculating with B-splines" (1972); Liu et al., "KAN" (2024).

    Examples
    --------
    >>> import torch
    >>> basis = BSplineBasis(2, grid_size=4)
    >>> features = basis.evaluate(torch.tensor([[0.3, -0.2]]))
    >>> features.shape
    torch.Size([1, 2, 8])
    >>> features[..., 1:].sum(-1)  # the splines sum to one
    tensor([[1., 1.]])
    """

    breaks: Tensor
    polynomials: Tensor

    def __init__(
        self,
        in_features: int,
        grid_size: int = 5,
        degree: int = 3,
        knots: tuple[float, float] | ArrayLike = (-1.0, 1.0),
        extrapolation: Extrapolation = "linear",
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_features, grid_size, degree) < 1:
            raise ValueError(
                "in_features, grid_size and degree must be at least 1, got "
                f"{in_features}, {grid_size} and {degree}."
            )
        if extrapolation not in get_args(Extrapolation):
            raise ValueError(
                f"extrapolation must be one of {get_args(Extrapolation)}, got {extrapolation!r}."
            )
        self.in_features = in_features
        self.grid_size = grid_size
        self.degree = degree
        self.extrapolation = extrapolation
        self.n_functions = 1 + grid_size + degree
        self._set_knots(np.asarray(knots, dtype=np.float64), dtype or torch.get_default_dtype())

    def _set_knots(self, knots: np.ndarray, dtype: torch.dtype) -> None:
        self.uniform = knots.shape in ((2,), (self.in_features, 2))
        if self.uniform:
            ends = np.atleast_2d(knots)
            knots = np.linspace(ends[:, 0], ends[:, 1], self.grid_size + 1, axis=1)
        elif knots.shape != (self.in_features, self.grid_size + 1):
            raise ValueError(
                "knots must be the two ends of a uniform grid, or have the shape (in_features, 2) "
                f"or (in_features, grid_size + 1) = {(self.in_features, self.grid_size + 1)}, "
                f"got shape {knots.shape}."
            )
        if not (np.isfinite(knots).all() and (np.diff(knots) > 0).all()):
            raise ValueError("knots must be finite and strictly increasing.")
        if self.uniform:  # all cells alike: (1, k + 1, k + 1)
            table = cell_polynomials(np.arange(2.0)[None], self.degree)[:, self.degree]
        else:
            table = cell_polynomials(knots, self.degree)
        breaks = extend(knots, self.degree)
        self.register_buffer("breaks", torch.tensor(breaks, dtype=dtype))
        self.register_buffer("polynomials", torch.tensor(table, dtype=dtype))

    @property
    def domain(self) -> Tensor:
        k = self.degree
        ends = self.breaks[:, [k, -k - 1]]
        return ends.expand(self.in_features, 2)

    def extra_repr(self) -> str:
        kind = "uniform" if self.uniform else "per input"
        return (
            f"in_features={self.in_features}, grid_size={self.grid_size}, "
            f"degree={self.degree}, knots={kind}, extrapolation={self.extrapolation!r}"
        )

    def values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        splines, column = self._local_splines(x, start, derivative)
        out = x.new_zeros(*x.shape, self.n_functions)
        out.scatter_(-1, column, splines)
        out[..., 0] = self._base(x, start, derivative)
        return out

    def contract(self, grad: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        splines, column = self._local_splines(x, start, derivative)
        if self.extrapolation == "base":
            splines = splines.masked_fill(column == 0, 0.0)
        result = (grad.gather(-1, column) * splines).sum(-1)
        return result.addcmul_(grad[..., 0], self._base(x, start, derivative))

    def _ends(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        k = self.degree
        rows = slice(0, 1) if len(self.breaks) == 1 else slice(start, start + count)
        return self.breaks[rows, k], self.breaks[rows, -k - 1]

    def _base(self, x: Tensor, start: int, derivative: int) -> Tensor:
        """silu or its derivative, continued outside the grid like the splines."""
        if self.extrapolation == "base":
            return silu(x, derivative)
        inside = x.clamp(*self._ends(start, x.shape[1]))
        base = silu(inside, derivative)
        if derivative == 0 and self.extrapolation == "linear":
            return base.addcmul_(x - inside, silu(inside, 1))
        if self._flat_outside(derivative):
            base = base.masked_fill(x != inside, 0.0)
        return base

    def _flat_outside(self, derivative: int) -> bool:
        """Whether the continued function's derivative of this order is zero."""
        return derivative > (1 if self.extrapolation == "linear" else 0)

    def _local_splines(self, x: Tensor, start: int, derivative: int) -> tuple[Tensor, Tensor]:
        """The k + 1 splines (n, b, k + 1) on each x's cell, and their columns in B.

        Splines that do not exist (in the tails, with "base") get column 0, which the base
        function overwrites.
        """
        k = self.degree
        cell, u, beyond, width = self._locate(x, start)
        powers = self._powers(u, beyond, derivative)
        if self.uniform:
            splines = powers @ self.polynomials[0].T
        else:
            rows = torch.arange(start, start + x.shape[1], device=x.device)
            local = self.polynomials[rows, cell + k]  # (n, b, k + 1, k + 1)
            splines = (local @ powers[..., None])[..., 0]
        if derivative:
            splines = splines / width[..., None] ** derivative
        column = cell[..., None] + torch.arange(1, k + 2, device=x.device)
        if self.extrapolation == "base":
            absent = (column < 1) | (column >= self.n_functions) | (beyond != 0)[..., None]
            column = column.masked_fill(absent, 0)
        return splines, column

    def _locate(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cell, local coordinate in [0, 1], what lies beyond the grid (in cells), width."""
        k, cells = self.degree, self.grid_size
        low, high = self._ends(start, x.shape[1])
        tails = self.extrapolation == "base"
        if self.extrapolation == "error" and bool(((x < low) | (x > high)).any()):
            raise ValueError(
                'Inputs lie outside the grid, and extrapolation="error" forbids it; use '
                '"linear", "base" or "constant", or knots that cover the data.'
            )
        first, last = (-k, cells + k - 1) if tails else (0, cells - 1)
        if self.uniform:
            width = (high - low) / cells
            position = (x - low) / width
            cell = position.floor().clamp_(first, last)
            u = position - cell
            cell = cell.long()
        else:
            breaks = self.breaks[start : start + x.shape[1]].contiguous()
            cell = torch.searchsorted(breaks, x.T.contiguous(), right=True).T - 1 - k
            cell = cell.clamp_(first, last)
            left = breaks.gather(1, (cell + k).T).T
            width = breaks.gather(1, (cell + k + 1).T).T - left
            u = (x - left) / width
        inside = u.clamp(0.0, 1.0)
        return cell, inside, u - inside, width

    def _powers(self, u: Tensor, beyond: Tensor, derivative: int) -> Tensor:
        """Derivatives of [1, u, ..., u^k] by u, continued outside [0, 1]; (n, b, k + 1)."""
        if derivative > self.degree:
            return u.new_zeros(*u.shape, self.degree + 1)
        monomials = [torch.ones_like(u)]
        for _ in range(self.degree - derivative):
            monomials.append(monomials[-1] * u)
        powers = [
            float(perm(r, derivative)) * monomials[r - derivative]
            if r >= derivative
            else torch.zeros_like(u)
            for r in range(self.degree + 1)
        ]
        if derivative == 0 and self.extrapolation == "linear":
            for r in range(1, self.degree + 1):
                powers[r] = torch.addcmul(powers[r], beyond, monomials[r - 1], value=r)
        stacked = torch.stack(powers, dim=-1)
        if self.extrapolation != "base" and self._flat_outside(derivative):
            stacked = stacked.masked_fill((beyond != 0)[..., None], 0.0)
        return stacked
