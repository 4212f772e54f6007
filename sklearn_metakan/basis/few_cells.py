"""Splines on one or two uniform cells, as sums of powers: no cell is looked for.

With t in cells from the middle knot (of one cell, from its lower end), silu and every spline of
degree k are sums of silu(x), 1, t, ..., t^k and, on two cells, ``max(t, 0)^k``. These terms are as
many as the functions; on more cells such sums would lose digits. Beyond the grid each goes on along
its slope there, or stays as it is at the end.
"""

from functools import cache
from math import comb
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.basis.base import silu
from sklearn_metakan.basis.knots import Array, uniform_cell

MOST_CELLS = 2


@cache
def from_terms(grid_size: int, degree: int) -> Array:
    """Functions from terms, (C, C) with C = 1 + grid_size + degree.

    Examples
    --------
    >>> from_terms(1, 1)
    array([[ 1.,  0.,  0.],
           [ 0.,  1., -1.],
           [ 0.,  0.,  1.]])
    """
    k, cell = degree, uniform_cell(degree)
    found = np.zeros((1 + grid_size + k, 1 + grid_size + k))
    found[0, 0] = 1.0
    if grid_size == 1:
        found[1:, 1:] = cell
        return found
    binomials = [[comb(r, j) for j in range(k + 1)] for r in range(k + 1)]
    found[1:-1, 1:-1] = cell @ np.array(binomials)  # what they are below the middle
    found[2:, -1] += cell[:, k]  # and how much more of t^k above it
    found[1:-1, -1] -= cell[:, k]
    return found


@cache
def matrix(grid_size: int, degree: int, dtype: torch.dtype) -> Tensor:
    """``from_terms`` on the CPU."""
    with torch.inference_mode(False):
        return torch.tensor(from_terms(grid_size, degree), dtype=dtype)


class Terms(NamedTuple):
    """What of x (b, n) is kept for the way back.

    ``matrix`` gives functions from terms; the functions' ``axis`` is 0 in features (C, b, n), 1 in
    (b, C, n), 2 in (b, n, C). ``t`` and ``slope``, that of silu, are of x held at the ends of the
    grid. ``still`` says where nothing moves, beyond it.
    """

    matrix: Tensor
    axis: int
    degree: int
    width: Tensor
    t: Tensor
    slope: Tensor
    still: Tensor | None


def linearized(
    x: Tensor, low: Tensor, high: Tensor, matrix: Tensor, degree: int, axis: int, goes_on: bool
) -> tuple[Tensor, Terms]:
    """Features of x (b, n) on a grid from low to high, and what is kept of them.

    Those with functions last are in one piece, and have no way back.
    """
    k, cells = degree, len(matrix) - 1 - degree
    at, width = x.maximum(low).minimum(high), (high - low) / cells  # on a CPU quicker than clamp
    t = at.sub(low).div_(width)
    if cells == 2:
        t.sub_(1.0)
    shape = (len(x), len(matrix), x.shape[1]) if axis == 1 else (len(matrix), *x.shape)
    room, further, still = x.new_empty(shape), None, None
    base, one, *powers = room.unbind(axis % 2)
    value = torch.nn.functional.silu(at)
    slope = silu(at, 1, value)
    if goes_on:
        outside = x - at
        further = outside / width
        torch.addcmul(value, outside, slope, out=base)
    else:
        base.copy_(value)
        still = x != at
    one.fill_(1.0)
    _power(t, further, 1, None, powers[0])
    lower = t
    for r in range(2, k + 1):
        _power(t, further, r, lower, powers[r - 1])
        lower = lower * t
    if cells == 2:
        above = t.clamp_min(0.0)
        if k == 1:
            torch.clamp_min(powers[0], 0.0, out=powers[1])
        else:
            _power(above, further, k, above if k == 2 else above ** (k - 1), powers[k])
    kept = Terms(matrix, axis, k, width, t, slope, still)
    return _times(matrix, room, axis), kept


def _power(t: Tensor, further: Tensor | None, r: int, lower: Tensor | None, out: Tensor) -> None:
    """``t^r``, with ``lower = t^(r - 1)`` (None: one), going on along its slope."""
    if further is not None:
        torch.add(t, further, alpha=r, out=out)
        t = out
    if lower is not None:
        torch.mul(t, lower, out=out)
    elif further is None:
        out.copy_(t)


def _times(matrix: Tensor, terms: Tensor, axis: int) -> Tensor:
    if axis == 0:
        return torch.mm(matrix, terms.flatten(1)).view_as(terms)
    if axis == 2:
        return torch.mm(terms.flatten(1).T, matrix.T).view(*terms.shape[1:], -1)
    return torch.bmm(matrix.expand(len(terms), -1, -1), terms)


def pulled(grad: Tensor, kept: Terms) -> Tensor:
    """``sum_c grad_c B_c'(x)``, (b, n), from the gradient of the features."""
    matrix, axis, k, width, t, slope, still = kept
    of_silu, _, *powers = _times(matrix.T, grad.contiguous(), axis).unbind(axis)
    if k == 1:
        found = powers[0].clone()
    else:
        found = torch.mul(powers[k - 1], t).mul_(k)
        for r in range(k - 1, 1, -1):
            found.add_(powers[r - 1], alpha=r).mul_(t)
        found.add_(powers[0])
    if len(powers) > k:
        above = (t > 0).to(t.dtype) if k == 1 else t.clamp_min(0.0)
        found.addcmul_(powers[k], above if k <= 2 else above ** (k - 1), value=k)
    found.div_(width).addcmul_(of_silu, slope)
    return found if still is None else found.masked_fill_(still, 0.0)
