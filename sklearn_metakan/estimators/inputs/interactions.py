"""Which columns act in pairs: those that are named, or found by what single columns leave."""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import isqrt
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.scaling import mean_and_spread
from sklearn_metakan.nn import PairInputs, group_levels, pair_functions

Array = NDArray[np.float64]
SCREENED_ROWS, SCREENED_COLUMNS = 2**13, 100
PURIFIED_ROWS, _CHUNK = 2**16, 2**12
# Measured: cells of a side of a pair, and rows for more; functions of a pair, fewest and most, and
# of all pairs; and, where each of the most has so many rows, those for the exact solution, of all
# pairs one for so many rows between two limits.
CELLS, MORE_CELLS, FOR_MORE = 10, 16, 1000
FUNCTIONS, IN_ALL = (40, 100), 2400
ROWS_A_FUNCTION, MOST_SOLVED = 15, 500
ROWS_IN_ALL, SOLVED_IN_ALL = 7, (3000, 6000)
N_BINS = 16  # of a column's main effect; pairs have cells of two
N_STEPS = 30  # towards the main effects on labels
_RIDGE = 1.0  # rows


def check_interactions(interactions: Any, widths: tuple[int, ...]) -> None:
    """What can be said without columns.

    Raises ValueError for what is neither a number of pairs nor a list of them, and beside hidden
    layers.
    """
    is_number = isinstance(interactions, Integral) and not isinstance(interactions, bool)
    if is_number and interactions == 0:
        return
    if not is_number and (isinstance(interactions, str | bool) or not np.iterable(interactions)):
        raise ValueError(
            "interactions must be a number of pairs or a list of pairs of columns, got "
            f"{interactions!r}."
        )
    if widths and (is_number or len(interactions)):
        raise ValueError(
            "interactions are for hidden_layer_sizes=(), a sum of functions of one column and of "
            f"two: the hidden layers {widths} let all columns act together already. Set "
            "hidden_layer_sizes=() or interactions=0."
        )


def pair_settings(
    inputs: Any,
    rows: Rows,
    interactions: Any,
    signs: NDArray[np.int64] | None = None,
    exact: bool = False,
) -> dict[str, Any]:
    """What a network without hidden layers is told of pairs; nothing if there are none.

    ``inputs.pairs_`` become the pairs of columns.

    Raises ValueError for what are no pairs of columns, and pairs with monotone columns.

    Parameters
    ----------
    inputs : TableInputs
        Fitted.
    rows : Rows
        Of training.
    interactions : int, or list of pairs of columns
    signs : ndarray of shape (n_numbers,), optional
        Numbers in which predictions must rise or fall have 1 or -1, and are in no pair.
    exact : bool, default=False
        Whether least squares are solved, which may have more functions where rows are many.
    """
    kept = inputs.kept_.tolist()
    monotone = np.flatnonzero(signs) if signs is not None else np.empty(0, dtype=np.intp)
    if isinstance(interactions, Integral):
        found = _screened(inputs, rows, int(interactions), monotone)
    else:
        listed = _listed(inputs, interactions)
        found = [(kept.index(a), kept.index(b)) for a, b in listed if {a, b} <= {*kept}]
        found = [(min(pair), max(pair)) for pair in found]
        for one in {*monotone.tolist()} & {column for pair in found for column in pair}:
            raise ValueError(
                f"interactions name {inputs.called(kept[one])}, which monotonic_cst constrains: a "
                "function of two columns is not kept monotone. Leave it out of one of the two."
            )
    inputs.pairs_ = [(min(kept[a], kept[b]), max(kept[a], kept[b])) for a, b in found]
    if not found:
        return {}
    some = rows.take(_some(len(rows), PURIFIED_ROWS))
    of_rows = len(rows) // ROWS_A_FUNCTION if exact else 0
    cells, n_functions = detail(len(rows), len(found), of_rows)
    knots = inputs.quantile_knots_of(some, cells)
    groups = [*map(group_levels, inputs.code_counts_)]
    shape = PairInputs(np.array(found), knots, inputs.gaps_ > 0, groups)
    functions = pair_functions(shape, _chunks(inputs, rows), n_functions)
    return {"pairs": {"inputs": shape._asdict(), "functions": functions}}


