"""B-splines of any degree on uniform or per-input knots, with the base function silu."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple, Self, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sklearn_metakan.basis._base import (
    Basis,
    Extrapolation,
    check_inside,
    flat_beyond,
    full_precision,
)
from sklearn_metakan.basis._knots import (
    cell_polynomials,
    check_finer,
    extend,
    split_cells,
    uniform_cell,
)
from sklearn_metakan.basis._silu import silu

_COUNTED = 32  # knots; to find a cell among more, a binary search is quicker (measured)


class _Place(NamedTuple):
    """Where x (b, n) lies on the grid, input by input; all contiguous."""

    x: Tensor
    start: int  # the first input
    cell: Tensor  # from 0 to G - 1; with extrapolation="base", k more on either side
    u: Tensor  # the local coordinate in [0, 1]
    beyond: Tensor | None  # what lies beyond the cells, in cells; None where nothing does
    width: Tensor  # of a cell: (1, 1), (b, 1), or (b, n)
    low: Tensor  # ends of the grids, (1, 1) or (b, 1)
    high: Tensor


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
        their digits.

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
    has_silu = True

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
            table = uniform_cell(self.degree)[None]
        else:
            table = cell_polynomials(knots, self.degree)
        breaks = extend(knots, self.degree)
        self.register_buffer("breaks", torch.tensor(breaks, dtype=dtype))
        self.register_buffer("polynomials", torch.tensor(table, dtype=dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """In another dtype the polynomials of uniform cells, the same for all knots, are new."""
        before = self.polynomials.dtype
        super()._apply(fn, recurse)
        if self.uniform and self.polynomials.dtype != before:
            self.polynomials = self.polynomials.new_tensor(uniform_cell(self.degree)[None])
        return self

    @property
    def domain(self) -> Tensor:
        ends = self.breaks[:, self.degree :: self.grid_size][:, :2]
        return ends.expand(self.in_features, 2)

    @property
    def knots(self) -> Tensor:
        if not self.uniform:
            return self.breaks[:, self.degree : -self.degree]
        return self.domain[0] if len(self.breaks) == 1 else self.domain

    @property
    def breakpoints(self) -> Tensor:
        return self.breaks

    def _made(self, grid_size: int | None, knots: np.ndarray, dtype: torch.dtype) -> Basis:
        sizes = self.in_features, grid_size or self.grid_size, self.degree
        return BSplineBasis(*sizes, knots, self.extrapolation, dtype)

    def refined(self, grid_size: int) -> Basis:
        check_finer(self.grid_size, grid_size)
        knots = self.knots.double().cpu()
        if not self.uniform:
            knots = torch.from_numpy(split_cells(knots.numpy(), grid_size))
        return self.with_grid(grid_size, knots)

    @property
    def numbers_per_value(self) -> int:
        return 2 * self.n_functions + 4 * self.degree + 16  # measured

    def extra_repr(self) -> str:
        kind = "uniform" if self.uniform else "per input"
        return (
            f"in_features={self.in_features}, grid_size={self.grid_size}, "
            f"degree={self.degree}, knots={kind}, extrapolation={self.extrapolation!r}"
        )

    def values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        return self._values(self._locate(x, start), derivative)

    def contract(self, grad: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        return self._contract(grad, self._locate(x, start), derivative)

    def values_and_contract(
        self, grad: Tensor, x: Tensor, start: int, derivative: int
    ) -> tuple[Tensor, Tensor]:
        place = self._locate(x, start)
        return self._values(place, derivative), self._contract(grad, place, derivative + 1)

    def _values(self, place: _Place, derivative: int) -> Tensor:
        """(n, b, C), in memory (C, b, n): then every pass and every product is contiguous."""
        out = place.x.new_zeros(self.n_functions, *place.x.shape)
        functions = out.view(-1)
        for first, index, spline in self._local_splines(place, derivative):
            functions[first:].scatter_(0, index, spline)
        out[0] = self._base(place, derivative)
        return out.permute(2, 1, 0)

    def _contract(self, grad: Tensor, place: _Place, derivative: int) -> Tensor:
        grad = grad.permute(2, 1, 0).contiguous()
        result = grad[0] * self._base(place, derivative)
        into, functions = result.view(-1), grad.view(-1)
        for first, index, spline in self._local_splines(place, derivative):
            into.addcmul_(functions[first:].index_select(0, index), spline)
        return result.T

    def _ends(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """Lower and upper ends of the grids of these inputs, (b, 1) or (1, 1)."""
        k = self.degree
        rows = slice(0, 1) if len(self.breaks) == 1 else slice(start, start + count)
        return self.breaks[rows, k, None], self.breaks[rows, -k - 1, None]

    def _base(self, place: _Place, derivative: int) -> Tensor:
        """silu or its derivative, continued outside the grid like the splines."""
        x = place.x
        if self.extrapolation == "base" or place.beyond is None:
            return silu(x, derivative)
        inside = x.clamp(place.low, place.high)
        base = silu(inside, derivative)
        if derivative == 0 and self.extrapolation == "linear":
            ends = torch.stack([place.low, place.high])
            low_slope, high_slope = silu(ends, 1)
            outside = x - inside
            base.addcmul_(outside, torch.where(outside < 0, low_slope, high_slope))
        elif flat_beyond(self.extrapolation, derivative):
            base.masked_fill_(x != inside, 0.0)
        return base

    def _local_splines(
        self, place: _Place, derivative: int
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The k + 1 splines (b * n) on each x's cell, and where they lie in (C, b, n).

        One after the other, every pass over memory contiguous: 1.5 times faster than all at
        once with the spline's index last (1024 x 64, one core). Splines that do not exist
        (in the tails, with "base") are zero and come to lie on the base function.
        """
        cell, beyond = place.cell.view(-1), place.beyond
        splines = self._polynomials(place, derivative)
        step = cell.numel()  # from one function to the next
        index = torch.arange(step, device=cell.device)  # the base function
        if self.extrapolation == "base":
            function = torch.arange(1, self.degree + 2, device=cell.device)[:, None] + cell
            absent = (function < 1) | (function >= self.n_functions)
            if beyond is not None:
                absent |= beyond.view(-1) != 0
            splines = splines.masked_fill_(absent, 0.0)
            places = function.masked_fill_(absent, 0).mul_(step).add_(index)
            yield from ((0, *pair) for pair in zip(places, splines, strict=True))
            return
        if beyond is not None and flat_beyond(self.extrapolation, derivative):
            splines.masked_fill_(beyond.view(-1) != 0, 0.0)
        index.add_(cell, alpha=step)
        for number, spline in enumerate(splines, 1):
            yield number * step, index, spline

    def _polynomials(self, place: _Place, derivative: int) -> Tensor:
        """Derivatives of the local polynomials at u, (k + 1, b * n)."""
        x, start = place.x, place.start
        if derivative > self.degree:
            return x.new_zeros(self.degree + 1, x.numel())
        table = self.polynomials if self.uniform else self.polynomials[start : start + len(x)]
        for _ in range(derivative):
            table = table[..., 1:] * torch.arange(1, table.shape[-1], device=table.device)
        powers = self._powers(place, derivative)
        if self.uniform and place.width.numel() == 1:
            table = table[0] / place.width**derivative if derivative else table[0]
            return _multiply(table, powers)
        if self.uniform:
            splines = _multiply(table[0], powers)
        else:
            splines = self._own_polynomials(table, place.cell, powers)
        if derivative:
            splines.unflatten(1, x.shape).div_(place.width**derivative)
        return splines

    def _own_polynomials(self, table: Tensor, cell: Tensor, powers: Tensor) -> Tensor:
        """Every input has a table (b, cells, k + 1, powers) of its own."""
        n_inputs, n_cells = table.shape[:2]
        first = torch.arange(0, n_inputs * n_cells, n_cells, device=cell.device) + self.degree
        index = (cell + first[:, None]).view(1, -1).expand(self.degree + 1, -1)
        splines = torch.zeros_like(index, dtype=powers.dtype)
        for coefficients, power in zip(table.flatten(0, 1).permute(2, 1, 0), powers, strict=True):
            splines.addcmul_(coefficients.gather(1, index), power)
        return splines

    def _locate(self, x: Tensor, start: int) -> _Place:
        k, cells = self.degree, self.grid_size
        x = x.T.contiguous()
        low, high = self._ends(start, len(x))
        if self.extrapolation == "error":
            check_inside(x, low, high)
        first, last = (-k, cells + k - 1) if self.extrapolation == "base" else (0, cells - 1)
        if self.uniform:
            width = (high - low) / cells
            position = (x - low).div_(width)
            cell = position.floor().clamp_(first, last)
            u = position.sub_(cell)
            cell = cell.long().clamp_(first, last)  # NaN became an arbitrary integer
        else:
            breaks = self.breaks[start : start + len(x)].contiguous()
            cell = first + _count_below(x, breaks[:, first + 1 + k : last + 1 + k])
            rows = torch.arange(k, breaks.numel(), breaks.shape[1], device=x.device)
            index = cell + rows[:, None]
            left, right = breaks.take(index), breaks.view(-1)[1:].take(index)
            width = right.sub_(left)
            u = (x - left).div_(width)
        inside = u.clamp(0.0, 1.0)
        # A card would have to wait for the answer.
        beyond = None if x.device.type == "cpu" and torch.equal(u, inside) else u.sub_(inside)
        return _Place(x, start, cell, inside, beyond, width, low, high)

    def _powers(self, place: _Place, derivative: int) -> Tensor:
        """[1, u, ..., u^(k - derivative)], continued outside [0, 1]; (k + 1 - m, b * n)."""
        u, beyond = place.u.view(-1), place.beyond
        powers = u.new_empty(self.degree + 1 - derivative, len(u))
        rows = powers.unbind()
        rows[0].fill_(1.0)
        for lower, power in pairwise(rows):
            torch.mul(lower, u, out=power)
        if beyond is not None and derivative == 0 and self.extrapolation == "linear":
            for r in range(self.degree, 0, -1):  # downwards: the row below is still u^(r - 1)
                rows[r].addcmul_(beyond.view(-1), rows[r - 1], value=r)
        return powers


def _multiply(table: Tensor, powers: Tensor) -> Tensor:
    """A product that autocast does not round: derivatives would lose their digits."""
    with full_precision(powers):
        return table @ powers


def _count_below(x: Tensor, knots: Tensor) -> Tensor:
    """How many of its input's knots (b, knots), sorted, lie at or below each x (b, n)."""
    if knots.shape[1] > _COUNTED:
        return torch.searchsorted(knots.contiguous(), x, right=True)
    count = torch.zeros_like(x, dtype=torch.uint8)
    for knot in knots.T:
        count += x >= knot[:, None]
    return count.long()
