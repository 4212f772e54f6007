"""Splines on one or two uniform cells, as sums of powers: no cell is looked for.

With t in cells from the middle of the grid, silu and every spline of degree k are sums of silu(x),
t, ..., t^k, on two cells ``max(t, 0)^k``, and 1. These terms are as many as the functions; on more
cells such sums would lose digits. Beyond the grid each goes on along its slope there, or stays as
it is at the end.
"""

from functools import cache
from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis.knots import Array, uniform_cell

MOST_CELLS = 2


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


@cache
def matrix(grid_size: int, degree: int, dtype: torch.dtype) -> Tensor:
    """``from_terms`` on the CPU."""
    with torch.inference_mode(False):
        return torch.tensor(from_terms(grid_size, degree), dtype=dtype)


class Ends(NamedTuple):
    """Of a grid that all inputs share: its ends, its middle, and the width of a cell."""

    low: float
    high: float
    middle: float
    width: float


class Terms(NamedTuple):
    """What of x (b, n) is kept for the way back.

    ``axis`` of the terms is 0 in (C, b, n), 1 in (b, C, n). ``powers`` are t, ..., t^(k - 1) at x
    held at the ends of the grid, ``above`` is ``max(t, 0)^(k - 1)``, ``slope`` is silu's. ``still``
    says where nothing moves, beyond the grid.
    """

    axis: int
    degree: int
    width: float
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
    (low, high, middle, width), (cells, k) = ends, sizes
    at = x.clamp(low, high)
    t = _in_cells(at, middle, width)
    n_terms = cells + k + constant
    shape = (len(x), n_terms, x.shape[1]) if axis else (n_terms, *x.shape)
    room, still = x.new_empty(shape), None
    base, *places = room.narrow(axis, 0, k + 1).unbind(axis)
    if constant:
        room.select(axis, -1).fill_(1.0)
    sigmoid = at.sigmoid()
    value = at * sigmoid
    slope = torch.addcmul(sigmoid, value, 1 - sigmoid)
    moved = far = t
    if goes_on:
        far = _in_cells(x, middle, width)
        torch.addcmul(value, x - at, slope, out=base)
    else:
        base.copy_(value)
        still = x != at
    # Of t^r, t^(r - 1) (t + r (far - t)): beyond the grid along the slope at its end.
    powers = [t]
    places[0].copy_(far)
    for r in range(2, k + 1):
        moved = torch.lerp(t, far, r) if goes_on else t
        torch.mul(powers[-1], moved, out=places[r - 1])
        if r < k:
            powers.append(powers[-1] * t)
    above = None
    if cells == 2:
        upper = t.clamp_min(0.0)
        above = upper.sign() if k == 1 else upper if k == 2 else upper ** (k - 1)
        torch.mul(above, far if k == 1 else moved, out=room.select(axis, k + 1))
    return room, Terms(axis, k, width, powers, above, slope, still)


def pulled(grad: Tensor, kept: Terms) -> Tensor:
    """``sum_r grad_r T_r'(x)``, (b, n), from the gradient of the terms."""
    axis, k, width, powers, above, slope, still = kept
    of_silu, found, *higher = grad.narrow(axis, 0, k + 1).unbind(axis)
    for r, (of_power, power) in enumerate(zip(higher, powers, strict=False), 2):
        found = torch.addcmul(found, of_power, power, value=r)
    if above is not None:
        found = torch.addcmul(found, grad.select(axis, k + 1), above, value=k)
    if width != 1:
        found = found / width
    found = torch.addcmul(found, of_silu, slope)
    return found if still is None else found.masked_fill_(still, 0.0)


def _in_cells(x: Tensor, middle: float, width: float) -> Tensor:
    """x in cells from the middle; where cells have the width 1 around 0, x itself."""
    x = x - middle if middle else x
    return x if width == 1 else x / width
