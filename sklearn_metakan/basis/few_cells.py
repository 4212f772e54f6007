"""Splines on a few uniform cells, as sums of powers: no cell is looked for.

With t in cells from the middle of the grid, silu and every spline of degree k are sums of silu(x),
t, ..., t^k, a power for each knot c between cells, ``max(t - c, 0)^k`` above the middle and
``min(t - c, 0)^k`` below it, and 1. These terms are as many as the functions. Powers from both
sides keep digits that powers from one end would lose: on five cells of degree 3, sums have 20 times
the rounding of splines. Beyond the grid each term goes on along its slope there, or stays as it is
at the end.
"""

from functools import cache
from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis.base import silu
from sklearn_metakan.basis.knots import Array, uniform_cell

FEW, MOST, MOST_DEGREE = 2, 5, 3  # cells of any degree, and cells of at most this one


def has_terms(grid_size: int, degree: int, dtype: torch.dtype) -> bool:
    """Whether sums of powers have the digits of splines, but for one or two."""
    several = grid_size <= MOST and degree <= MOST_DEGREE and dtype.itemsize >= 4
    return grid_size <= FEW or several


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
    k, cell, middle = degree, uniform_cell(degree), (grid_size - 1) // 2
    found = np.zeros((1 + grid_size + k, 1 + grid_size + k))
    found[0, 0] = 1.0
    shift = grid_size / 2 - middle  # of the local coordinate there, against t
    binomials = [[comb(r, j) * shift ** max(r - j, 0) for j in range(k + 1)] for r in range(k + 1)]
    found[1 + middle : 2 + middle + k, [-1, *range(1, k + 1)]] = cell @ np.array(binomials)
    for knot in range(1, grid_size):  # how much more of t^k there is beyond it
        outward = 1 if knot > middle else -1
        found[1 + knot : 2 + knot + k, k + knot] += outward * cell[:, k]
        found[knot : 1 + knot + k, k + knot] -= outward * cell[:, k]
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


@cache
def inner_knots(grid_size: int, dtype: torch.dtype) -> Tensor:
    """Knots between cells, as t, on the CPU."""
    with torch.inference_mode(False):
        return torch.arange(1, grid_size, dtype=dtype) - grid_size / 2


class Terms(NamedTuple):
    """What of x (b, n) is kept for the way back.

    ``axis`` of the terms is 0 in (C, b, n), 1 in (b, C, n). ``powers`` are t, ..., t^(k - 1) at x
    held at the ends of the grid, ``of_knots`` their likes for each knot, ``slope`` is silu's.
    ``still`` says where nothing moves, beyond the grid.
    """

    axis: int
    degree: int
    width: float
    powers: list[Tensor]
    of_knots: Tensor | None
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
    t = (at - middle).div_(width) if middle else at / width
    n_terms = cells + k + constant
    shape = (len(x), n_terms, x.shape[1]) if axis else (n_terms, *x.shape)
    room, further, still = x.new_empty(shape), None, None
    base, *places = room.narrow(axis, 0, k + 1).unbind(axis)
    if constant:
        room.select(axis, -1).fill_(1.0)
    value = torch.nn.functional.silu(at)
    slope = silu(at, 1, value)
    if goes_on:
        further = x - at
        torch.addcmul(value, further, slope, out=base)
        further.div_(width)
    else:
        base.copy_(value)
        still = x != at
    powers = [t]
    for r, place in enumerate(places, 1):
        moved = t if further is None else torch.add(t, further, alpha=r)
        if r == 1:
            place.copy_(moved)
        else:
            torch.mul(powers[-1], moved, out=place)
            if r < k:
                powers.append(powers[-1] * t)
    of_knots = None
    if cells > 1:
        of_knots = _of_knots(t, further, k, axis, room.narrow(axis, k + 1, cells - 1))
    return room, Terms(axis, k, width, powers, of_knots, slope, still)


def _of_knots(t: Tensor, further: Tensor | None, k: int, axis: int, place: Tensor) -> Tensor:
    """``d^k`` with d from each knot to t, on one side of it, into ``place``; returns d^(k - 1)."""
    knots = inner_knots(place.shape[axis] + 1, t.dtype)
    below = len(knots) // 2
    if below:
        d = t.unsqueeze(axis) - knots.view(-1, *(1,) * (2 - axis))
        d.narrow(axis, 0, below).clamp_max_(0.0)
        d.narrow(axis, below, len(knots) - below).clamp_min_(0.0)
    else:
        d = t.clamp_min(0.0).unsqueeze(axis)
    one = d.sign().abs_() if k == 1 else d if k == 2 else d.square() if k == 3 else d ** (k - 1)
    moved = d if further is None else torch.add(d, further.unsqueeze(axis), alpha=k)
    torch.mul(one, moved, out=place)
    return one


def pulled(grad: Tensor, kept: Terms) -> Tensor:
    """``sum_r grad_r T_r'(x)``, (b, n), from the gradient of the terms."""
    axis, k, width, powers, of_knots, slope, still = kept
    of_silu, found, *higher = grad.narrow(axis, 0, k + 1).unbind(axis)
    for r, (of_power, power) in enumerate(zip(higher, powers, strict=False), 2):
        found = torch.addcmul(found, of_power, power, value=r)
    if of_knots is not None:
        if of_knots.shape[axis] == 1:
            of_power = grad.select(axis, k + 1)
            found = torch.addcmul(found, of_power, of_knots.squeeze(axis), value=k)
        else:
            own = (grad.narrow(axis, k + 1, of_knots.shape[axis]) * of_knots).sum(axis)
            found = torch.add(found, own, alpha=k)
    found = (found / width).addcmul_(of_silu, slope)
    return found if still is None else found.masked_fill_(still, 0.0)
