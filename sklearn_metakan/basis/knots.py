"""Knots of splines, and the polynomial that each spline is on each cell."""

from __future__ import annotations  # help() shows types as they are written here

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def quantile_knots(X: ArrayLike, grid_size: int, sample_weight: ArrayLike | None = None) -> Array:
    """Knots at weighted quantiles of every column, always exactly G cells.

    A column of at most G + 1 distinct values has a knot at each. Then, and where quantiles are
    the same, the widest cells are split. One of at most two values gets the uniform grid; a
    constant column, the uniform grid of width 2 around its value, wider where numbers are large.

    Parameters
    ----------
    X : array of shape (n, in_features)
    grid_size : int
        G, the number of cells.
    sample_weight : array of shape (n,), optional

    Returns
    -------
    ndarray of shape (in_features, G + 1), strictly increasing rows
    """
    X = np.asarray(X, dtype=np.float64)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    kept = weight > 0
    result = np.empty((X.shape[1], grid_size + 1))
    for row, column in zip(result, X.T, strict=True):
        values, inverse = np.unique(column[kept], return_inverse=True)
        low, high = values[0], values[-1]
        if low == high:
            margin = max(1.0, abs(low) / 1024)
            low, high = low - margin, high + margin
        if len(values) <= 2:
            row[:] = np.linspace(low, high, grid_size + 1)
            continue
        mass = np.bincount(inverse, weights=weight[kept])
        middle = (np.cumsum(mass) - 0.5 * mass) / mass.sum()
        # Cells far narrower than the mean cell make the splines' derivatives explode.
        smallest = 1e-3 * (high - low) / grid_size
        knots = [low]
        inner = values[1:-1]
        if len(values) > grid_size + 1:
            inner = np.interp(np.linspace(0, 1, grid_size + 1)[1:-1], middle, values)
        for knot in inner:
            if knot - knots[-1] > smallest and high - knot > smallest:
                knots.append(knot)
        knots.append(high)
        while len(knots) < grid_size + 1:
            widest = int(np.argmax(np.diff(knots)))
            knots.insert(widest + 1, 0.5 * (knots[widest] + knots[widest + 1]))
        row[:] = knots
    return result


def check_finer(grid_size: int, finer: int) -> None:
    if finer < grid_size:
        raise ValueError(
            f"grid_size cannot change from {grid_size} to {finer}: a grid only becomes finer."
        )


def split_cells(knots: Array, grid_size: int) -> Array:
    """More cells, (in_features, grid_size + 1), all present knots among the new ones.

    Each cell is cut into as many equal parts as the others; what is left over goes to the
    cells that are widest.

    Examples
    --------
    >>> split_cells(np.array([[0.0, 1.0, 4.0]]), 5)
    array([[0. , 0.5, 1. , 2. , 3. , 4. ]])
    """
    parts, left_over = divmod(grid_size, knots.shape[1] - 1)
    rows = []
    for row in knots:
        counts = np.full(len(row) - 1, parts)
        counts[np.argsort(-np.diff(row), kind="stable")[:left_over]] += 1
        pieces = zip(row[:-1], row[1:], counts, strict=True)
        inner = [np.linspace(a, b, n, endpoint=False) for a, b, n in pieces]
        rows.append(np.concatenate([*inner, row[-1:]]))
    return np.stack(rows)


def cell_polynomials(knots: Array, degree: int) -> Array:
    """Local polynomials of the B-splines, by the Cox-de Boor recursion on coefficients.

    On the cell ``[t_c, t_c+1]`` with the local coordinate ``u = (t - t_c) / h_c`` in
    [0, 1], the degree + 1 splines that do not vanish there are polynomials in u.

    Parameters
    ----------
    knots : ndarray of shape (n, G + 1 + 2 (2 k + 1)), as from ``spline_knots``
    degree : int

    Returns
    -------
    ndarray of shape (n, G + 2 k, k + 1, k + 1)
        ``[i, c, a, r]`` is the coefficient of u^r of spline c - k + a (the last index is
        the power) on cell c - k, so k cells of the extended grid on either side.

    Source: de Boor, "On calculating with B-splines", 1972.
    """
    k, t = degree, knots
    n_cells = t.shape[1] - 2 * k - 3
    left = k + 1 + np.arange(n_cells)  # index in t of the cell's left knot
    origin, width = t[:, left, None], (t[:, left + 1] - t[:, left])[..., None]
    table = np.zeros((len(t), n_cells, k + 1, k + 1))
    table[:, :, 0, 0] = 1.0
    for d in range(1, k + 1):
        # Each of the d splines of degree d - 1 goes into two of degree d, times a linear function
        # that rises over its knots, and times one that falls.
        first = left[:, None] + np.arange(1 - d, 1)
        span = t[:, first + d] - t[:, first]
        constant, times_u = table[:, :, :d], np.zeros((len(t), n_cells, d, k + 1))
        times_u[..., 1:] = constant[..., :-1] * (width / span)[..., None]
        table = np.zeros_like(table)
        table[:, :, 1 : d + 1] += ((origin - t[:, first]) / span)[..., None] * constant + times_u
        table[:, :, :d] += ((t[:, first + d] - origin) / span)[..., None] * constant - times_u
    return table


@cache
def uniform_cell(degree: int) -> Array:
    """Of uniform knots, where all cells are alike: (k + 1, k + 1), spline a and powers of u."""
    knots = np.arange(-2.0 * degree - 1, 2 * degree + 3)
    return cell_polynomials(knots[None], degree)[0, degree]
