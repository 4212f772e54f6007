"""Splines on one or two uniform cells, as sums of powers: no cell is looked for.

With t from the middle of the grid, silu and every spline of degree k are sums of silu(x), t, ...,
t^k, on two cells ``max(t, 0)^k``, and 1. These terms are as many as the functions; on more cells
such sums would lose digits. Beyond the grid each goes on along its slope there, or stays as it is
at the end.

t is in cells, or as it is where they are neither small nor large: that is two operations less.
"""

from functools import cache, lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis.knots import Array, uniform_cell

MOST_CELLS = 2
_USUAL = 2.0**-4, 2.0**4  # widths of cells that are no unit: no power of t is large or small by it


@cache
def from_terms(grid_size: int, degree: int) -> Array:
    """Functions from terms, (C, C) with C = 1 + grid_size + degree.

    Examples
    --------
    >>> from_terms(2, 1)  # of the cell below the middle, where t runs from -1 to 0, and above
    array([[ 1.,  0.,  0.,  0.],
           [ 0., -1.,  1.,  0.],
           [ 0.,  1., -2.,  1.],
           [ 0.,  0.,  1.,  0.]])
    """
    k, cell, shift = degree, uniform_cell(degree), grid_size / 2
    found = np.zeros((1 + grid_size + k, 1 + grid_size + k))
    found[0, 0] = 1.0
    # t is the first cell's local coordinate, less this shift.
    binomials = [[comb(r, j) * shift ** max(r - j, 0) for j in range(k + 1)] for r in range(k + 1)]
    found[1 : 2 + k, [-1, *range(1, k + 1)]] = cell @ np.array(binomials)
    if grid_size == 2:
        found[2:, k + 1] += cell[:, k]  # how much more of t^k there is above the middle
        found[1:-1, k + 1] -= cell[:, k]
    return found


class Ends(NamedTuple):
    """Of a grid that all inputs share: ends and middle, the unit of t, and a cell's width in it.

    Examples
    --------
    >>> Ends.of(-3.0, 3.0, 2)
    Ends(low=-3.0, high=3.0, middle=0.0, unit=1.0, width=3.0)
    >>> Ends.of(0.0, 2000.0, 2)
    Ends(low=0.0, high=2000.0, middle=1000.0, unit=1000.0, width=1.0)
    """

    low: float
    high: float
    middle: float
    unit: float
    width: float

    @classmethod
    def of(cls, low: float, high: float, cells: int) -> "Ends":
        width = (high - low) / cells
        unit = 1.0 if _USUAL[0] <= width <= _USUAL[1] else width
        return cls(low, high, (low + high) / 2, unit, width / unit)


@lru_cache(64)
def matrix(grid_size: int, degree: int, width: float, dtype: torch.dtype) -> Tensor:
    """``from_terms`` on the CPU, of t in which cells are so wide."""
    powers = np.array([0, *range(1, degree + 1), *[degree] * (grid_size - 1), 0])
    with torch.inference_mode(False):
        return torch.tensor(from_terms(grid_size, degree) / width**powers, dtype=dtype)


class Terms(NamedTuple):
    """What of x (b, n) is kept for the way back.

    ``axis`` of the terms is 0 in (C, b, n), 1 in (b, C, n). ``powers`` are t, ..., t^(k - 1) at x
    held at the ends of the grid, ``above`` is ``max(t, 0)^(k - 1)``, ``slope`` is silu's. ``still``
    says where nothing moves, beyond the grid.
    """

    axis: int
    degree: int
    unit: float
    powers: list[Tensor]
    above: Tensor | None
    slope: Tensor
    still: Tensor | None


def terms_of(
    x: Tensor,
    ends: Ends,
    sizes: tuple[int, int],
    axis: int,
    goes_on: bool,
    constant: bool = True,
) -> tuple[Tensor, Terms]:
    """Terms of x (b, n), without 1 if there is to be no ``constant``, and what is kept of them.

    ``sizes`` are cells and degree.
    """
    (low, high, middle, unit, _), (cells, k) = ends, sizes
    at = x.clamp(low, high)
    t = _in_units(at, middle, unit)
    n_terms = cells + k + constant
    rows, columns = x.shape
    room = x.new_empty((rows, n_terms, columns) if axis else (n_terms, rows, columns))
    base, *places = room.unbind(axis)
    if constant:
        places[-1].fill_(1.0)
    sigmoid = at.sigmoid()
    value = at * sigmoid
    slope = torch.lerp(value, x.new_ones(()), sigmoid)
    moved, still = t, None
    if goes_on:
        past = x - at
        torch.addcmul(value, past, slope, out=base)
        places[0].copy_(_in_units(x, middle, unit))
        past = past if unit == 1 else past / unit
    else:
        base.copy_(value)
        places[0].copy_(t)
        still = x != at
    # Of t^r, t^(r - 1) (t + r past): beyond the grid along the slope at its end.
    powers = [t]
    for r in range(2, k + 1):
        moved = torch.add(t, past, alpha=r) if goes_on else t
        torch.mul(powers[-1], moved, out=places[r - 1])
        if r < k:
            powers.append(powers[-1] * t)
    above = None
    if cells == 2:
        upper = t.clamp_min(0.0)
        above = upper.sign() if k == 1 else upper if k == 2 else upper ** (k - 1)
        torch.mul(above, places[0] if k == 1 else moved, out=places[k])
    return room, Terms(axis, k, unit, powers, above, slope, still)


def pulled(grad: Tensor, kept: Terms) -> Tensor:
    """``sum_r grad_r T_r'(x)``, (b, n), from the gradient of the terms."""
    axis, k, unit, powers, above, slope, still = kept
    of_silu, found, *higher = grad.unbind(axis)
    if above is not None:
        found = torch.addcmul(found, higher[k - 1], above, value=k)
    for r, (of_power, power) in enumerate(zip(higher[: k - 1], powers, strict=False), 2):
        found = torch.addcmul(found, of_power, power, value=r)
    if unit != 1:
        found = found / unit
    found = torch.addcmul(found, of_silu, slope)
    return found if still is None else found.masked_fill_(still, 0.0)


def _in_units(x: Tensor, middle: float, unit: float) -> Tensor:
    """x from the middle; where that is 0 and the unit 1, x itself."""
    x = x - middle if middle else x
    return x if unit == 1 else x / unit
