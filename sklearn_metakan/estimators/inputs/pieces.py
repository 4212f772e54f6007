"""Increasing, piecewise linear maps of columns: their break points, and the piece of a number."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.estimators.inputs.rows import (
    atoms_of,
    distinct_quantiles,
    interpolated,
    mean_and_spread,
    weighted_quantiles,
)

Array = NDArray[np.float64]
ScaleInputs = Literal["auto", "minmax", "standard", "quantile"] | None
Pieces = tuple[Array, Array]  # break points, and what they are mapped to

N_QUANTILES = 129
LEVELS = np.linspace(0, 1, N_QUANTILES)
ROUNDING = 1e-12  # a column that spreads less, beside its size, counts as constant
_SKEWED = 0.1  # largest gap between rank and position that still counts as even
_LUMP = 0.5  # share of the rows that have one value, and
_TAIL = 0.2  # share of the range that holds 98 % of them: beyond both, positions say little
_WHOLE = 0.9  # share of the range that holds 98 % of the rows where there is no tail
_LUMP_WEIGHT = 2.0  # of such a value at most, beside all others
_ATOM_LUMP = 0.5  # share of the rows that have one value, beyond which others have atoms
_ONTO = np.array([-1.0, 1.0])
_NO_ATOMS = np.empty((0, 3))
_CELLS = 512  # of equal width, over the break points of a column
_MOST_STEPS = 8  # comparisons within a cell; of more, a binary search is quicker


class Rule(NamedTuple):
    """How columns are mapped, whether of a large table, and rows in a weight of one."""

    kind: ScaleInputs
    is_large: bool
    unit: float


def fit_block(
    block: Array,
    varies: NDArray[np.bool_],
    weight: Array | None,
    rule: Rule,
    some: NDArray[np.intp] | None,
) -> list[tuple[Pieces | None, Array, Array]]:
    """Of each column (n,) of a block (b, n), with gaps (NaN), its pieces, quantiles and atoms.

    Those that do not vary have no pieces (None). Quantiles are those of ``some`` rows, if told. In
    a large table columns without a tail keep their places ("auto").
    """
    ordered = (
        np.sort(block, axis=1) if weight is None and rule.kind in ("auto", "quantile") else None
    )
    many: NDArray[np.bool_] = np.zeros(len(block), dtype=bool)  # different numbers
    if ordered is not None and block.shape[1] > N_QUANTILES:
        many = (ordered[:, 1:] > ordered[:, :-1]).all(1) & varies
        pieces_of_many = iter(_fit_distinct(ordered[many], rule))
        if some is None:
            quantiles_of_many = iter(distinct_quantiles(ordered[many], LEVELS))
    few_weights = weight if weight is None or some is None else weight[some]
    found: list[tuple[Pieces | None, Array, Array]] = []
    for whole, is_many, moves in zip(block, many.tolist(), varies.tolist(), strict=True):
        pieces, atoms = next(pieces_of_many) if is_many else None, _NO_ATOMS
        if is_many and some is None:
            quantiles = next(quantiles_of_many)
        else:
            few = whole if some is None else whole[some]
            if np.isnan(few).all():
                few = np.where(np.arange(len(few)) == 0, np.fmin.reduce(whole), few)
            (quantiles,) = weighted_quantiles([few], few_weights, LEVELS).T
        if moves and pieces is None:
            there = ~np.isnan(whole)
            column, of_column = whole, weight
            if not there.all():
                column = whole[there]
                of_column = None if weight is None else weight[there]
            pieces, atoms = _fit_column(column, of_column, rule)
        found.append((pieces, quantiles, atoms))
    return found


def _fit_distinct(ordered: Array, rule: Rule) -> list[Pieces | None]:
    """``_fit_column`` for columns in order (b, n), all of whose numbers differ, n > 129.

    None where it is up to rounding.
    """
    points = interpolated(ordered, LEVELS * (ordered.shape[1] - 1))
    rank, low, high = 2 * LEVELS - 1, ordered[:, :1], ordered[:, -1:]
    position = 2 * (points - low) / (high - low) - 1
    values = (
        np.broadcast_to(rank, points.shape) if rule.kind == "quantile" else (rank + position) / 2
    )
    even = np.abs(rank - position).max(1) <= 2 * _SKEWED
    if rule.is_large and rule.kind == "auto":
        n = ordered.shape[1]
        first, last = np.searchsorted(np.arange(1, n + 1), [0.01 * n, 0.99 * n])
        even |= ordered[:, last] - ordered[:, first] > _WHOLE * (high - low)[:, 0]
    clear = np.diff(points).min(1) > 0
    found: list[Pieces | None] = []
    for column, ends in enumerate(ordered[:, [0, -1]]):
        if even[column] and rule.kind != "quantile":
            found.append((ends, _ONTO))
        else:
            found.append((points[column], values[column]) if clear[column] else None)
    return found


def _fit_column(column: Array, weight: Array | None, rule: Rule) -> tuple[Pieces, Array]:
    """Break points of a column that varies, what they are mapped to, and its atoms."""
    kind, is_large = rule.kind, rule.is_large
    low, high = ends = np.array([column.min(), column.max()])
    if kind in ("minmax", None):
        return (ends, _ONTO), _NO_ATOMS
    if kind == "standard":
        mean, deviation = mean_and_spread(column, weight)
        # It may be nothing, of a row that outweighs all others.
        deviation = max(deviation, ROUNDING * max(-low, high))
        return (mean + deviation * _ONTO, _ONTO), _NO_ATOMS
    values, mass = np.unique(column, return_counts=True)
    if weight is not None:  # in five times the time
        mass = np.bincount(np.searchsorted(values, column), weights=weight)
    most, whole, atoms = mass.max(), mass.sum(), _NO_ATOMS
    if kind == "auto" and most > _ATOM_LUMP * whole:
        atoms = atoms_of(values, mass, rule.unit)
    is_lumped = kind == "auto" and _LUMP * whole < most < whole
    if is_lumped or (kind == "auto" and is_large):
        inner = values[np.searchsorted(np.cumsum(mass), [0.01 * whole, 0.99 * whole])]
        is_lumped &= inner[1] - inner[0] < _TAIL * (high - low)
        if is_large and inner[1] - inner[0] > _WHOLE * (high - low):
            return (ends, _ONTO), atoms
    if is_lumped:
        mass = np.minimum(mass, _LUMP_WEIGHT * (whole - most))
    middle = np.cumsum(mass) - 0.5 * mass
    rank = 2 * (middle - middle[0]) / (middle[-1] - middle[0]) - 1  # mid-ranks, on [-1, 1]
    points, ranks = values, rank
    if len(values) > N_QUANTILES:  # at most 129 of them
        points = np.interp(2 * LEVELS - 1, rank, values)
        points = points[np.diff(points, prepend=-np.inf) > 0]
        ranks = np.interp(points, values, rank)
    if kind == "quantile" or is_lumped:
        return (points, ranks), atoms
    position = 2 * (points - low) / (high - low) - 1
    if np.abs(ranks - position).max() <= 2 * _SKEWED:
        return (ends, _ONTO), atoms
    return (points, (ranks + position) / 2), atoms


class PieceSearch:
    """``torch.searchsorted(points, x, right=True)`` of many x, exactly, in a fifth of its time.

    Cells of equal width say how many points lie in the cells before a number's own; those in the
    same cell are compared one after the other. A binary search waits for branches that the
    processor guesses wrong.

    Parameters
    ----------
    points : Tensor of shape (d, m)
        In rising order, then infinite.

    Shape
    -----
    x (d, n) -> (d, n), integers
    """

    def __init__(self, points: Tensor) -> None:
        held = points.isfinite()
        self.points = torch.nn.functional.pad(points, (0, 1), value=torch.nan)
        self.low = points[:, :1]
        self.rate = _CELLS / (points.where(held, self.low).amax(1, keepdim=True) - self.low)
        counts = torch.zeros(len(points), _CELLS + 1, dtype=torch.int64)
        counts.scatter_add_(1, self._cells(points), held.long())
        self.before = counts.cumsum(1).sub_(counts)
        steps = counts.amax(1)
        crowded = (steps > _MOST_STEPS) | ~self.rate[:, 0].isfinite()
        self.crowded = crowded.nonzero()[:, 0]
        self.steps = int(steps.where(~crowded, 0).max())

    def _cells(self, x: Tensor) -> Tensor:
        places = (x - self.low).mul_(self.rate).nan_to_num_(0.0)
        return places.clamp_(0, _CELLS).long()

    def __call__(self, x: Tensor) -> Tensor:
        found = self.before.gather(1, self._cells(x))
        for _ in range(self.steps):
            found += self.points.gather(1, found) <= x
        some = self.crowded
        if len(some):
            found[some] = torch.searchsorted(self.points[some], x[some], right=True)
        return found
