"""Columns of a table, as a network takes them."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.basis import quantile_knots
from sklearn_metakan.estimators.inputs.rows import FittedModule, Rows
from sklearn_metakan.training import check_widths

Array = NDArray[np.float64]
ScaleInputs = Literal["auto", "minmax", "standard", "quantile"] | None

N_QUANTILES = 129
QUANTILE_ROWS = 2**13
_LEVELS = np.linspace(0, 1, N_QUANTILES)
_SKEWED = 0.1  # largest gap between rank and position that still counts as even
_ROUNDING = 1e-12  # a column that spreads less, beside its size, counts as constant
_CHUNK = 2**17  # numbers that are scaled at a time
# Scaled numbers end there: far enough out, and what layers make of them can be held. For columns
# that are not scaled, the least and largest spreads whose knots and squared slopes can be.
_FARTHEST = {torch.float32: 1e30, torch.float64: 1e150}
_UNSCALED = {torch.float32: 1e15, torch.float64: 1e100}


class TableInputs(FittedModule):
    """Maps each column onto about [-1, 1] by an increasing, piecewise linear function.

    Outside the range of the data the first and last pieces go on, so that ``transform`` and
    ``inverse_transform`` are each other's inverse everywhere. A column that is constant in
    training says nothing: it is left out, so that the network has no edges for it.

    Parameters
    ----------
    kind : {"auto", "minmax", "standard", "quantile", None}
        "minmax": the range onto [-1, 1]. "standard": mean 0, standard deviation 1.
        "quantile": ranks onto [-1, 1]. "auto": minmax for columns spread evenly over their
        range; the mean of minmax and quantile for the others. None: unchanged.
    extrapolation : str, default="linear"
        With "error", a constant column that moves raises a ValueError.

    Attributes
    ----------
    kept_ : ndarray of shape (n_kept,)
        The columns that vary, those of the network's inputs. If none does, the first stands
        for all, as zero.
    quantiles_ : ndarray of shape (129, n_kept)
        Weighted quantiles of each scaled column, at evenly spaced levels; of a table of more
        than 8,192 rows, from as many of them, drawn at random.
    ranges_ : ndarray of shape (2, n_features)
        Smallest and largest number of each column.

    Shape
    -----
    (n, n_features) -> (n, n_kept), in float64
    """

    dtypes: ClassVar[list[type]] = [np.float64, np.float32]
    of_images: ClassVar[bool] = False
    arguments: ClassVar[tuple[str, ...]] = ("scale_inputs", "extrapolation")
    names: Any = None  # of the columns, where they have some

    columns: Tensor
    points: Tensor
    values: Tensor
    slopes: Tensor
    last_piece: Tensor
    units: Tensor
    silent: Tensor
    level: Tensor
    spread: Tensor

    def __init__(self, kind: ScaleInputs = "auto", extrapolation: str = "linear") -> None:
        super().__init__()
        self.kind, self.strict = kind, extrapolation == "error"
        self.farthest = _FARTHEST[torch.float64]

    def fit(self, rows: Rows, dtype: torch.dtype = torch.float64) -> Self:
        """Find what the columns are mapped by, for a network of this dtype.

        Raises
        ------
        ValueError
            For columns that are too small or too large to be left unscaled.
        """
        n, d = len(rows.y), rows.X.shape[1]
        weight = np.ones(n) if rows.weight is None else rows.weight
        some = None  # sorting every column of a large table takes longer than training
        if n > QUANTILE_ROWS:
            some = np.random.default_rng(0).choice(n, QUANTILE_ROWS, replace=False)
        self.ranges_, units = np.empty((2, d)), np.ones(d)
        kept, pieces, few = [], [], []
        for j in range(d):
            column = rows.X[:, j] if rows.index is None else rows.X[rows.index, j]
            column = column.astype(np.float64)
            low, high = column.min(), column.max()
            self.ranges_[:, j] = low, high
            # A power of two, in which nothing over- or underflows.
            largest = max(abs(low), abs(high))
            units[j] = np.exp2(-np.clip(np.frexp(largest)[1], -1000, 1000))
            if high * units[j] - low * units[j] <= _ROUNDING * largest * units[j]:
                continue
            kept.append(j)
            column *= units[j]
            pieces.append(_fit_column(column, weight, self.kind))
            few.append(column if some is None else column[some])
        if not kept:  # the first column, as zero
            level = self.ranges_[0, 0] * units[0]
            kept, few = [0], [np.full(n if some is None else len(some), level)]
            pieces = [(level + np.array([-1.0, 1.0]), np.zeros(2))]
        self.kept_ = np.array(kept)
        self.farthest = _FARTHEST[dtype]
        if self.kind is None:
            self._check_unscaled(_UNSCALED[dtype])
            pieces = [(np.array([0.0, 1.0]) * units[j], np.array([0.0, 1.0])) for j in kept]
        some_weights = weight if some is None else weight[some]
        quantiles = weighted_quantiles(few, some_weights, _LEVELS)
        self.unscaled_quantiles = quantiles / units[self.kept_]
        self._set_pieces(pieces, units)
        return self

    def _check_unscaled(self, bound: float) -> None:
        largest = np.abs(self.ranges_).max(axis=0)
        spread = self.ranges_[1] / 2 - self.ranges_[0] / 2
        for j in self.kept_:
            if largest[j] > bound or spread[j] < 1 / bound:
                what, is_, number = "small", "spreads by", 2 * spread[j]
                if largest[j] > bound:
                    what, is_, number = "large", "holds numbers up to", largest[j]
                raise ValueError(
                    f"scale_inputs=None: {self.called(j)} {is_} {number:.1e}, which is too {what} "
                    "to be left as it is; use scale_inputs='auto'."
                )

    def _set_pieces(self, pieces: list[tuple[Array, Array]], units: Array) -> None:
        """Break points as padded tables, in units (powers of two) in which nothing overflows."""
        longest = 2
        for x, _ in pieces:
            longest = max(longest, len(x))
        shape = len(pieces), longest
        points, values = np.full(shape, np.inf), np.zeros(shape)
        slopes, last = np.zeros(shape), np.zeros((shape[0], 1), dtype=np.int64)
        for row, (x, y) in enumerate(pieces):
            points[row, : len(x)], values[row, : len(y)] = x, y
            slopes[row, : len(x) - 1] = np.diff(y) / np.diff(x)
            last[row] = len(x) - 2
        kept, silent = self.kept_, np.ones(len(units), dtype=bool)
        silent[kept] = False
        level = self.ranges_[0, silent]
        self.set_buffers(
            points=points,
            values=values,
            slopes=slopes,
            last_piece=last,
            columns=kept,
            units=units[kept],
            silent=np.flatnonzero(silent),
            level=level,
            spread=_ROUNDING * np.abs(level),
        )

    @property
    def quantiles_(self) -> Array:
        """Weighted quantiles of each scaled column, (129, n_kept)."""
        table = np.repeat(self.ranges_[:1], N_QUANTILES, axis=0)
        table[:, self.kept_] = self.unscaled_quantiles
        return self.transform(table)

    @property
    def points_(self) -> list[Array]:
        """Break points of each kept column, in its units."""
        pieces = zip(self.points, self.last_piece[:, 0].tolist(), self.units, strict=True)
        return [(points[: last + 2] / unit).numpy() for points, last, unit in pieces]

    @property
    def values_(self) -> list[Array]:
        """What the break points of each kept column are mapped to."""
        pieces = zip(self.values, self.last_piece[:, 0].tolist(), strict=True)
        return [values[: last + 2].numpy() for values, last in pieces]

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.points.dtype)
        if self.strict:
            moved = ((x[:, self.silent] - self.level).abs() > self.spread).any(0)
            if bool(moved.any()):
                column = self.called(int(self.silent[moved][0]))
                raise ValueError(
                    f"In training {column} was constant; that it has another value now, "
                    'extrapolation="error" forbids. Use another extrapolation, or leave it out.'
                )
        if len(self.columns) < x.shape[1]:
            x = x[:, self.columns]
        x = x * self.units
        if self.points.shape[1] == 2:  # straight lines
            scaled = self.values[:, 0] + (x - self.points[:, 0]) * self.slopes[:, 0]
        else:
            x = x.T.contiguous()
            piece = torch.searchsorted(self.points, x, right=True) - 1
            piece = torch.minimum(piece.clamp(min=0), self.last_piece)
            left, value = self.points.gather(1, piece), self.values.gather(1, piece)
            scaled = (value + (x - left) * self.slopes.gather(1, piece)).T
        farthest = min(self.farthest, torch.finfo(scaled.dtype).max)
        return scaled.clamp(-farthest, farthest)

    def transform(self, X: NDArray[Any]) -> Array:
        """``forward`` of an array."""
        return self(torch.tensor(np.ascontiguousarray(X))).numpy()

    def inverse_transform(self, X: NDArray[Any]) -> Array:
        """From network inputs (n, n_kept) to columns (n, n_features); constant ones as they were.

        The inverse of ``transform``.
        """
        out = np.repeat(self.ranges_[:1], len(X), axis=0)
        X = np.asarray(X, dtype=np.float64)
        for k, (j, last) in enumerate(zip(self.kept_, self.last_piece[:, 0].tolist(), strict=True)):
            points, values = (t[k, : last + 2].numpy() for t in (self.points, self.values))
            if values[0] < values[-1]:
                piece = np.searchsorted(values, X[:, k], side="right") - 1
                piece = np.clip(piece, 0, last)
                slope = np.diff(points) / np.diff(values)
                found = points[piece] + (X[:, k] - values[piece]) * slope[piece]
                out[:, j] = found / self.units[k].numpy()
        return out

    def network_shape(
        self, rows: Rows, estimator: Any, widths: tuple[int, ...], n_outputs: int
    ) -> dict[str, Any]:
        """What the network is told of its inputs and outputs."""
        knots: Any = (-1.0, 1.0)
        by_range = self.kind in ("auto", "minmax", "quantile") or not self.slopes.any()
        if estimator.knots == "quantile":
            scaled = self.transform(rows.chosen())
            knots = quantile_knots(scaled, estimator.grid_size, rows.weight)
        elif not by_range:
            knots = self.transform(self.ranges_).T
        sizes = [len(self.kept_), *widths, n_outputs]
        return {"layer_sizes": sizes, "knots": knots, "n_members": int(estimator.n_estimators)}

    def tensor(self, rows: Rows, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The network's inputs (n, n_kept), made some rows at a time."""
        X, index, n = rows.X, rows.index, len(rows.y)
        table = torch.empty(n, len(self.kept_), device=device, dtype=dtype)
        step = max(1, _CHUNK // X.shape[1])
        for start in range(0, n, step):
            chunk = slice(start, min(start + step, n))
            some = np.ascontiguousarray(X[chunk] if index is None else X[index[chunk]])
            table[chunk] = self(torch.from_numpy(some if some.flags.writeable else some.copy()))
        return table

    def beyond(self, rows: Rows) -> int | None:
        """A column in which all of these rows lie outside the range of training, if any.

        Of fewer than ten rows, by more than its width.
        """
        for j in self.kept_:
            low, high = self.ranges_[:, j]
            margin = 0.0 if len(rows) >= 10 else high - low
            column = rows.column(j)
            if ((column < low - margin) | (column > high + margin)).all():
                return int(j)
        return None

    def first_row(self) -> Array:
        """A row as in training, (1, n_features)."""
        return self.ranges_[:1]

    def called(self, j: int) -> str:
        """A column's name, or its number, as messages have it."""
        return f"column {j if self.names is None else repr(self.names[j])}"

    def farthest_column(self, row: NDArray[Any]) -> int:
        """The column of a row that lies farthest out."""
        return int(self.kept_[np.abs(self.transform(row[None])[0]).argmax()])

    @staticmethod
    def layers(estimator: Any) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Widths of the hidden layers, checked, and settings of the network: none."""
        sizes = check_widths("hidden_layer_sizes", estimator.hidden_layer_sizes, single=True)
        return sizes, {}

    @property
    def fitted(self) -> dict[str, Any]:
        """What the estimator shows of it, beside the scaling itself."""
        return {}


def _fit_column(column: Array, weight: Array, kind: ScaleInputs) -> tuple[Array, Array]:
    """Break points of a column that varies, and what they are mapped to."""
    low, high = ends = np.array([column.min(), column.max()])
    onto = np.array([-1.0, 1.0])
    if kind in ("minmax", None):
        return ends, onto
    if kind == "standard":
        mean, deviation = mean_and_spread(column, weight)
        deviation = max(
            deviation, _ROUNDING * max(-low, high)
        )  # of a row that outweighs all others
        return mean + deviation * onto, onto
    values, inverse = np.unique(column, return_inverse=True)
    mass = np.bincount(inverse, weights=weight)
    middle = np.cumsum(mass) - 0.5 * mass
    rank = 2 * (middle - middle[0]) / (middle[-1] - middle[0]) - 1  # mid-ranks, on [-1, 1]
    points, ranks = values, rank
    if len(values) > N_QUANTILES:  # at most 129 of them
        points = np.unique(np.interp(np.linspace(-1, 1, N_QUANTILES), rank, values))
        ranks = np.interp(points, values, rank)
    if kind == "quantile":
        return points, ranks
    position = 2 * (points - low) / (high - low) - 1
    if np.abs(ranks - position).max() <= 2 * _SKEWED:
        return ends, onto
    return points, (ranks + position) / 2


def weighted_quantiles(columns: Iterable[Array], weight: Array | None, levels: Any) -> Array:
    """Of each column (n,): (len(levels), n_columns).

    Each value holds for its share of the weights, with ramps between. A ramp is as wide as the
    smaller share beside it: for distinct values of equal weight, this is linear interpolation,
    and a value that many rows have stays a plateau.
    """
    found = []
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        mass = np.bincount(inverse, weights=weight).astype(np.float64)
        ends = np.cumsum(mass)
        ramp = np.r_[0.0, np.minimum(mass[1:], mass[:-1]) / 2, 0.0]
        plateaus = np.stack([ends - mass + ramp[:-1], ends - ramp[1:]], axis=1) / ends[-1]
        found.append(np.interp(levels, plateaus.ravel(), np.repeat(values, 2)))
    return np.stack(found, axis=1)


def mean_and_spread(values: Array, weight: Array | None) -> tuple[Any, Any]:
    """Weighted mean and standard deviation by column, of numbers of any size."""
    exponent = np.frexp(np.abs(values).max(axis=0))[1]
    unit = np.exp2(-np.clip(exponent, -1000, 1000))  # a power of two rounds nothing
    shares = values * unit
    mean = np.average(shares, axis=0, weights=weight)
    spread = np.sqrt(np.average((shares - mean) ** 2, axis=0, weights=weight))
    return mean / unit, spread / unit