def detail(n_rows: int, n_pairs: int, of_rows: int) -> tuple[int, int]:
    """Cells of a side of a pair, and functions of each pair at most.

    ``of_rows`` functions, if they are more than a hundred, and cells that have twice as many
    products.
    """
    cells, (fewest, most) = CELLS if n_rows < FOR_MORE else MORE_CELLS, FUNCTIONS
    if of_rows <= most:
        return cells, min(most, max(fewest, IN_ALL // n_pairs))
    few, many = SOLVED_IN_ALL
    in_all = min(many, max(few, n_rows // ROWS_IN_ALL))
    n_functions = min(of_rows, MOST_SOLVED, max(fewest, in_all // n_pairs))
    return max(cells, isqrt(2 * n_functions)), n_functions


def _chunks(inputs: Any, rows: Rows) -> Iterator[tuple[Tensor, Array]]:
    """The network's inputs of the rows of training, or of as many as there may be."""
    some = _some(len(rows), PURIFIED_ROWS)
    for start in range(0, len(some), _CHUNK):
        chunk = some[start : start + _CHUNK]
        weight = np.ones(len(chunk)) if rows.weight is None else rows.weight[chunk]
        yield _table(inputs, rows, chunk), weight


def _some(n: int, most: int) -> NDArray[np.intp]:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _table(inputs: Any, rows: Rows, some: NDArray[np.intp]) -> Tensor:
    index = some if rows.index is None else rows.index[some]
    return inputs.tensor(
        Rows(rows.X, index, rows.y[some], None), torch.device("cpu"), torch.float64, trains=True
    )


def _listed(inputs: Any, interactions: Any) -> list[tuple[int, int]]:
    """Pairs of columns by position.

    Raises ValueError for what is no pair of two columns, and for one that comes twice.
    """
    n_columns, names = inputs.ranges_.shape[1], inputs.names
    known = {} if names is None else {name: j for j, name in enumerate(names)}
    found: list[tuple[int, int]] = []
    for pair in interactions:
        columns = [*pair] if np.iterable(pair) and not isinstance(pair, str) else []
        if len(columns) != 2:
            raise ValueError(f"interactions must hold pairs of two columns, got {pair!r}.")
        places = []
        for column in columns:
            is_place = isinstance(column, Integral) and not isinstance(column, bool)
            if isinstance(column, str) and column in known:
                places.append(known[column])
            elif is_place and 0 <= column < n_columns:
                places.append(int(column))
            else:
                those = f"names {[*known]}" if known else "no names"
                raise ValueError(
                    f"interactions name the column {column!r}, which is not there; columns have "
                    f"numbers below {n_columns} and {those}."
                )
        one = min(places), max(places)
        if one[0] == one[1] or one in found:
            what = "a column with itself" if one[0] == one[1] else "a pair twice"
            raise ValueError(f"interactions must be different pairs, got {what}: {pair!r}.")
        found.append(one)
    return found


def _screened(
    inputs: Any, rows: Rows, n_pairs: int, but: NDArray[np.intp]
) -> list[tuple[int, int]]:
    """So many pairs of the network's inputs, those that explain most of what single ones leave.

    Source: Lou et al., "Accurate intelligible models with pairwise interactions" (2013), FAST.
    """
    if not n_pairs:
        return []
    some = _some(len(rows), SCREENED_ROWS)
    x = _table(inputs, rows, some).numpy()
    weight = np.ones(len(some)) if rows.weight is None else rows.weight[some]
    bins, coarse = _binned(x, inputs.n_numbers, [*map(group_levels, inputs.code_counts_)])
    residual, strength = main_effects(bins, rows.y[some], weight)
    order = np.argsort(-strength, kind="stable")
    columns = np.sort(order[~np.isin(order, but)][:SCREENED_COLUMNS])
    noise = np.average(residual**2, axis=0, weights=weight) + np.finfo(float).tiny
    gains = {}
    for a, b in combinations(columns.tolist(), 2):
        width = coarse[b].max() + 1
        cell = coarse[a] * width + coarse[b]
        mass = np.bincount(cell, weight)
        there = mass > 0
        squares = np.bincount(cell, weight**2)[there] / mass[there]
        gain = 0.0
        for each, spread in zip(residual.T, noise, strict=True):
            sums = np.bincount(cell, weight * each)[there]
            # What noise alone would be expected to give is taken off.
            gain += float((sums**2 / (mass[there] + _RIDGE)).sum() - spread * squares.sum())
        gains[a, b] = gain
    best = sorted(gains, key=lambda pair: -gains[pair])
    return sorted(best[:n_pairs])


def _binned(
    x: Array, n_numbers: int, groups: list[NDArray[np.int64]]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Columns as bins, quantiles of numbers, with one for gaps; and the same with half as many."""
    fine, coarse = [], []
    for column in x[:, :n_numbers].T:
        known = column[~np.isnan(column)]
        ends = np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)[1:-1]))
        place = np.searchsorted(ends, column, side="left")
        place[np.isnan(column)] = 2 * N_BINS
        fine.append(np.unique(place, return_inverse=True)[1])
        coarse.append(np.unique(place // 2, return_inverse=True)[1])
    for column, group in zip(x[:, n_numbers:].T, groups, strict=True):
        place = np.where(np.isnan(column), -1, group[np.nan_to_num(column).astype(np.int64)])
        fine.append(np.unique(place, return_inverse=True)[1])
        coarse.append(fine[-1])
    return fine, coarse


def main_effects(
    bins: list[NDArray[np.int64]], y: NDArray[Any], weight: Array
) -> tuple[Array, Array]:
    """What a sum of steps leaves of the target, (n, outputs), and the strength of each column.

    Numbers, of mean zero and deviation one, by least squares; labels by so many steps of
    logistic regression, whose curvature is bounded by a quarter (two classes) or a half.
    """
    n, sizes = len(y), [int(column.max()) + 1 for column in bins]
    starts = np.cumsum([0, *sizes])
    places = np.stack(bins, 1) + starts[:-1]
    rows = np.arange(n * len(bins) + 1, step=len(bins))
    steps = sparse.csr_array((np.ones(n * len(bins)), places.ravel(), rows), (n, starts[-1]))
    weighted = steps.multiply(weight[:, None]).tocsr()
    moments = (steps.T @ weighted).toarray()
    is_label = y.ndim == 1
    if is_label:
        classes = np.arange(y.max() + 1)
        target = (y[:, None] == (classes if len(classes) > 2 else classes[1:])).astype(float)
    else:
        middle, spread = mean_and_spread(y, weight)
        target = (y - middle) / np.where(spread > 0, spread, 1.0)
    n_outputs = target.shape[1]
    bound = (0.25 if n_outputs == 1 else 0.5) if is_label else 1.0
    np.fill_diagonal(moments, moments.diagonal() * (1 + 1e-6) + _RIDGE)
    solve = np.linalg.inv(moments * bound)
    weights = np.zeros((starts[-1], n_outputs))
    for _ in range(N_STEPS if is_label else 1):
        score = steps @ weights
        residual = target - (_probabilities(score) if is_label else score)
        weights += solve @ (weighted.T @ residual)
    score = steps @ weights
    residual = target - (_probabilities(score) if is_label else score)
    mass = weighted.sum(0)[:, None]
    power = (mass * weights**2).sum(1)
    return residual, np.array([power[a:b].sum() for a, b in pairwise(starts)])


def _probabilities(score: Array) -> Array:
    if score.shape[1] == 1:
        return 1 / (1 + np.exp(-score.clip(-30, 30)))
    odds = np.exp(score - score.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)
