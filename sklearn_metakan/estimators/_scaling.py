"""Weighted scaling of inputs and target, inside the estimators."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ScaleInputs = Literal["auto", "minmax", "standard", "quantile"] | None

N_QUANTILES = 129
QUANTILE_ROWS = 2**13
_NORMAL_MIDDLE = 1.349  # quartile to quartile, in standard deviations of a normal distribution
_FINE = 1e-3  # share of a target's spread that rounding may be
_SKEWED = 0.1  # largest gap between rank and position that still counts as even


class InputScaler:
    """Maps each column onto about [-1, 1] by a strictly increasing, piecewise linear function.

    Outside the range of the data the first and last pieces go on, so that ``transform`` and
    ``inverse_transform`` are each other's inverse everywhere.

    Parameters
    ----------
    kind : {"auto", "minmax", "standard", "quantile", None}
        "minmax": the range onto [-1, 1]. "standard": mean 0, standard deviation 1.
        "quantile": ranks onto [-1, 1]. "auto": minmax for columns spread evenly over their
        range; the mean of minmax and quantile for the others. None: unchanged.

    Attributes
    ----------
    points_, values_ : list of ndarray
        For each column the break points in its units, and what they are mapped to.
    quantiles_ : ndarray of shape (129, n_features)
        Weighted quantiles of each scaled column, at evenly spaced levels; of a table of more
        than 8,192 rows, from as many of them, drawn at random.
    """

    def __init__(self, kind: ScaleInputs = "auto") -> None:
        self.kind = kind

    def fit(self, X: Array, sample_weight: Array | None = None) -> "InputScaler":
        X = np.asarray(X, dtype=np.float64)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        pieces = [self._fit_column(column, weight) for column in X.T]
        self.points_ = [points for points, _ in pieces]
        self.values_ = [values for _, values in pieces]
        levels = np.linspace(0, 1, N_QUANTILES)
        some: Any = slice(None)  # sorting every column of a large table takes longer than training
        if len(X) > QUANTILE_ROWS:
            some = np.random.default_rng(0).choice(len(X), QUANTILE_ROWS, replace=False)
        columns, weight = X[some].T, weight[some]
        raw = np.stack([_quantiles(column, weight, levels) for column in columns], axis=1)
        self.quantiles_ = self.transform(raw)
        return self

    def _fit_column(self, column: Array, weight: Array) -> tuple[Array, Array]:
        low, high = column.min(), column.max()
        if self.kind is None:
            return np.array([0.0, 1.0]), np.array([0.0, 1.0])
        ends = np.stack(column_ranges(column))
        if ends[0] < low:  # no spread: only centred
            return ends, np.array([-1.0, 1.0])
        if self.kind == "standard":
            mean, std = _mean_and_spread(column, weight)
            return np.array([mean - std, mean + std]), np.array([-1.0, 1.0])
        if self.kind == "minmax":
            return ends, np.array([-1.0, 1.0])
        points, ranks = _rank_curve(column, weight)
        position = 2 * (points - low) / (high - low) - 1
        if self.kind == "quantile":
            return points, ranks
        if np.abs(ranks - position).max() <= 2 * _SKEWED:
            return ends, np.array([-1.0, 1.0])
        return points, (ranks + position) / 2

    def transform(self, X: Array) -> Array:
        X = np.asarray(X, dtype=np.float64)
        return self._map(X, self.points_, self.values_)

    def inverse_transform(self, X: Array) -> Array:
        return self._map(np.asarray(X, dtype=np.float64), self.values_, self.points_)

    @staticmethod
    def _map(X: Array, sources: list[Array], targets: list[Array]) -> Array:
        if all(len(source) == 2 for source in sources):  # straight lines: all columns at once
            start, stop = np.transpose(sources)
            first, last = np.transpose(targets)
            return first + (X - start) * ((last - first) / (stop - start))
        out = np.empty_like(X)
        for j, (source, target) in enumerate(zip(sources, targets, strict=True)):
            piece = np.clip(np.searchsorted(source, X[:, j], side="right") - 1, 0, len(source) - 2)
            slope = np.diff(target) / np.diff(source)
            out[:, j] = target[piece] + (X[:, j] - source[piece]) * slope[piece]
        return out


def column_ranges(X: Array) -> tuple[Array, Array]:
    """Ends of the columns' ranges, moved apart where a column has no spread beyond rounding."""
    low, high = X.min(axis=0), X.max(axis=0)
    largest = np.maximum(abs(low), abs(high))
    least = np.maximum(1e-12 * largest, np.finfo(np.float64).tiny)  # or dividing by it overflows
    margin = np.where(high - low <= least, np.maximum(1.0, 1e-6 * largest), 0.0)
    return low - margin, high + margin


