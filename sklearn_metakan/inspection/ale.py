"""Effects of columns on a model's answers: accumulated, or averaged over all rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sklearn_metakan.inspection.answers import Answers
from sklearn_metakan.inspection.tables import Points, Table

Array = NDArray[np.float64]
N_DONORS = 20  # values that a missing one is compared with
MOST_MISSING = 200  # rows of missing values by which their effect is found
MOST_AVERAGED = 200  # rows of an average over all
SHUFFLED_ROWS = 200  # by which columns are ranked


class Effect(NamedTuple):
    """Effect of a column, or of a pair of columns, on one answer.

    Attributes
    ----------
    columns : tuple of int
    points : tuple of Points, one a column
    values : ndarray of shape (n_points,), or (n_points, n_points) of a pair
        Mean zero over the rows.
    members : ndarray of shape (n_members, ...)
        The same of each member.
    missing : ndarray of shape (1 + n_members,) or None
        Effect of a missing value, of the whole and of the members.
    known : ndarray of bool, shape of values
        Whether there are rows beside the point.
    """

    columns: tuple[int, ...]
    points: tuple[Points, ...]
    values: Array
    members: Array
    missing: Array | None
    known: NDArray[np.bool_]


class Model:
    """One answer of a model to rows made of a table's: ``f(index)`` (n, 1 + n_members)."""

    def __init__(self, answers: Answers, table: Table, output: int, sign: float) -> None:
        self.answers, self.table, self.output, self.sign = answers, table, output, sign

    def with_values(self, rows: NDArray[np.intp], values: dict[int, NDArray[np.intp]]) -> Array:
        """Answers to rows whose columns j have the values of the rows ``values[j]``."""
        index = np.repeat(rows[:, None], self.table.n_columns, axis=1)
        for j, of_rows in values.items():
            index[:, j] = of_rows
        return self.sign * self.answers.of(self.table, index)[..., self.output]


def ranked_columns(model: Model) -> list[int]:
    """Columns in order of how much answers change as the column alone is shuffled."""
    rows = np.arange(model.table.n_rows)[:SHUFFLED_ROWS]
    before, changes = model.with_values(rows, {})[:, 0], []
    for j in range(model.table.n_columns):
        after = model.with_values(rows, {j: np.roll(rows, 1)})[:, 0]
        changes.append(np.square(after - before).mean())
    return [int(j) for j in np.argsort(-np.array(changes), kind="stable")]


def accumulated(model: Model, j: int, n_points: int) -> Effect:
    """Accumulated local effect of a column.

    ``sum_{k' <= k} mean_{rows in cell k'} [f(x with z_k') - f(x with z_k'-1)]``, centred over the
    rows; of a sum of functions of one column each, its function at the points z. A row belongs to
    the cell that its value lies in, or where values are few, to both beside it. Levels without an
    order have that of the mean answer to the rows that have them.

    Source: Apley and Zhu, "Visualizing the effects of predictor variables in black box supervised
    learning models" (2020).
    """
    points = model.table.points(j, n_points)
    order = np.arange(len(points.values))
    if not points.is_number and len(order) > 1:
        answers = model.with_values(points.there, {})[:, :1]
        order = np.argsort(_means(points.place[points.there], answers, len(order))[:, 0])
    rows, cells = _cells(points, np.argsort(order))
    curves = np.zeros((len(order), 1 + model.answers.n_members))
    if len(order) > 1:
        at = points.rows[order]
        upper = model.with_values(rows, {j: at[cells + 1]})
        change = upper - model.with_values(rows, {j: at[cells]})
        curves[order[1:]] = np.cumsum(_means(cells, change, len(order) - 1), axis=0)
    return _effect(model, j, points, curves)


def averaged(model: Model, j: int, n_points: int) -> Effect:
    """Partial dependence: the mean answer to all rows with this value, centred over the rows."""
    points = model.table.points(j, n_points)
    rows = np.arange(model.table.n_rows)[:MOST_AVERAGED]
    curves = np.zeros((len(points.values), 1 + model.answers.n_members))
    for k, value in enumerate(points.rows):
        curves[k] = model.with_values(rows, {j: np.full(len(rows), value)}).mean(0)
    return _effect(model, j, points, curves)


