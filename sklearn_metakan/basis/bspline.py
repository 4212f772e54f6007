"""B-splines of any degree on uniform or per-input knots, with the base function silu."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Callable
from math import perm
from typing import Any, NamedTuple, Self, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sklearn_metakan.basis.base import Basis, Extrapolation, check_inside, silu
from sklearn_metakan.basis.few_cells import MOST_CELLS, Ends, Terms, matrix, pulled, terms_of
from sklearn_metakan.basis.knots import (
    Array,
    cell_polynomials,
    check_finer,
    split_cells,
    uniform_cell,
)

_COUNTED = 32  # knots; to find a cell among more, a binary search is quicker (measured)


class _Grid(NamedTuple):
    """What follows from the knots, for as long as they are this version of this tensor."""

    breaks: Tensor
    version: int
    low: Tensor  # (in_features, 1) or (1, 1), as the next two
    high: Tensor
    width: Tensor  # of uniform cells
    tables: dict[tuple[int, int], Tensor]  # their polynomials, orders first to last in rows


class _OnCells(NamedTuple):
    """silu and the k + 1 splines of each x's cell, of some orders, and their places in memory.

    This memory is (1, functions, b * n), with functions first, or (b, functions, n). For tails it
    has room for splines that do not exist.
    """

    sizes: tuple[int, int, int]
    places: Tensor  # (1, b * n) or (b, n), of the cell's first spline in memory.flatten(1)
    functions: list[tuple[Tensor, Tensor]]  # (b, n) and (k + 1, b, n)


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

    Raises
    ------
    ValueError
        If a size is below 1, extrapolation is none of the four, or knots have another shape,
        are not finite, do not increase strictly in this dtype, or leave no room in it for k
        cells beyond either end.

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
    _grid: _Grid | None = None
    _ends: tuple[Tensor, int, Ends] | None = None  # likewise, where splines are sums of powers

    settings = ("in_features", "grid_size", "degree", "extrapolation")

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
        self.in_features, self.grid_size, self.degree = in_features, grid_size, degree
        self.extrapolation, self.n_functions = extrapolation, 1 + grid_size + degree
        dtype = dtype or torch.get_default_dtype()
        self.uniform = np.shape(knots) in ((2,), (in_features, 2))
        grid = spline_knots(knots, in_features, grid_size, degree)
        breaks = torch.tensor(grid[:, degree + 1 : -degree - 1], dtype=dtype)
        inner = breaks[:, degree:-degree]
        valid = (breaks[:, -1] - breaks[:, 0]).isfinite() & (inner.diff(dim=1) > 0).all(1)
        if not valid.all():
            row = int(valid.logical_not().nonzero()[0])
            raise ValueError(
                f"knots must be finite and strictly increasing in {dtype}, with room for "
                f"{degree} cells on either side, got "
                f"{grid[row, 2 * degree + 1 : -2 * degree - 1].tolist()} in row {row}."
            )
        self.register_buffer("breaks", breaks)  # uniform cells are all alike: (1, k + 1, k + 1)
        table = uniform_cell(degree)[None] if self.uniform else cell_polynomials(grid, degree)
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

    def refined(self, grid_size: int) -> Self:
        check_finer(self.grid_size, grid_size)
        knots = self.knots.double().cpu()
        if not self.uniform:
            knots = torch.from_numpy(split_cells(knots.numpy(), grid_size))
        return self.with_grid(grid_size, knots)

    @property
    def numbers_per_value(self) -> int:
        return 2 * self.n_functions + 4 * self.degree + 16  # measured

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, knots={'uniform' if self.uniform else 'per input'}"

    def values(
        self, x: Tensor, start: int, derivative: int, found: _OnCells | None = None
    ) -> Tensor:
        """(n, b, C), in memory (C, b, n): then every pass and every product is contiguous.

        On few cells they lie as they are called.
        """
        few = self.grid_size <= MOST_CELLS
        if few and found is None and derivative == 0 and self._has_terms():
            terms = self._terms(x, 0)[0]  # (C, n, b)
            room = x.new_empty(terms[0].numel(), len(terms))  # autocast would round ``@``
            turn = self._matrix(room.dtype)
            return torch.mm(terms.flatten(1).T, turn.T, out=room).view(*x.shape, -1)
        found = found or self._on_cells(x, start, derivative, derivative)
        (base, splines), shape = found.functions[0], found.places.shape
        out = base.new_zeros(found.sizes)
        lines, size = out.flatten(1), (found.sizes[1] - self.degree) * shape[1]
        for number, spline in enumerate(splines.view(self.degree + 1, *shape).unbind()):
            lines.narrow(1, number * shape[1], size).scatter_(1, found.places, spline)
        if self.extrapolation == "base":
            out = out.narrow(1, self.degree - 1, self.n_functions)
        out.select(1, 0).copy_(base.view(shape))
        if shape == base.shape:
            return out.permute(2, 0, 1)
        return out.view(self.n_functions, *base.shape).permute(2, 1, 0)

    def traced_values(self, x: Tensor, start: int, derivative: int) -> Tensor:
        found = self._on_cells(x, start, derivative, derivative, traced=True)
        return self.values(x, start, derivative, found)

    def contract(self, grad: Tensor, x: Tensor, start: int, derivative: int) -> Tensor:
        found = self._on_cells(x, start, derivative, derivative)
        return self.pull(grad.permute(2, 1, 0), found)

    def values_and_contract(
        self, grad: Tensor, x: Tensor, start: int, derivative: int
    ) -> tuple[Tensor, Tensor]:
        found = self._on_cells(x, start, derivative, derivative + 1)
        values = self.values(x, start, derivative, found)
        return values, self.pull(grad.permute(2, 1, 0), found)

    def linearize(
        self, x: Tensor, functions_first: bool, wants_pull: bool
    ) -> tuple[Tensor, Tensor | None, _OnCells | Terms | None]:
        if self.grid_size <= MOST_CELLS and self._has_terms():
            terms, kept = self._terms(x.T.contiguous(), 0 if functions_first else 1)
            return terms, self._matrix(terms.dtype), kept
        found = self._on_cells(x, 0, 0, int(wants_pull), functions_first)
        features = self.values(x, 0, 0, found)
        features = features.permute((2, 1, 0) if functions_first else (1, 2, 0)).contiguous()
        del found.functions[0]
        return features, None, found if wants_pull else None

    def matrix_of_terms(self) -> Tensor | None:
        if self.grid_size > MOST_CELLS or not self._has_terms():
            return None
        return self._matrix(self.breaks.dtype)

    def terms(self, x: Tensor) -> Tensor:
        return self._terms(x, 1, constant=False)[0]

    def _has_terms(self) -> bool:
        """Whether few cells are the same for all inputs, without tails: sums of powers then."""
        shared = self.uniform and self.breaks.shape[0] == 1 and self.extrapolation != "base"
        return shared and self.breaks.is_cpu

    def _terms(self, x: Tensor, axis: int, constant: bool = True) -> tuple[Tensor, Terms]:
        """Terms of x (b, n), or (n, b) on an axis 1 between them, and what is kept of them."""
        breaks, k = self.breaks, self.degree
        if self.extrapolation == "error":
            check_inside(x, breaks[:, k, None], breaks[:, -k - 1, None])
        goes_on = self.extrapolation == "linear"
        return terms_of(x, self._shared_ends(), (self.grid_size, k), axis, goes_on, constant)

    def _matrix(self, dtype: torch.dtype) -> Tensor:
        return matrix(self.grid_size, self.degree, self._shared_ends().width, dtype)

    def _shared_ends(self) -> Ends:
        """Read from the knots once, for as long as they are these."""
        breaks, held, k = self.breaks, self._ends, self.degree
        version = 0 if breaks.is_inference() else breaks._version
        if held is None or held[0] is not breaks or held[1] != version:
            ends = Ends.of(breaks[0, k].item(), breaks[0, -k - 1].item(), self.grid_size)
            held = self._ends = breaks, version, ends
        return held[2]

    def in_cells(self, weights: Tensor) -> Tensor:
        """What edges are inside each cell, for ``at_cells``: (in_features, grid_size, m, out).

        Factors of silu, of 1, u, ..., u^k and, with extrapolation="linear", of how far x lies
        outside. Uniform grids of two cells or more.

        Parameters
        ----------
        weights : Tensor of shape (in_features, C, out)
        """
        splines = weights[:, 1:].unfold(1, self.degree + 1, 1)  # (in_features, cells, out, k + 1)
        silus = weights[:, :1, None].expand(-1, self.grid_size, 1, -1)
        parts = [silus, torch.einsum("igos,sj->igjo", splines, self.polynomials[0])]
        if self.extrapolation == "linear":
            slopes = self.evaluate(self.domain.T, derivative=1)
            parts.append(torch.zeros_like(silus))
            parts[2][:, [0, -1], 0] = torch.einsum("eic,ico->ieo", slopes, weights)
        return torch.cat(parts, 2)

    def at_cells(
        self, x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """What ``in_cells`` multiplies, (n, in_features, m), and the cell of each x.

        In NumPy, whose calls take a third of torch's; ``low`` and ``high`` are those of
        ``domain``. Without tails, extrapolation="base".
        """
        at = np.minimum(np.maximum(x, low), high)
        u = (at - low) / ((high - low) / self.grid_size)
        cell = np.minimum(np.maximum(u.astype(np.intp), 0), self.grid_size - 1)
        of_powers, is_continued = self.degree + 2, self.extrapolation == "linear"
        found = np.empty((*x.shape, of_powers + is_continued), x.dtype)
        found[..., 0] = torch.nn.functional.silu(torch.from_numpy(at)).numpy()
        found[..., 1], found[..., 2] = 1.0, u - cell
        for power in range(3, of_powers):
            np.multiply(found[..., power - 1], found[..., 2], out=found[..., power])
        if is_continued:
            found[..., -1] = x - at
        return found, cell

    def pull(self, grad: Tensor, kept: _OnCells | Terms) -> Tensor:
        if isinstance(kept, Terms):
            return pulled(grad, kept).T
        (lines, n_functions, step), (base, splines) = kept.sizes, kept.functions[-1]
        grad = grad.contiguous().view(lines, self.n_functions, step)
        of_silu = grad.select(1, 0).view_as(base)
        if self.extrapolation == "base":  # zeros for splines that do not exist
            of_splines = grad.narrow(1, 1, self.n_functions - 1)
            grad = grad.new_zeros(kept.sizes)
            grad.narrow(1, self.degree, self.n_functions - 1).copy_(of_splines)
        # The k + 1 windows begin one function after another; places are the same in all of them.
        sizes = lines, self.degree + 1, (n_functions - self.degree) * step
        windows = grad.as_strided(sizes, (n_functions * step, step, 1))
        of_cells = windows.gather(2, kept.places[:, None].expand(-1, self.degree + 1, -1))
        of_cells.mul_(splines.view(self.degree + 1, lines, step).transpose(0, 1))
        return of_cells.sum(1).view_as(base).addcmul_(of_silu, base).T

    def _on_cells(
        self,
        x: Tensor,
        start: int,
        first: int,
        last: int,
        functions_first: bool = True,
        traced: bool = False,
    ) -> _OnCells:
        """Orders first to last, in memory by spline, input and row: every pass is contiguous."""
        k, extrapolation, x = self.degree, self.extrapolation, x.T.contiguous()
        n_inputs, n = x.shape
        own, breaks, grid = slice(start, start + n_inputs), self.breaks, self._grid
        version = 0 if breaks.is_inference() else breaks._version
        if traced or grid is None or grid[0] is not breaks or grid[1] != version:
            low, high = breaks[:, k, None], breaks[:, -k - 1, None]
            grid = _Grid(breaks, version, low, high, (high - low) / self.grid_size, {})
            if x.is_cpu and not traced:  # a CUDA graph would read what is no longer held
                self._grid = grid
        low, high, width, tables = grid[2:]
        shared = self.uniform and len(breaks) == 1
        if len(breaks) > 1:
            low, high, width = low[own], high[own], width[own]
        if extrapolation == "error":
            check_inside(x, low, high)
        tails = k if extrapolation == "base" else 0  # cells on either side
        cells = -tails, self.grid_size - 1 + tails
        at = x if tails else x.maximum(low).minimum(high)  # on a CPU quicker than clamp
        powers = x.new_empty(k + 1, n_inputs, n)
        one, u, *higher = powers.unbind()
        one.fill_(1.0)
        if self.uniform:
            u = torch.sub(at, low, out=None if traced else u).div_(width)
            cell = (u.floor() if tails else u).long().clamp_(*cells)  # NaN became any integer
            u.sub_(cell)
        else:
            cell, left, width = self._own_cells(at, breaks[own], *cells)
            u = torch.sub(at, left, out=None if traced else u).div_(width)
        outside = None
        if tails:
            inside = u.clamp(0.0, 1.0)
            beyond = u.ne(inside)
            u.copy_(inside)
        elif traced or not (x.is_cpu and torch.equal(x, at)):  # a card would have to wait
            outside = x - at
        made = [one, u]
        for power in higher:
            made.append(torch.mul(made[-1], u, out=None if traced else power))
        if traced:
            powers = torch.stack(made)
        continued = outside is not None and extrapolation == "linear" and first == 0
        until = max(last, 1) if continued else last
        if not self.uniform:
            by_order = self._own_splines(own, cell, powers, range(first, until + 1))
        else:
            table = tables.get((first, until))
            if table is None:
                terms = [self.polynomials[0]]
                for _ in range(until):
                    slopes = (terms[-1] * torch.arange(k + 1, device=x.device)).roll(-1, 1)
                    terms.append(slopes / width if shared else slopes)
                table = tables[first, until] = torch.cat(terms[first:])
            room = None if traced else x.new_empty(len(table), x.numel())
            splines = torch.mm(table, powers.flatten(1), out=room)  # autocast would round ``@``
            by_order = splines.view(until - first + 1, k + 1, n_inputs, n).unbind()
        if traced:  # one of several views is not changed in place where there is a gradient
            by_order = tuple(splines.clone() for splines in by_order)
        functions: list[tuple[Tensor, Tensor]] = []
        base = None
        for m, splines in enumerate(by_order, first):
            base = silu(at, m, base) if m else torch.nn.functional.silu(at)
            if m and not shared:
                splines.div_(width**m)
            if tails:
                splines.masked_fill_(beyond, 0.0)
            elif outside is not None and m > (extrapolation == "linear"):
                base.masked_fill_(outside != 0, 0.0)
                splines.masked_fill_(outside != 0, 0.0)
            functions.append((base, splines))
        if outside is not None and continued:
            (base, splines), (of_silu, of_splines) = functions[:2]
            if traced:  # silu's slope keeps silu for a gradient
                functions[0] = base.addcmul(outside, of_silu), splines.addcmul(outside, of_splines)
            else:
                base.addcmul_(outside, of_silu)
                splines.addcmul_(outside, of_splines)
        before = tails or 1
        lines, step = (1, n_inputs * n) if functions_first else (n_inputs, n)
        sizes = lines, before + self.n_functions - 1 + tails, step
        places = torch.arange(before * step, (before + 1) * step, device=x.device)
        places = places.add(cell.view(lines, step), alpha=step)
        return _OnCells(sizes, places, functions[: last - first + 1])

    def _own_cells(
        self, x: Tensor, breaks: Tensor, first: int, last: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cells of knots of each input's own, their left ends and widths, (b, n) each."""
        k = self.degree
        inner = breaks[:, first + 1 + k : last + 1 + k]
        if inner.shape[1] > _COUNTED:
            below = torch.searchsorted(inner.contiguous(), x, right=True)
        else:
            count = torch.zeros_like(x, dtype=torch.uint8)
            for knot in inner.T:
                count += x >= knot[:, None]
            below = count.long()
        breaks, cell = breaks.contiguous(), below.add_(first)
        rows = torch.arange(k, breaks.numel(), breaks.shape[1], device=x.device)
        index = cell + rows[:, None]
        left, right = breaks.take(index), breaks.view(-1)[1:].take(index)
        return cell, left, right.sub_(left)

    def _own_splines(
        self, own: slice, cell: Tensor, powers: Tensor, orders: range
    ) -> tuple[Tensor, ...]:
        """Polynomials of which every input has its own: of each order (k + 1, b, n)."""
        table = self.polynomials[own]  # (b, cells, k + 1, powers)
        n_inputs, n_cells = table.shape[:2]
        first = torch.arange(0, n_inputs * n_cells, n_cells, device=cell.device) + self.degree
        index = (cell + first[:, None]).view(1, -1).expand(self.degree + 1, -1)
        by_order = tuple(torch.zeros_like(powers) for _ in orders)
        by_power = table.flatten(0, 1).permute(2, 1, 0)
        for r in range(orders[0], self.degree + 1):
            coefficients = by_power[r].gather(1, index).view_as(powers)
            for m, splines in zip(orders, by_order, strict=True):
                if m <= r:
                    splines.addcmul_(coefficients, powers[r - m], value=perm(r, m))
        return by_order