def _mean_and_spread(values: Array, weight: Array | None) -> tuple[Any, Any]:
    """Weighted mean and standard deviation by column, of numbers of any size."""
    mean = np.average(values, axis=0, weights=weight)
    largest = np.abs(values - mean).max(axis=0)
    share = (values - mean) / np.where(largest > 0, largest, 1.0)
    return mean, largest * np.sqrt(np.average(share**2, axis=0, weights=weight))


def _quantiles(column: Array, weight: Array, levels: Array) -> Array:
    """Weighted quantiles: each value holds for its share of the weights, with ramps between.

    A ramp is as wide as the smaller share beside it: for distinct values of equal weight,
    this is linear interpolation, and a value that many rows have stays a plateau.
    """
    values, mass = _distinct(column, weight)
    ends = np.cumsum(mass)
    ramp = np.r_[0.0, np.minimum(mass[1:], mass[:-1]) / 2, 0.0]
    plateaus = np.stack([ends - mass + ramp[:-1], ends - ramp[1:]], axis=1) / ends[-1]
    return np.interp(levels, plateaus.ravel(), np.repeat(values, 2))


def _rank_curve(column: Array, weight: Array) -> tuple[Array, Array]:
    """At most 129 distinct values of a column and their mid-ranks, scaled onto [-1, 1]."""
    values, mass = _distinct(column, weight)
    middle = np.cumsum(mass) - 0.5 * mass
    rank = 2 * (middle - middle[0]) / (middle[-1] - middle[0]) - 1
    if len(values) > N_QUANTILES:
        points = np.unique(np.interp(np.linspace(-1, 1, N_QUANTILES), rank, values))
        return points, np.interp(points, values, rank)
    return values, rank


def _distinct(column: Array, weight: Array) -> tuple[Array, Array]:
    values, inverse = np.unique(column, return_inverse=True)
    return values, np.bincount(inverse, weights=weight).astype(np.float64)


class TargetScaler:
    """``(y - location) / scale`` for each output, with weighted statistics.

    Parameters
    ----------
    kind : {"standard", "robust", "mean", None}
        "standard": mean and standard deviation; "robust": median, and the range of the
        middle half in units of a normal distribution's deviation (the standard deviation
        where that range is zero); "mean": divide by the mean, for non-negative targets
        under a log link; None: unchanged.
    """

    def __init__(self, kind: Literal["standard", "robust", "mean"] | None) -> None:
        self.kind = kind

    def fit(self, y: Array, sample_weight: Array | None = None) -> "TargetScaler":
        y = np.asarray(y, dtype=np.float64)
        mean, spread = _mean_and_spread(y, sample_weight)
        self.location_: Any = np.zeros_like(mean)
        self.scale_: Any = np.ones_like(mean)
        if self.kind == "robust":
            weight = np.ones(len(y)) if sample_weight is None else sample_weight
            quartiles = [_quantiles(output, weight, np.array([0.25, 0.5, 0.75])) for output in y.T]
            low, self.location_, high = np.transpose(quartiles)
            middle = (high - low) / _NORMAL_MIDDLE
            spread = np.where(middle > 1e-12 * np.abs(self.location_), middle, spread)
        elif self.kind == "standard":
            self.location_ = mean
        if self.kind in ("standard", "robust"):
            size = np.abs(self.location_)
            constant = np.where(size > 0, np.minimum(size, 1.0), 1.0)  # noise stays small beside it
            self.scale_ = np.where(spread > 1e-12 * np.abs(mean), spread, constant)
        elif self.kind == "mean":
            self.scale_ = np.where(mean > 0, mean, 1.0)
        return self

    def transform(self, y: Array) -> Array:
        return (np.asarray(y, dtype=np.float64) - self.location_) / self.scale_

    def inverse_transform(self, y: Array) -> Array:
        return y * self.scale_ + self.location_

    def fits(self, dtype: np.dtype[Any]) -> bool:
        """Whether numbers of this type tell the target's values apart, and reach them."""
        limits = np.finfo(dtype)
        location, scale = np.abs(self.location_), self.scale_
        fine = limits.eps * location <= _FINE * scale
        reaches = np.maximum(location, scale) <= _FINE * limits.max
        return bool((fine & reaches & (scale >= limits.tiny / _FINE)).all())