def _cells(points: Points, rank: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows, and the cell between two points that each belongs to; some rows come twice."""
    rows, last = points.there, len(points.values) - 2
    if not points.is_few:
        return rows, np.clip(points.place[rows] - 1, 0, last)
    place = rank[points.place[rows]]
    below, above = place > 0, place <= last
    return np.r_[rows[below], rows[above]], np.r_[place[below] - 1, place[above]]


def _means(groups: NDArray[np.intp], values: Array, n_groups: int) -> Array:
    counts = np.maximum(np.bincount(groups, minlength=n_groups), 1)
    sums = [np.bincount(groups, column, n_groups) for column in values.T]
    return np.stack(sums, axis=1) / counts[:, None]


def at_rows(points: Points, curve: Array, values: NDArray[np.generic]) -> Array:
    """A curve (n_points, ...) at the known values of the rows, straight between points."""
    there = points.place >= 0
    place = points.place[there]
    if points.is_few:
        return curve[place]
    lower = np.maximum(place - 1, 0)
    z, x = points.values, values[there].astype(np.float64)
    width = np.where(place > lower, z[place] - z[lower], 1.0)
    part = np.clip((x - z[lower]) / width, 0, 1)
    return curve[lower] + part.reshape(-1, *[1] * (curve.ndim - 1)) * (curve[place] - curve[lower])


def _effect(model: Model, j: int, points: Points, curves: Array) -> Effect:
    if len(points.values):
        curves = curves - at_rows(points, curves, model.table.values(j)).mean(0)
    known = np.ones(len(curves), dtype=bool)
    return Effect((j,), (points,), curves[:, 0], curves[:, 1:].T, _missing(model, j, points), known)


def _missing(model: Model, j: int, points: Points) -> Array | None:
    """Mean answer to rows where the column is missing, less that to values of other rows."""
    missing = np.flatnonzero(points.missing)[:MOST_MISSING]
    if not len(missing) or not len(points.there):
        return None
    donors = np.random.default_rng(0).choice(points.there, (len(missing), N_DONORS))
    filled = model.with_values(np.repeat(missing, N_DONORS), {j: donors.ravel()})
    return model.with_values(missing, {}).mean(0) - filled.mean(0)


def accumulated_pair(model: Model, pair: tuple[int, int], n_points: int) -> Effect:
    """Second-order accumulated effect: what two columns do together beyond what each does.

    Second differences over a cell are averaged over its rows, those of empty cells are those of
    the nearest one; summed up, without the main effects that the sum still holds, centred.
    """
    both = tuple(model.table.points(j, n_points) for j in pair)
    shape = tuple(len(points.values) for points in both)
    rows = np.flatnonzero((both[0].place >= 0) & (both[1].place >= 0))
    n_answers = 1 + model.answers.n_members
    maps, counts = np.zeros((*shape, n_answers)), np.zeros(tuple(max(n - 1, 0) for n in shape))
    if min(shape) > 1 and len(rows):
        a, b = (np.clip(p.place[rows] - 1, 0, len(p.values) - 2) for p in both)
        change = np.zeros((len(rows), n_answers))
        for up in (0, 1):
            for right in (0, 1):
                values = {pair[0]: both[0].rows[a + up], pair[1]: both[1].rows[b + right]}
                change += (1 if up == right else -1) * model.with_values(rows, values)
        flat = np.ravel_multi_index((a, b), counts.shape)
        counts = np.bincount(flat, minlength=counts.size).reshape(counts.shape).astype(float)
        cells = _means(flat, change, counts.size).reshape(*counts.shape, n_answers)
        nearest = distance_transform_edt(counts == 0, return_distances=False, return_indices=True)
        maps[1:, 1:] = cells[tuple(nearest)].cumsum(0).cumsum(1)
        for axis in (0, 1):
            maps = maps - _main_effect(maps, counts, axis)
        corners = (maps[1:, 1:] + maps[1:, :-1] + maps[:-1, 1:] + maps[:-1, :-1]) / 4
        maps = maps - (corners * counts[..., None]).sum((0, 1)) / counts.sum()
    known = np.zeros(shape, dtype=bool)
    for up in (0, 1):
        for right in (0, 1):
            known[up : up + shape[0] - 1, right : right + shape[1] - 1] |= counts > 0
    return Effect(pair, both, maps[..., 0], np.moveaxis(maps[..., 1:], -1, 0), None, known)


def function_of_pair(mains: Model, both: Model, pair: tuple[int, int], n_points: int) -> Effect:
    """The function of two columns that a sum of such has: exact, zero in the mean over training.

    ``both`` is the model without its other pairs, ``mains`` the one without any.
    """
    points = tuple(mains.table.points(j, n_points) for j in pair)
    shape = tuple(len(each.values) for each in points)
    first, second = np.indices(shape).reshape(2, -1)
    rows = np.zeros(len(first), dtype=np.intp)
    values = {pair[0]: points[0].rows[first], pair[1]: points[1].rows[second]}
    maps = (both.with_values(rows, values) - mains.with_values(rows, values)).reshape(*shape, -1)
    known = np.ones(shape, dtype=bool)
    return Effect(pair, points, maps[..., 0], np.moveaxis(maps[..., 1:], -1, 0), None, known)


def _main_effect(maps: Array, counts: Array, axis: int) -> Array:
    """The accumulated effect along an axis that a map holds, to be taken from it."""
    steps = np.diff(maps, axis=axis)
    middle = [slice(None)] * 3
    lower, upper = [*middle], [*middle]
    lower[1 - axis], upper[1 - axis] = slice(None, -1), slice(1, None)
    halves = (steps[tuple(lower)] + steps[tuple(upper)]) / 2  # of cells
    weight = counts[..., None]
    total = np.maximum(weight.sum(1 - axis), 1)
    effect = np.cumsum((halves * weight).sum(1 - axis) / total, axis=0)
    effect = np.concatenate([np.zeros((1, maps.shape[2])), effect])
    return np.expand_dims(effect, 1 - axis)
