"""How columns are scaled: statistics of rows, and increasing, piecewise linear maps by them."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_metakan.estimators.inputs.rows import Rows

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
_ATOM_ROWS = 5.0  # in which a value occurs at least, to be an atom
_MOST_ATOMS = 64
_FEW_VALUES = 8  # of a column, through which a curve of the default grid passes anyway
_ATOM_LUMP = 0.5  # share of the rows that have one value, beyond which others have atoms
_ONTO = np.array([-1.0, 1.0])
_NO_ATOMS = np.empty((0, 3))
CHUNK = 2**17  # numbers that are scaled at a time
_CELLS = 512  # of equal width, over the break points of a column
_MOST_STEPS = 8  # comparisons within a cell; of more, a binary search is quicker


def weighted_quantiles(columns: Iterable[Array], weight: Array | None, levels: Any) -> Array:
    """Of each column (n,): (len(levels), n_columns).

    Each value holds for its share of the weights, with ramps between. A ramp is as wide as the
    smaller share beside it: for distinct values of equal weight, this is linear interpolation,
    and a value that many rows have stays a plateau. Gaps (NaN) come last.
    """
    found = []
    for column in columns:
        values, mass = np.unique(column, return_counts=True)
        if weight is not None:  # in five times the time
            mass = np.bincount(np.searchsorted(values, column), weights=weight)
        ends = np.cumsum(mass)
        ramp, plateaus = np.zeros(len(mass) + 1), np.empty((len(mass), 2))
        ramp[1:-1] = np.minimum(mass[1:], mass[:-1]) / 2
        plateaus[:, 0], plateaus[:, 1] = ends - mass + ramp[:-1], ends - ramp[1:]
        found.append(np.interp(levels, plateaus.ravel() / ends[-1], np.repeat(values, 2)))
    return np.stack(found, axis=1)


def distinct_quantiles(ordered: Array, levels: Any) -> Array:
    """``weighted_quantiles`` of columns in order (b, n) whose numbers differ: (b, len(levels))."""
    n = ordered.shape[1]
    return interpolated(ordered, np.clip(np.asarray(levels) * n - 0.5, 0, n - 1))


def interpolated(ordered: Array, places: Array) -> Array:
    """Of each row (n,), numbers at places from 0 to n - 1, linear between neighbours."""
    left = places.astype(np.intp)
    right = np.minimum(left + 1, ordered.shape[1] - 1)
    found = ordered[:, left]
    return found + (places - left) * (ordered[:, right] - found)


def mean_and_spread(values: Array, weight: Array | None) -> tuple[Any, Any]:
    """Weighted mean and standard deviation by column, of numbers of any size."""
    exponent = np.frexp(np.abs(values).max(axis=0))[1]
    unit = np.exp2(-np.clip(exponent, -1000, 1000))  # a power of two rounds nothing
    shares = values * unit
    mean = np.average(shares, axis=0, weights=weight)
    spread = np.sqrt(np.average((shares - mean) ** 2, axis=0, weights=weight))
    return mean / unit, spread / unit


def atoms_of(values: Array, mass: NDArray[Any], unit: float) -> Array:
    """The values that many rows have, (n_atoms, 3): each, how many rows, and their share."""
    rows = mass * max(unit, 1.0)
    chosen = np.sort(np.argsort(-rows, kind="stable")[:_MOST_ATOMS])
    chosen = chosen[rows[chosen] >= _ATOM_ROWS]
    if len(values) <= _FEW_VALUES:
        chosen = chosen[:0]
    return np.stack([values, rows, mass / mass.sum()], axis=1)[chosen]


def by_share(positions: Array, weight: Array, n: int) -> Array:
    """n positions of levels, each as often as in the column."""
    values, inverse = np.unique(positions, return_inverse=True)
    ends = np.cumsum(np.bincount(inverse, weights=weight))
    places = (np.arange(n) + 0.5) / n * ends[-1]
    return values[np.searchsorted(ends, places)]


class Rule(NamedTuple):
    """How columns are mapped, whether of a large table, and rows in a weight of one."""

    kind: ScaleInputs
    is_large: bool
    unit: float


class Numbers(NamedTuple):
    """What is found for columns of numbers, of which those are kept that vary or have gaps."""

    kept: list[int]
    pieces: list[Pieces]  # of each, in units
    quantiles: list[Array]  # 129 of each
    gaps: list[float]  # rows in which it is missing, by weight
    atoms: Array  # place in kept, value, rows and share of what many rows have, (n_atoms, 4)
    ranges: Array  # of all columns, NaN for others, (2, d)
    units: Array  # powers of two, in which nothing over- or underflows, (d,)


def fit_numbers(
    rows: Rows, columns: NDArray[np.intp], rule: Rule, some: NDArray[np.intp] | None
) -> Numbers:
    """Scale these columns of the rows that count, some at a time; quantiles of ``some`` rows.

    If none varies, the first column stands for all, as zero.
    """
    n, d, index = len(rows.y), rows.X.shape[1], rows.index
    ranges, units, atoms = np.full((2, d), np.nan), np.ones(d), [np.empty((0, 4))]
    kept: list[int] = []
    pieces: list[Pieces] = []
    quantiles, gaps = [], []
    step = max(1, CHUNK // n)
    for start in range(0, len(columns), step):
        places = columns[start : start + step]
        block = np.take(rows.X, places, 1) if index is None else rows.X[np.ix_(index, places)]
        block = block.T.astype(np.float64, order="C")
        low, high = np.fmin.reduce(block, axis=1), np.fmax.reduce(block, axis=1)
        ranges[:, places] = low, high
        largest = np.maximum(np.abs(low), np.abs(high))
        exponents = np.frexp(np.nan_to_num(largest))[1]
        units[places] = unit = np.ldexp(1.0, -np.clip(exponents, -1000, 1000))
        block *= unit[:, None]
        varies = high * unit - low * unit > ROUNDING * largest * unit
        found = fit_block(block, varies, rows.weight, rule, some)
        missing = [0.0] * len(block)
        if np.isnan(block.sum()):
            weight = np.ones(n) if rows.weight is None else rows.weight
            missing = (np.isnan(block) @ weight * max(rows.unit, 1.0)).tolist()
        every = zip(places.tolist(), found, missing, low * unit, strict=True)
        for j, (of_column, of_levels, of_atoms), gap, least in every:
            if np.isnan(least) or not (of_column or gap):
                continue
            if len(of_atoms):
                atoms.append(np.insert(of_atoms, 0, len(kept), axis=1))
            kept.append(j)
            gaps.append(gap)
            quantiles.append(of_levels / units[j])
            pieces.append(of_column or (least + _ONTO, np.zeros(2)))
    if not kept:
        first = np.nan_to_num(ranges[0, 0]) * units[0]
        kept, gaps, quantiles = [0], [0.0], [np.full(N_QUANTILES, first / units[0])]
        pieces = [(first + _ONTO, np.zeros(2))]
    joined = np.concatenate(atoms)
    joined[:, 1] /= units[kept][joined[:, 0].astype(np.intp)]
    return Numbers(kept, pieces, quantiles, gaps, joined, ranges, units)


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
        kept = ordered if many.all() else ordered[many]
        pieces_of_many = iter(_fit_distinct(kept, rule))
        if some is None:
            quantiles_of_many = iter(distinct_quantiles(kept, LEVELS))
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


def tables_of_pieces(pieces: list[Pieces]) -> dict[str, NDArray[Any]]:
    """Break points, what they are mapped to, and slopes, as padded tables (n, most)."""
    longest = 2
    for x, _ in pieces:
        longest = max(longest, len(x))
    shape = len(pieces), longest
    points, values, slopes = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    last = np.zeros((shape[0], 1), dtype=np.int64)
    for row, (x, y) in enumerate(pieces):
        points[row, : len(x)], values[row, : len(y)] = x, y
        last[row] = len(x) - 2
    inside = np.arange(longest - 1) <= last
    with np.errstate(over="ignore"):  # of points as near as 1e-315
        np.divide(np.diff(values), np.diff(points), out=slopes[:, :-1], where=inside)
    np.minimum(slopes, np.finfo(np.float64).max, out=slopes)
    points[:, 1:][~inside] = np.inf
    return {"points": points, "values": values, "slopes": slopes, "last_piece": last}


def tables_of_codes(columns: NDArray[np.intp], codes: list[Array]) -> dict[str, NDArray[Any]]:
    """Codes of all columns one after the other, and where those of each begin."""
    lengths = np.array([*map(len, codes)], dtype=np.int64)
    return {
        "coded": columns,
        "codes": np.concatenate([*codes, np.empty(0)]),
        "first_code": np.cumsum(lengths) - lengths,
        "n_levels": lengths - 2,
    }


class PieceSearch:
    """Which piece each of many x lies in, exactly, in a fifth of the time of a binary search.

    Cells of equal width say how many points lie in the cells before a number's own; those in the
    same cell are compared one after the other. A binary search waits for branches that the
    processor guesses wrong. What lies beyond all pieces is in the first, or in the last.

    Parameters
    ----------
    points : Tensor of shape (d, m)
        The ends of pieces in rising order, then infinite.

    Shape
    -----
    x (b, n) of the columns ``places`` -> (b, n), integers
    """

    def __init__(self, points: Tensor) -> None:
        held = points.isfinite()
        inner = points[:, 1:-1].masked_fill(~held[:, 2:], torch.inf)
        self.points = torch.nn.functional.pad(inner, (0, 1), value=torch.nan)
        self.low = points[:, :1]
        self.rate = _CELLS / (points.where(held, self.low).amax(1, keepdim=True) - self.low)
        counts = torch.zeros(len(points), _CELLS + 1, dtype=torch.int64)
        counts.scatter_add_(1, self._cells(inner, slice(None)), inner.isfinite().long())
        self.before = counts.cumsum(1).sub_(counts)
        steps = counts.amax(1)
        self.crowded = (steps > _MOST_STEPS) | ~self.rate[:, 0].isfinite()
        self.steps = int(steps.where(~self.crowded, 0).max())

    def _cells(self, x: Tensor, places: slice) -> Tensor:
        found = (x - self.low[places]).mul_(self.rate[places]).nan_to_num_(0.0)
        return found.clamp_(0, _CELLS).long()

    def __call__(self, x: Tensor, places: slice) -> Tensor:
        found, points = self.before[places].gather(1, self._cells(x, places)), self.points[places]
        for _ in range(self.steps):
            found += points.gather(1, found) <= x
        some = self.crowded[places].nonzero()[:, 0]
        if len(some):
            inner = points[some, :-1].contiguous()
            found[some] = torch.searchsorted(inner, x[some], right=True)
        return found


class FittedModule(nn.Module):
    """A part of an estimator: a torch module whose buffers ``fit`` sets; pickled as arrays."""

    def set_buffers(self, **arrays: Any) -> None:
        """Arrays under these names, numbers in float64."""
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))

    def __getstate__(self) -> dict[str, Any]:
        own = {k: v for k, v in vars(self).items() if k not in vars(nn.Module())}
        return own | {"buffers": {k: v.cpu().numpy() for k, v in self.named_buffers()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__init__(self)
        buffers = state["buffers"]
        vars(self).update({k: v for k, v in state.items() if k != "buffers"})
        self.set_buffers(**buffers)

    def fit(self, rows: Rows) -> Self:
        raise NotImplementedError
