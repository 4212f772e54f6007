"""Splines of few cells from truncated powers: without a scatter, which a CPU is slow at.

On a uniform grid of G cells, with v the distance from the middle of a cell near the centre, in
cells, the splines of degree k span ``1, v, ..., v^k`` and, for each of the G - 1 inner knots t,
``max(v - t, 0)^k`` on the right of that cell or ``min(v - t, 0)^k`` on its left. These are as
many functions as splines, B = S^T phi with one small matrix S, and each takes a few passes
over contiguous memory. Powers are counted from the centre, so that for few cells none of them is
large and no digits are lost. The naive twin is ``BSplineBasis`` with its local splines.

Source: Schumaker, "Spline Functions: Basic Theory" (1981), section 4.2.
"""

from functools import cache
from math import perm
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis._base import check_inside, flat_beyond
from sklearn_metakan.basis._knots import Array, cell_polynomials
from sklearn_metakan.basis._silu import silu

LARGEST_POWER = 32  # v^k at the ends of the grid; in float32 splines are exact to some 1e-6


class _Place(NamedTuple):
    """Where x (b, n) lies, input by input; all contiguous."""

    x: Tensor  # the nearest number on the grid
    v: Tensor
    beyond: tuple[Tensor, Tensor] | None  # where x is another number: flat indices, differences
    per_unit: Tensor  # cells per unit of x: (1, 1), (b, 1), or as x


def spans(grid_size: int, degree: int, derivative: int) -> bool:
    """Whether derivatives up to this order may be computed so, beyond the grid included."""
    farthest = grid_size - _centre(grid_size) - 0.5
    return derivative < degree > 1 and farthest**degree <= LARGEST_POWER


class TruncatedPowers:
    """silu, powers and truncated powers phi on the grids of some inputs, where they ``span``.

    ``values`` and the ways back are those of a ``Basis`` of these functions.

    Parameters
    ----------
    low, high : Tensor of shape (1, 1) or (in_features, 1)
        Ends of the grids.
    grid_size, degree : int
    extrapolation : {"linear", "constant", "error"}
    """

    def __init__(
        self, low: Tensor, high: Tensor, grid_size: int, degree: int, extrapolation: str
    ) -> None:
        self.low, self.high = low, high
        self.grid_size, self.degree, self.extrapolation = grid_size, degree, extrapolation
        self.n_functions = 1 + grid_size + degree
        self.numbers_per_value = 3 * self.n_functions + 16  # measured

    @property
    def matrix(self) -> Tensor:
        """S (C, C) with B = S^T phi, silu first on both sides."""
        return torch.tensor(_matrix(self.grid_size, self.degree), dtype=self.low.dtype)

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
        """(n, b, C), in memory (C, b, n)."""
        return self._functions(place, derivative).permute(2, 1, 0)

    def _contract(self, grad: Tensor, place: _Place, derivative: int) -> Tensor:
        functions = self._functions(place, derivative).unbind()
        result = functions[0].mul_(grad[..., 0].T)
        for function, of_function in zip(functions[1:], grad.unbind(-1)[1:], strict=True):
            result.addcmul_(function, of_function.T)
        return result.T

    def _locate(self, x: Tensor, start: int) -> _Place:
        x = x.T.contiguous()
        rows = slice(0, 1) if len(self.low) == 1 else slice(start, start + len(x))
        low, high = self.low[rows], self.high[rows]
        if self.extrapolation == "error":
            check_inside(x, low, high)
        width = (high - low) / self.grid_size
        middle = low + (_centre(self.grid_size) + 0.5) * width
        if len(low) == 1:  # numbers are quicker than tensors of one
            inside = x.clamp(float(low), float(high))
            v = (inside - float(middle)).mul_(float(1 / width))
        else:
            inside = x.clamp(low, high)
            v = (inside - middle).div_(width)
        beyond = None
        if not torch.equal(x, inside):
            differences = (x - inside).view(-1)
            where = differences.nonzero()[:, 0]
            beyond = where, differences[where]
        return _Place(inside, v, beyond, 1 / width)

    def _functions(self, place: _Place, derivative: int) -> Tensor:
        """(C, b, n), continued outside the grid."""
        functions = self._inside(place, derivative)
        if place.beyond is not None:
            where, difference = place.beyond
            flat = functions.view(self.n_functions, -1)
            if flat_beyond(self.extrapolation, derivative):
                flat.index_fill_(1, where, 0.0)
            elif derivative == 0 and self.extrapolation == "linear":
                x, v = (t.view(-1)[where][None] for t in (place.x, place.v))
                per_unit = place.per_unit.expand_as(place.x).reshape(-1)[where][None]
                slopes = self._inside(_Place(x, v, None, per_unit), 1)[:, 0]
                flat.index_add_(1, where, slopes.mul_(difference))
        return functions

    def _inside(self, place: _Place, derivative: int) -> Tensor:
        x, v, m, k = place.x, place.v, derivative, self.degree
        made = v.new_empty(self.n_functions, *v.shape)
        made[0] = silu(x, m)
        powers, truncated = made[1 : k + 2], made[k + 2 :]
        powers[:m].zero_()
        scale = place.per_unit**m
        powers[m] = perm(m, m) * scale
        for j in range(m + 1, k + 1):
            torch.mul(powers[j - 1], v, out=powers[j])
            if m:
                powers[j].mul_(j / (j - m))
        centre = _centre(self.grid_size)
        room = torch.empty_like(v)
        for number, function in enumerate(truncated):  # one at a time stays in the caches
            torch.sub(v, number - centre + 0.5, out=function)
            function.clamp_(*((None, 0.0) if number < centre else (0.0, None)))
            _raise(function, k - m, room)
            if m:
                function.mul_(perm(k, m) * scale)
        return made


def _raise(base: Tensor, exponent: int, room: Tensor) -> None:
    """To a power of 1 or more, in place."""
    if exponent > 1:
        power = torch.mul(base, base, out=room)
        for _ in range(exponent - 3):
            power.mul_(base)
        torch.mul(base, power if exponent > 2 else base, out=base)


def _centre(grid_size: int) -> int:
    """The cell from whose middle v is counted."""
    return (grid_size - 1) // 2


@cache
def _matrix(grid_size: int, degree: int) -> Array:
    k, centre = degree, _centre(grid_size)
    cell = cell_polynomials(np.arange(2.0)[None], k)[0, k]  # spline a of a cell, powers of u
    leading = np.zeros((grid_size + 2, grid_size + k))  # coefficient of u^k, cell by cell
    for c in range(grid_size):
        leading[c + 1, c : c + k + 1] = cell[:, k]
    jumps = np.diff(leading[1:-1], axis=0)  # at the inner knots
    jumps[:centre] *= -1
    matrix = np.zeros((1 + grid_size + k, 1 + grid_size + k))
    matrix[0, 0] = 1.0
    for a, polynomial in enumerate(cell):  # u = v + 1 / 2
        shifted = np.polynomial.Polynomial(polynomial)(np.polynomial.Polynomial([0.5, 1.0]))
        matrix[1 : len(shifted.coef) + 1, 1 + centre + a] = shifted.coef
    matrix[k + 2 :, 1:] = jumps
    return matrix
