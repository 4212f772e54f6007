"""Sums of splines of few cells from truncated powers: without a scatter, which a CPU is slow at.

On a uniform grid of G cells, with v the distance from the middle of a cell near the centre, in
cells, the splines of degree k span ``1, v, ..., v^k`` and, for each of the G - 1 inner knots t,
``max(v - t, 0)^k`` on the right of that cell or ``min(v - t, 0)^k`` on its left. These are as
many functions as splines, B = S^T phi with one small matrix S, and each takes a few passes
over contiguous memory. Powers are counted from the centre, so that for few cells none of them is
large and few digits are lost. Beyond the grid they keep the value of its end; what a linear
continuation adds has functions of its own, so that numbers far away do not drown the others.
The naive twin is ``BSplineBasis`` with its local splines.

Source: Schumaker, "Spline Functions: Basic Theory" (1981), section 4.2.
"""

from functools import cache
from math import perm
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis._base import Located, check_inside, flat_beyond
from sklearn_metakan.basis._knots import Array, uniform_cell
from sklearn_metakan.basis._silu import silu

LARGEST_POWER = 16  # v^k at the ends of the grid; in float32 splines are exact to some 1e-6


class _Place(NamedTuple):
    """Where x (b, n) lies, input by input; all contiguous."""

    x: Tensor  # the nearest number on the grid
    v: Tensor
    beyond: Tensor | None  # in x, with its sign; None where nothing is
    low: Tensor  # ends of the grids, (1, 1) or (b, 1)
    high: Tensor
    per_unit: Tensor  # cells per unit of x, likewise


def spans(grid_size: int, degree: int, derivative: int) -> bool:
    """Whether derivatives up to this order may be computed so, beyond the grid included."""
    farthest = grid_size - _centre(grid_size) - 0.5
    return derivative < degree > 1 and farthest**degree <= LARGEST_POWER


class TruncatedPowers(Located[_Place]):
    """silu, powers, truncated powers and tails phi on the grids of some inputs.

    For sums ``D^T B`` alone, with D (C, p): they are ``own_dictionary(D)^T phi``.

    Parameters
    ----------
    low, high : Tensor of shape (1, 1) or (in_features, 1)
        Ends of the grids.
    grid_size, degree : int
        For which it ``spans``.
    extrapolation : {"linear", "constant", "error"}
    """

    def __init__(
        self, low: Tensor, high: Tensor, grid_size: int, degree: int, extrapolation: str
    ) -> None:
        self.low, self.high = low, high
        self.grid_size, self.degree, self.extrapolation = grid_size, degree, extrapolation
        matrix = _matrix(grid_size, degree, extrapolation == "linear")
        self.matrix = torch.tensor(matrix, dtype=low.dtype, device=low.device)  # S
        self.n_functions, self._n_inside = len(matrix), 1 + grid_size + degree
        self._to_centre = _centre(grid_size) + 0.5  # from the lower end, in cells
        self.numbers_per_value = 3 * self.n_functions + 12  # measured
        self._reached = (float("inf"), -float("inf"))  # the smallest and the largest v so far

    def own_dictionary(self, dictionary: Tensor) -> Tensor:
        """S D."""
        return self.matrix.to(dictionary.dtype) @ dictionary

    def dictionary_gradient(self, gradient: Tensor) -> Tensor:
        """D's gradient (C, p) from that of S D, after ``values`` at all x that it comes from.

        Exactly zero for splines that no x has reached: what is left of large sums would not be,
        and Adam would make steps of it.
        """
        found = self.matrix.T.to(gradient.dtype) @ gradient
        splines = torch.arange(self.grid_size + self.degree, device=found.device)
        starts = splines - self._to_centre - self.degree  # in v
        smallest, largest = self._reached
        found[1:][(starts > largest) | (starts + self.degree + 1 < smallest)] = 0.0
        return found

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
        per_unit = self.grid_size / (high - low)
        shared = len(low) == 1  # then numbers are quicker than tensors
        v = x - (float(low) if shared else low)
        v.mul_(float(per_unit) if shared else per_unit).sub_(self._to_centre)
        smallest, largest = map(float, v.aminmax()) if v.numel() else (0.0, 0.0)
        within = -self._to_centre <= smallest and largest <= self.grid_size - self._to_centre
        inside = x if within else x.clamp(low, high)
        if not within:
            v.clamp_(-self._to_centre, self.grid_size - self._to_centre)
        self._reach(smallest, largest)
        return _Place(inside, v, None if within else x - inside, low, high, per_unit)

    def _reach(self, smallest: float, largest: float) -> None:
        """NaN reaches everything."""
        before = self._reached
        self._reached = (
            smallest if not smallest >= before[0] else before[0],
            largest if not largest <= before[1] else before[1],
        )

    def _functions(self, place: _Place, derivative: int) -> Tensor:
        """phi (phi, b, n), continued outside the grid."""
        made = place.v.new_empty(self.n_functions, *place.v.shape)
        inside, tails = made[: self._n_inside], made[self._n_inside :]
        self._inside(inside, place, derivative)
        if place.beyond is None:
            tails.zero_()
        else:
            self._beyond(inside, tails, place, place.beyond, derivative)
        return made

    def _beyond(
        self, inside: Tensor, tails: Tensor, place: _Place, beyond: Tensor, derivative: int
    ) -> None:
        """Powers stay what they are at the end, silu goes on by itself, splines by the tails."""
        outside = (beyond < 0) | (beyond > 0)
        if derivative:
            inside[1:].masked_fill_(outside, 0.0)
        if flat_beyond(self.extrapolation, derivative):
            inside[0].masked_fill_(outside, 0.0)
        elif derivative == 0 and self.extrapolation == "linear":
            low_slope, high_slope = silu(place.low, 1), silu(place.high, 1)
            inside[0].addcmul_(beyond, torch.where(beyond < 0, low_slope, high_slope))
        sides = (beyond.clamp(max=0.0), beyond.clamp(min=0.0))
        for tail, side in zip(tails, sides, strict=False):
            if derivative > 1:
                tail.zero_()
            else:
                torch.mul(place.per_unit, side if derivative == 0 else side != 0, out=tail)

    def _inside(self, made: Tensor, place: _Place, derivative: int) -> None:
        """silu, powers and truncated powers at ``place.x``."""
        v, m, k = place.v, derivative, self.degree
        made[0] = silu(place.x, m)
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
def _matrix(grid_size: int, degree: int, with_tails: bool) -> Array:
    """S (phi, C) with B = S^T phi, silu first on both sides; the last phi are the tails."""
    k, centre = degree, _centre(grid_size)
    cell = uniform_cell(k)  # spline a, powers of u
    leading = np.zeros((grid_size, grid_size + k))  # coefficient of u^k, cell by cell
    for c in range(grid_size):
        leading[c, c : c + k + 1] = cell[:, k]
    jumps = np.diff(leading, axis=0)  # at the inner knots
    jumps[:centre] *= -1
    matrix = np.zeros((1 + grid_size + k + 2 * with_tails, 1 + grid_size + k))
    matrix[0, 0] = 1.0
    for a, polynomial in enumerate(cell):  # u = v + 1 / 2
        shifted = np.polynomial.Polynomial(polynomial)(np.polynomial.Polynomial([0.5, 1.0]))
        matrix[1 : len(shifted.coef) + 1, 1 + centre + a] = shifted.coef
    matrix[k + 2 : 1 + grid_size + k, 1:] = jumps
    if with_tails:  # slopes at the ends
        matrix[-2, 1 : k + 2] = cell[:, 1]
        matrix[-1, -k - 1 :] = cell @ np.arange(k + 1)
    return matrix
