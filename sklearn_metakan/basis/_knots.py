"""Knots of splines, and the polynomial that each spline is on each cell."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def quantile_knots(X: ArrayLike, grid_size: int, sample_weight: ArrayLike | None = None) -> Array:
    """Knots at weighted quantiles of every column, always exactly G cells.

    Duplicate quantiles (columns of few values) are dropped and refilled by splitting the
    widest cells. A column of at most two distinct values gets the uniform grid; a
    constant column, the uniform grid of width 2 around its value.

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
    return np.stack([_column_knots(column, weight, grid_size) for column in X.T])


def _column_knots(column: Array, weight: Array, grid_size: int) -> Array:
    kept = weight > 0
    values, inverse = np.unique(column[kept], return_inverse=True)
    low, high = values[0], values[-1]
    if low == high:
        low, high = low - 1.0, high + 1.0
    if len(values) <= 2:
        return np.linspace(low, high, grid_size + 1)
    mass = np.bincount(inverse, weights=weight[kept])
    middle = (np.cumsum(mass) - 0.5 * mass) / mass.sum()
    inner = np.interp(np.linspace(0, 1, grid_size + 1)[1:-1], middle, values)
    # Cells far narrower than the mean cell make the splines' derivatives explode.
    smallest = 1e-3 * (high - low) / grid_size
    knots = [low]
    for knot in inner:
        if knot - knots[-1] > smallest and high - knot > smallest:
            knots.append(knot)
    knots.append(high)
    while len(knots) < grid_size + 1:
        widest = int(np.argmax(np.diff(knots)))
        knots.insert(widest + 1, 0.5 * (knots[widest] + knots[widest + 1]))
    return np.asarray(knots)


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


def extend(knots: Array, count: int) -> Array:
    """Add ``count`` knots on both sides, as far apart as the cells at the ends."""
    steps = np.arange(1, count + 1)
    first = knots[:, :1] - steps[::-1] * (knots[:, 1:2] - knots[:, :1])
    last = knots[:, -1:] + steps * (knots[:, -1:] - knots[:, -2:-1])
    return np.concatenate([first, knots, last], axis=1)


def cell_polynomials(knots: Array, degree: int) -> Array:
    """Local polynomials of the B-splines, by the Cox-de Boor recursion on coefficients.

    On the cell ``[t_c, t_c+1]`` with the local coordinate ``u = (t - t_c) / h_c`` in
    [0, 1], the degree + 1 splines that do not vanish there are polynomials in u.

    Parameters
    ----------
    knots : ndarray of shape (in_features, G + 1)
    degree : int

    Returns
    -------
    ndarray of shape (in_features, G + 2 k, k + 1, k + 1)
        ``[i, c, a, r]`` is the coefficient of u^r of spline c - k + a (the last index is
        the power) on cell c - k, so k cells of the extended grid on either side.

    Source: de Boor, "On calculating with B-splines", 1972.
    """
    k = degree
    t = extend(np.asarray(knots, dtype=np.float64), 2 * k + 1)
    n_cells = knots.shape[1] - 1 + 2 * k
    left = k + 1 + np.arange(n_cells)  # index in t of the cell's left knot
    origin, width = t[:, left], t[:, left + 1] - t[:, left]
    table = np.zeros((len(t), n_cells, k + 1, k + 1))
    table[:, :, 0, 0] = 1.0

    def times_linear(polynomial: Array, constant: Array, slope: Array) -> Array:
        product = polynomial * constant[..., None]
        product[..., 1:] += polynomial[..., :-1] * slope[..., None]
        return product

    for d in range(1, k + 1):
        lower, table = table, np.zeros_like(table)
        for a in range(d + 1):
            i = left - d + a  # the spline's first knot
            if a > 0:
                span = t[:, i + d] - t[:, i]
                table[:, :, a] += times_linear(
                    lower[:, :, a - 1], (origin - t[:, i]) / span, width / span
                )
            if a < d:
                span = t[:, i + d + 1] - t[:, i + 1]
                table[:, :, a] += times_linear(
                    lower[:, :, a], (t[:, i + d + 1] - origin) / span, -width / span
                )
    return table


def uniform_cell(degree: int) -> Array:
    """Of uniform knots, where all cells are alike: (k + 1, k + 1), spline a and powers of u."""
    return cell_polynomials(np.arange(2.0)[None], degree)[0, degree]