def spline_knots(knots: ArrayLike, in_features: int, grid_size: int, degree: int) -> Array:
    """All knots that splines of degree k need, 2 k + 1 of them beyond either end.

    Those beyond are as far apart as the cells at the ends.

    Raises ValueError if the shape is another one.

    Parameters
    ----------
    knots : (float, float) or array
        The ends of a uniform grid, (2,) or (in_features, 2), or all knots of each input,
        (in_features, grid_size + 1).

    Returns
    -------
    ndarray of shape (1 or in_features, grid_size + 1 + 2 (2 k + 1))
    """
    given = np.asarray(knots, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # the basis refuses what is not finite
        if given.shape in ((2,), (in_features, 2)):
            ends = np.atleast_2d(given)
            grid = np.linspace(ends[:, 0], ends[:, 1], grid_size + 1, axis=1)
        elif given.shape == (in_features, grid_size + 1):
            grid = given
        else:
            raise ValueError(
                "knots must be the two ends of a uniform grid, or have the shape (in_features, 2) "
                f"or (in_features, grid_size + 1) = {(in_features, grid_size + 1)}, "
                f"got shape {given.shape}."
            )
        steps = np.arange(1, 2 * degree + 2)
        first = grid[:, :1] - steps[::-1] * (grid[:, 1:2] - grid[:, :1])
        last = grid[:, -1:] + steps * (grid[:, -1:] - grid[:, -2:-1])
        return np.concatenate([first, grid, last], axis=1)
