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
    >>> features[..., 1:].sum(-1).round(decimals=4)  # the splines sum to one
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
        stored = torch.tensor(knots, dtype=dtype)
        valid = stored.isfinite().all(1) & (stored.diff(dim=1) > 0).all(1)
        if not valid.all():
            row = int(valid.logical_not().nonzero()[0])
            raise ValueError(
                f"knots must be finite and strictly increasing in {dtype}, "
                f"got {knots[row].tolist()} in row {row}."
            )
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
        out.permute(2, 0, 1).scatter_(0, column, splines)
        out[..., 0] = self._base(x, start, derivative)
        return out

    def contract(self, grad: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        splines, column = self._local_splines(x, start, derivative)
        if self.extrapolation == "base":
            splines.masked_fill_(column == 0, 0.0)
        result = grad.permute(2, 0, 1).gather(0, column).mul_(splines).sum(0)
        return result.addcmul_(grad[..., 0], self._base(x, start, derivative))

    def _ends(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        k = self.degree
        rows = slice(0, 1) if len(self.breaks) == 1 else slice(start, start + count)
        return self.breaks[rows, k], self.breaks[rows, -k - 1]

    def _base(self, x: Tensor, start: int, derivative: int) -> Tensor:
        """silu or its derivative, continued outside the grid like the splines."""
        if self.extrapolation == "base":
            return silu(x, derivative)
        low, high = self._ends(start, x.shape[1])
        inside = x.clamp(low, high)
        base = silu(inside, derivative)
        if derivative == 0 and self.extrapolation == "linear":
            beyond = x - inside
            return base.addcmul_(beyond, torch.where(beyond < 0, silu(low, 1), silu(high, 1)))
        if self._flat_outside(derivative):
            base.masked_fill_(x != inside, 0.0)
        return base

    def _flat_outside(self, derivative: int) -> bool:
        """Whether the continued function's derivative of this order is zero."""
        return derivative > (1 if self.extrapolation == "linear" else 0)

    def _local_splines(self, x: Tensor, start: int, derivative: int) -> tuple[Tensor, Tensor]:
        """The k + 1 splines (k + 1, n, b) on each x's cell, and their columns in B.

        Splines that do not exist (in the tails, with "base") get column 0, which the base
        function overwrites. The spline's index comes first: every pass over memory is then
        contiguous, 2.5 times faster than with it last (256 x 64, one core).
        """
        k = self.degree
        cell, u, beyond, width = self._locate(x, start)
        if derivative > k:
            splines = u.new_zeros(k + 1, *u.shape)
        else:
            order = range(k + 1 - derivative)
            factors = [float(perm(r + derivative, derivative)) for r in order]
            table = self.polynomials[..., derivative:] * u.new_tensor(factors)
            powers = self._powers(u, beyond, derivative)
            if self.uniform:
                splines = (table[0] @ powers.flatten(1)).unflatten(1, u.shape)
            else:
                rows = torch.arange(start, start + x.shape[1], device=x.device)
                splines = torch.einsum("nbar,rnb->anb", table[rows, cell + k], powers)
            if derivative:
                splines = splines / width**derivative
        column = torch.arange(1, k + 2, device=x.device)[:, None, None] + cell
        if self.extrapolation == "base":
            absent = (column < 1) | (column >= self.n_functions) | (beyond != 0)
            column = column.masked_fill(absent, 0)
        elif self._flat_outside(derivative):
            splines = splines.masked_fill(beyond != 0, 0.0)
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
            cell = cell.long().clamp_(first, last)  # NaN became an arbitrary integer
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
        """[1, u, ..., u^(k - derivative)], continued outside [0, 1]; (k + 1 - m, n, b)."""
        powers = u.new_empty(self.degree + 1 - derivative, *u.shape)
        powers[0] = 1.0
        for r in range(1, len(powers)):
            torch.mul(powers[r - 1], u, out=powers[r])
        if derivative == 0 and self.extrapolation == "linear":
            for r in range(self.degree, 0, -1):  # downwards: the row below is still u^(r - 1)
                powers[r].addcmul_(beyond, powers[r - 1], value=r)
        return powers
