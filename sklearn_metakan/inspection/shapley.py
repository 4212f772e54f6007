"""Shapley values of columns, by enumeration or by drawn orders of the columns."""

from collections.abc import Callable
from itertools import product
from math import factorial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Answers (m, k) to rows put together: value (r, j) is that of row index[r, j] in column j.
Answer = Callable[[NDArray[np.intp]], Array]


def of_sum(answer: Answer, rows: NDArray[np.intp], background: NDArray[np.intp], d: int) -> Array:
    """Contributions (n, d, k) to a sum of functions of one column each.

    ``g_j(x_j) - mean_b g_j(b_j)``, all of them seen from one row of the background.
    """
    seen = np.r_[rows, background]
    index = np.full((d, len(seen), d), background[0])
    for j in range(d):
        index[j, :, j] = seen
    found = answer(index.reshape(-1, d)).reshape(d, len(seen), -1)
    means = found[:, len(rows) :].mean(1, keepdims=True)
    return (found[:, : len(rows)] - means).swapaxes(0, 1)


def of_pairs(answer: Answer, rows: NDArray[np.intp], background: NDArray[np.intp], d: int) -> Array:
    """Contributions (n, d, k) to a sum of functions of one column or of two.

    Half of what a column changes first, ``v({j}) - v({})``, and half of what it changes last,
    ``v(all) - v(all but j)``: its own function, and half of each that it shares.
    """
    columns = np.eye(d, dtype=bool)
    none, every = np.zeros((1, d), dtype=bool), np.ones((1, d), dtype=bool)
    taken = np.concatenate([none, columns, ~columns, every])
    found = []
    for row in rows:
        index = np.where(taken[:, None], row, background[None, :, None])
        values = answer(index.reshape(-1, d)).reshape(len(taken), len(background), -1).mean(1)
        first, last = values[1 : d + 1] - values[0], values[-1] - values[d + 1 : -1]
        found.append((first + last) / 2)
    return np.stack(found)


def by_enumeration(
    answer: Answer, rows: NDArray[np.intp], background: NDArray[np.intp], d: int
) -> Array:
    """Exact Shapley values (n, d, k) of the game ``v(S) = mean_b f(x_S, b_rest)``."""
    taken = np.array([*product([False, True], repeat=d)])
    size = taken.sum(1)
    # The weight of a coalition in the contribution of a column that is in it, or not.
    within = [factorial(max(s - 1, 0)) * factorial(d - s) / factorial(d) for s in size]
    without = [factorial(s) * factorial(max(d - s - 1, 0)) / factorial(d) for s in size]
    weights = np.where(taken, np.array(within)[:, None], -np.array(without)[:, None])
    found = []
    for row in rows:
        index = np.where(taken[:, None], row, background[None, :, None])
        values = answer(index.reshape(-1, d)).reshape(len(taken), len(background), -1).mean(1)
        found.append(weights.T @ values)
    return np.stack(found)


def by_orders(
    answer: Answer,
    rows: NDArray[np.intp],
    background: NDArray[np.intp],
    d: int,
    n_pairs: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Estimates of the same, and their standard errors, both (n, d, k).

    For each row of the background the columns are exchanged one by one for those of x, in
    ``n_pairs`` random orders and their reverses; what each step changes is the contribution of its
    column. The sum over columns is ``f(x) - mean_b f(b)``, whatever the orders.

    With one pair a background row, the standard error is that of the mean over the rows of the
    background, which is too large: it holds their spread too.

    Source: Mitchell et al., "Sampling permutations for Shapley value estimation" (2022).
    """
    found, errors, m = [], [], len(background)
    for row in rows:
        orders = rng.permuted(np.tile(np.arange(d), (m * n_pairs, 1)), axis=1)
        orders = np.stack([orders, orders[:, ::-1]], axis=1)  # (m * n_pairs, 2, d)
        place = np.argsort(orders, axis=2)
        steps = np.arange(d + 1)[:, None] > place[..., None, :]  # (m * n_pairs, 2, d + 1, d)
        start = np.repeat(background, n_pairs)[:, None, None, None]
        index = np.where(steps, row, start).reshape(-1, d)
        unique, inverse = np.unique(index, axis=0, return_inverse=True)
        path = answer(unique)[inverse.ravel()].reshape(m, n_pairs, 2, d + 1, -1)
        change = np.diff(path, axis=3)
        where = place.reshape(m, n_pairs, 2, d, 1)
        by_pair = np.take_along_axis(change, where, axis=3).mean(2)  # (m, n_pairs, d, k)
        found.append(by_pair.mean((0, 1)))
        if n_pairs > 1:
            errors.append(np.sqrt((by_pair.var(1, ddof=1) / n_pairs).sum(0)) / m)
        else:
            errors.append(by_pair[:, 0].std(0, ddof=min(1, m - 1)) / np.sqrt(m))
    return np.stack(found), np.stack(errors)
