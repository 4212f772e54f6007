"""Columns of a table, as a network takes them."""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_metakan.basis import quantile_knots
from sklearn_metakan.estimators.inputs.checks import as_array
from sklearn_metakan.estimators.inputs.columns import ColumnReader
from sklearn_metakan.estimators.inputs.frames import listed, shown
from sklearn_metakan.estimators.inputs.interactions import check_interactions, pair_settings
from sklearn_metakan.estimators.inputs.monotone import check_monotone, monotone_signs
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.scaling import (
    CHUNK,
    N_QUANTILES,
    ROUNDING,
    Array,
    FittedModule,
    Pieces,
    PieceSearch,
    Rule,
    ScaleInputs,
    by_share,
    fit_numbers,
    tables_of_codes,
    tables_of_pieces,
)
from sklearn_metakan.nn import KAN
from sklearn_metakan.ops import hand_back_freed_memory
from sklearn_metakan.training import LARGE_TABLE

QUANTILE_ROWS = 2**13
SCALED_MEMORY = 64.0  # MiB; a scaled copy of a table may take as much on a CPU
_WIDE = 500  # columns of numbers that have fewer functions each
# Cells for "reml": of few rows, and most, of a column and of all; rows with numbers for one more.
_SOLVED_CELLS, _SOLVED_IN_ALL, _ROWS_A_CELL = (32, 128), 1024, 80
_SEARCHED = 512  # rows from which on tables for finding pieces pay off
_TILE, _TILE_ROWS = 2**15, 2**11  # numbers, and rows, that are then scaled at a time
# Scaled numbers end there: far enough out, and what layers make of them can be held. For columns
# that are not scaled, the least and largest spreads whose knots and squared slopes can be.
_FARTHEST = {torch.float32: 1e30, torch.float64: 1e150}
_UNSCALED = {torch.float32: 1e15, torch.float64: 1e100}


class TableInputs(FittedModule):
    """Maps each column onto about [-1, 1] by an increasing, piecewise linear function.

    Outside the range of the data the first and last pieces go on, so that ``transform`` and
    ``inverse_transform`` are each other's inverse everywhere. What is missing stays so (NaN). A
    column that is the same in all rows of training says nothing: it is left out, so that the
    network has no edges for it.

    Columns of categories hold positions of levels, NaN and -1 for one that is unknown; they become
    codes, which are counted from 0 in each column. Levels below ``min_frequency`` share a code,
    which unknown ones have as well; gaps have one of their own. What has no code, because training
    did not see such rows, is NaN.

    Parameters
    ----------
    kind : {"auto", "minmax", "standard", "quantile", None}
        "minmax": the range onto [-1, 1]. "standard": mean 0, standard deviation 1.
        "quantile": ranks onto [-1, 1]. "auto": minmax for columns spread evenly over their
        range; the mean of minmax and quantile for the others, but ranks alone where more than half
        of the rows have one value and 98 % of them lie within a fifth of the range; that value
        counts for twice as much as the others together there. Of more than 10,000 rows, minmax
        also where 98 % lie over nine tenths of the range: rows in clusters, without a tail, whose
        ranks would bend what is smooth. None: unchanged.
    extrapolation : str, default="linear"
        With "error", a constant column that moves raises a ValueError.
    categorical_features : "from_dtype", None or array-like
        See ``ColumnReader``.
    min_frequency : int, float or None
        Rows, or share of the rows, by weight.

    Attributes
    ----------
    reader : ColumnReader
    kept_ : ndarray of shape (n_kept,)
        The columns that vary, those of the network's inputs, numbers first. If no number does, the
        first column stands for all numbers, as zero.
    n_numbers : int
        How many of them are numbers.
    gaps_ : ndarray of shape (n_numbers,)
        Rows in which they are missing, by weight.
    code_counts_ : list of ndarray
        Of each column of categories that is kept, rows by code, by weight.
    atoms_ : ndarray of shape (n_atoms, 4)
        Values that many rows have, of columns of which most rows have one: the column's place in
        ``kept_``, the value, how many rows have it, by weight, and their share.
    quantiles_ : ndarray of shape (129, n_kept)
        Weighted quantiles of each scaled column, at evenly spaced levels, with gaps as its last;
        of a table of more than 8,192 rows, from as many of them, drawn at random. Of categories,
        codes as often as they are.
    ranges_ : ndarray of shape (2, n_features)
        Smallest and largest number of each column.

    Shape
    -----
    (n, n_features) -> (n, n_kept), in float64
    """

    dtypes: ClassVar[list[type]] = [np.float64, np.float32]
    of_images: ClassVar[bool] = False
    arguments: ClassVar[tuple[str, ...]] = (
        "scale_inputs",
        "extrapolation",
        "categorical_features",
        "min_frequency",
    )
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
    coded: Tensor
    codes: Tensor
    first_code: Tensor
    n_levels: Tensor
    kept_: NDArray[np.intp]
    n_numbers: int
    gaps_: Array
    code_counts_: list[Array]
    atoms_: Array
    pairs_: list[tuple[int, int]] = []

    def __init__(
        self,
        kind: ScaleInputs = "auto",
        extrapolation: str = "linear",
        categorical_features: Any = None,
        min_frequency: float | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.strict = kind, extrapolation == "error"
        self.reader, self.min_frequency = ColumnReader(categorical_features), min_frequency
        self.farthest = _FARTHEST[torch.float64]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "reader" not in state and "ranges_" in state:  # of a file without categories
            names = range(self.ranges_.shape[1]) if self.names is None else self.names
            self.reader, self.min_frequency = ColumnReader(names=[*names]), None
            self.n_numbers, self.code_counts_ = len(self.kept_), []
            self.gaps_ = np.zeros(self.n_numbers)
            self.set_buffers(**tables_of_codes(self.kept_[self.n_numbers :], []))

    def as_table(self, X: Any, name: str, reset: bool = False) -> Any:
        """X as scikit-learn validates it; with ``reset``, columns and levels are fixed."""
        reader = self.reader
        is_numbers = type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in "biuf"
        named = not isinstance(reader.categorical_features, str | None)
        if is_numbers and not (named if reset else reader.categorical):
            if reset:
                reader.names, reader.categorical = [*range(X.shape[1])], []
            return X
        return reader.read(as_array(X), name, reset)

    def check_table(self, X: NDArray[Any], name: str) -> None:
        """Raise for infinity, naming five such columns and how many rows; gaps (NaN) pass."""
        rows = np.isinf(X).sum(axis=0)
        (odd,) = rows.nonzero()
        if not len(odd):
            return
        names = range(X.shape[1]) if self.names is None else self.names
        held = listed([f"column {shown(names[i])} ({rows[i]} rows)" for i in odd])
        raise ValueError(
            f"Input X contains infinity (inf) or numbers too large for {X.dtype} in {held}; "
            f"{name} needs finite numbers. Replace such values or drop those rows."
        )

    def fit(self, rows: Rows, dtype: torch.dtype = torch.float64, n_rows: int = 0) -> Self:
        """Find what the columns are mapped by, for a network of this dtype.

        ``n_rows`` are those of the whole table.

        Raises ValueError for columns that are too small or too large to be left unscaled.
        """
        n, d, some = len(rows.y), rows.X.shape[1], None
        if n > QUANTILE_ROWS:  # sorting every column of a large table takes longer than training
            some = np.random.default_rng(0).choice(n, QUANTILE_ROWS, replace=False)
        columns = np.setdiff1d(np.arange(d), self.reader.categorical)
        found = fit_numbers(rows, columns, Rule(self.kind, n_rows > LARGE_TABLE, rows.unit), some)
        kept, quantiles, units = found.kept, found.quantiles, found.units
        self.ranges_, self.gaps_, self.atoms_ = found.ranges, np.array(found.gaps), found.atoms
        self.n_numbers, self.farthest = len(kept), _FARTHEST[dtype]
        pieces = found.pieces
        if self.kind is None:
            pieces = self._unscaled(kept, pieces, units, _UNSCALED[dtype])
        self.code_counts_ = []
        codes: dict[int, Array] = {}
        if self.reader.categorical:
            weight = np.ones(n) if rows.weight is None else rows.weight
            codes = self._fit_codes(rows, weight)
            for j in codes:
                quantiles.append(by_share(rows.column(j), weight, N_QUANTILES))
        self.kept_ = np.array([*kept, *codes], dtype=np.intp)
        self.unscaled_quantiles = np.stack(quantiles, axis=1)
        silent = np.setdiff1d(np.arange(d), self.kept_)
        level = self.ranges_[0, silent]
        self.set_buffers(
            **tables_of_pieces(pieces),
            **tables_of_codes(self.kept_[self.n_numbers :], [*codes.values()]),
            columns=self.kept_[: self.n_numbers],
            units=units[kept],
            silent=silent,
            level=level,
            spread=ROUNDING * np.abs(level),
        )
        if some is not None:  # of a large table, what sorting its columns took
            hand_back_freed_memory()
        return self

    def _fit_codes(self, rows: Rows, weight: Array) -> dict[int, Array]:
        """Codes by column: of its levels, of a gap, and of what is unknown; NaN for none."""
        found = {}
        for j in self.reader.categorical:
            positions, last = rows.column(j), len(self.reader.levels[j])
            places = np.where(np.isnan(positions), last, positions).astype(np.intp)
            known = places >= 0
            of_rows = np.bincount(places[known], weight[known], minlength=last + 1)
            counts = of_rows * max(rows.unit, 1.0)
            least = 0.0 if self.min_frequency is None else self.min_frequency
            if not isinstance(least, Integral):
                least = float(least * counts.sum())
            of_levels, codes = counts[:last], np.full(last + 2, np.nan)
            frequent = (of_levels >= least) & (of_levels > 0)
            by_code = of_levels[frequent].tolist()
            codes[:last][frequent] = np.arange(len(by_code))
            rare = of_levels[~frequent].sum()
            if rare:
                codes[:last][~frequent] = codes[last:] = len(by_code)
                by_code.append(rare)
            if counts[last]:
                codes[last] = len(by_code)
                by_code.append(counts[last])
            if len(by_code) > 1:
                found[j] = codes
                self.code_counts_.append(np.array(by_code))
        return found

    def _unscaled(
        self, kept: list[int], pieces: list[Pieces], units: Array, bound: float
    ) -> list[Pieces]:
        """Columns as they are, if numbers within this bound can be left so."""
        largest = np.abs(self.ranges_).max(axis=0)
        spread = self.ranges_[1] / 2 - self.ranges_[0] / 2
        found = []
        for j, (x, y) in zip(kept, pieces, strict=True):
            if spread[j] and (largest[j] > bound or spread[j] < 1 / bound):
                what, is_, number = "small", "spreads by", 2 * spread[j]
                if largest[j] > bound:
                    what, is_, number = "large", "holds numbers up to", largest[j]
                raise ValueError(
                    f"scale_inputs=None: {self.called(j)} {is_} {number:.1e}, which is too {what} "
                    "to be left as it is; use scale_inputs='auto'."
                )
            as_it_is = np.array([0.0, 1.0])
            found.append((as_it_is * units[j], as_it_is) if y.any() else (x, y))
        return found

    @property
    def quantiles_(self) -> Array:
        """Weighted quantiles of each scaled column, (129, n_kept)."""
        table = np.repeat(self.ranges_[:1], N_QUANTILES, axis=0)
        table[:, self.kept_] = self.unscaled_quantiles
        return self.transform(table)

    @property
    def medians_(self) -> Array:
        """Of each scaled column of numbers, of what is there; one that is."""
        numbers = self.quantiles_[:, : self.n_numbers]
        return np.asarray(np.nanquantile(numbers, 0.5, axis=0, method="nearest"))

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
        given = x = x.to(self.points.dtype)
        self._check_constant(x)
        columns, points, values, slopes = self.columns, self.points, self.values, self.slopes
        if len(columns) < x.shape[1] or len(self.coded):
            x = x[:, columns]
        x = x * self.units
        if points.shape[1] == 2:  # straight lines
            numbers = self._held(values[:, 0] + (x - points[:, 0]) * slopes[:, 0])
        else:
            x = x.T.contiguous()
            below = torch.searchsorted(points, x, right=True) - 1
            piece = torch.minimum(below.clamp(min=0), self.last_piece)
            numbers = self._on_pieces(x, piece, slice(None)).T
        return torch.cat([numbers, self._coded(given)], 1) if len(self.coded) else numbers

    def _on_pieces(self, x: Tensor, piece: Tensor, places: slice) -> Tensor:
        """Some columns (b, n), in their units, each number of which lies in this piece."""
        left, value = self.points[places].gather(1, piece), self.values[places].gather(1, piece)
        return self._held(value + (x - left) * self.slopes[places].gather(1, piece))

    def _held(self, scaled: Tensor) -> Tensor:
        farthest = min(self.farthest, torch.finfo(scaled.dtype).max)
        return scaled.clamp(-farthest, farthest)

    def _in_tiles(self, x: Tensor, search: PieceSearch, dtype: torch.dtype) -> Tensor:
        """``forward`` of many rows in this dtype, some columns at a time, which stay in a cache.

        Columns lie one after the other meanwhile: to turn a whole table takes a third of the time.
        """
        self._check_constant(x)
        found = torch.empty(len(self.kept_), len(x), dtype=dtype)
        by_column = (x if len(self.columns) == x.shape[1] else x[:, self.columns]).T.contiguous()
        width = max(1, _TILE // len(x))
        for first in range(0, self.n_numbers, width):
            places = slice(first, min(first + width, self.n_numbers))
            some = by_column[places].to(self.units.dtype) * self.units[places, None]
            found[places] = self._on_pieces(some, search(some, places), places)
        if len(self.coded):
            found[self.n_numbers :] = self._coded(x.to(self.units.dtype)).T
        return found.T

    def _check_constant(self, x: Tensor) -> None:
        if self.strict:
            moved = ((x[:, self.silent] - self.level).abs() > self.spread).any(0)
            if bool(moved.any()):
                column = self.called(int(self.silent[moved][0]))
                raise ValueError(
                    f"In training {column} was constant; that it has another value now, "
                    'extrapolation="error" forbids. Use another extrapolation, or leave it out.'
                )

    def _coded(self, x: Tensor) -> Tensor:
        """Codes of the columns of categories, NaN for what has none."""
        x, last = x[:, self.coded], self.n_levels
        place = torch.where(x.isnan(), last, x).long()
        place = torch.where((place < 0) | (place > last), last + 1, place)
        return self.codes[self.first_code + place]

    def transform(self, X: NDArray[Any]) -> Array:
        """``forward`` of an array."""
        return self(torch.tensor(np.ascontiguousarray(X))).numpy()

    def inverse_transform(self, X: NDArray[Any]) -> Array:
        """From network inputs (n, n_kept) to columns (n, n_features); constant ones as they were.

        The inverse of ``transform`` for numbers; codes become NaN.
        """
        out = np.repeat(self.ranges_[:1], len(X), axis=0)
        numbers = self.kept_[: self.n_numbers]
        X = np.asarray(X, dtype=np.float64)
        for k, (j, last) in enumerate(zip(numbers, self.last_piece[:, 0].tolist(), strict=True)):
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
        grid = _grid(estimator, self.n_numbers, 0 if rows.y.ndim == 1 else len(rows.y))
        by_range = self.kind in ("auto", "minmax", "quantile") or not self.slopes.any()
        if estimator.knots == "quantile":
            knots = self.quantile_knots_of(rows, grid["grid_size"])
        elif not by_range:
            knots = self.transform(self.ranges_)[:, : self.n_numbers].T
            knots[knots[:, 0] >= knots[:, 1]] = -1.0, 1.0  # constant beside gaps
        sizes = [self.n_numbers, *widths, n_outputs]
        found: dict[str, Any] = {"layer_sizes": sizes, "knots": knots, **grid}
        found["n_members"] = int(estimator.n_estimators)
        if estimator.monotonic_cst is not None:
            check_monotone(estimator)
            of_labels = rows.y.ndim == 1
            found["monotone"] = monotone_signs(self, estimator, n_outputs, of_labels)
        atoms = self.atoms_
        if len(atoms):
            atoms = self._scaled_atoms(found.get("monotone"))
        if self.gaps_.any() or self.code_counts_ or len(atoms):
            found["columns"] = {
                "fill": self.medians_,
                "gaps": self.gaps_,
                "levels": self.code_counts_,
                "atoms": atoms,
            }
        interactions = estimator.interactions
        if not isinstance(interactions, int) or interactions:
            check_interactions(interactions, widths)
            exact = estimator.solver == "reml" and rows.y.ndim > 1
            found |= pair_settings(self, rows, interactions, found.get("monotone"), exact)
        return found

    def _scaled_atoms(self, monotone: Any) -> Array:
        """Atoms as the network sees them, none of columns in which it is monotone."""
        found, inputs = self.atoms_.copy(), self.atoms_[:, 0].astype(np.intp)
        rows, table = np.arange(len(inputs)), np.full((len(inputs), self.ranges_.shape[1]), np.nan)
        table[rows, self.kept_[inputs]] = self.atoms_[:, 1]
        found[:, 1] = self.transform(table)[rows, inputs]
        return found if monotone is None else found[monotone[inputs] == 0]

    def quantile_knots_of(self, rows: Rows, grid_size: int) -> Array:
        """Of each column of numbers, at quantiles of what is there."""
        scaled = self.transform(rows.chosen())[:, : self.n_numbers]
        missing = np.isnan(scaled)
        if not missing.any():
            return quantile_knots(scaled, grid_size, rows.weight)
        found = []
        for column, gaps in zip(scaled.T, missing.T, strict=True):
            weight = None if rows.weight is None else rows.weight[~gaps]
            found.append(quantile_knots(column[~gaps, None], grid_size, weight))
        return np.concatenate(found)

    def code_labels(self, j: int) -> list[str]:
        """What to call the codes of a column of categories."""
        place = self.coded.tolist().index(j)
        first, last = int(self.first_code[place]), int(self.n_levels[place])
        labels: list[list[str]] = [[] for _ in self.code_counts_[place]]
        codes = self.codes[first : first + last].tolist()
        for level, code in zip(self.reader.levels[j], codes, strict=True):
            if code == code:
                labels[int(code)].append(str(level))
        names = []
        for each in labels:
            several = f"{len(each)} others" if len(each) > 1 else "missing"
            names.append(each[0] if len(each) == 1 else several)
        return names

    def has_unknown(self, X: NDArray[Any]) -> bool:
        """Whether a validated X may hold what training did not see."""
        if len(self.coded) or not isinstance(X, np.ndarray):  # a stored table
            return True
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isnan(X.sum()))

    def with_means(self, network: KAN) -> KAN:
        """The network, for which what training did not see counts as the mean of its column."""
        return network.settled(torch.from_numpy(self.quantiles_).to(next(network.parameters())))

    def tensor(
        self, rows: Rows, device: torch.device, dtype: torch.dtype, trains: bool = False
    ) -> Tensor:
        """The network's inputs (n, n_kept), made some rows at a time.

        If it ``trains`` on them, a number that was never missing before has its median for gaps.
        """
        X, index, n = rows.X, rows.index, len(rows.y)
        table = torch.empty(n, len(self.kept_), device=device, dtype=dtype)
        step, search = max(1, CHUNK // X.shape[1]), None
        if n >= _SEARCHED and self.points.shape[1] > 2:
            search, step = PieceSearch(self.points), min(_TILE_ROWS, 8 * step)
        for start in range(0, n, step):
            chunk = slice(start, min(start + step, n))
            some = np.ascontiguousarray(X[chunk] if index is None else X[index[chunk]])
            given = torch.from_numpy(some if some.flags.writeable else some.copy())
            scaled = self(given) if search is None else self._in_tiles(given, search, dtype)
            if trains and bool(scaled.sum().isnan()):
                numbers = scaled[:, : self.n_numbers]
                unseen = numbers.isnan() & torch.from_numpy(self.gaps_ == 0)
                numbers[:] = torch.where(unseen, torch.from_numpy(self.medians_), numbers)
            table[chunk] = scaled
        return table

    def beyond(self, rows: Rows) -> int | None:
        """A column in which all of these rows lie outside the range of training, if any.

        Of fewer than ten rows, by more than its width.
        """
        for j in self.kept_[: self.n_numbers]:
            low, high = self.ranges_[:, j]
            column = rows.column(j)
            column = column[~np.isnan(column)]
            margin = 0.0 if len(column) >= 10 else high - low
            if len(column) and ((column < low - margin) | (column > high + margin)).all():
                return int(j)
        return None

    def first_row(self) -> Array:
        """A row as in training, (1, n_features)."""
        return np.asarray(np.nan_to_num(self.ranges_[:1]))

    def called(self, j: int) -> str:
        """A column's name, or its number, as messages have it."""
        return f"column {j if self.names is None else repr(self.names[j])}"

    def farthest_column(self, row: NDArray[Any]) -> int:
        """The column of a row that lies farthest out."""
        scaled = np.nan_to_num(self.transform(row[None])[0, : self.n_numbers])
        return int(self.kept_[np.abs(scaled).argmax()])

    @property
    def fitted(self) -> dict[str, Any]:
        """What the estimator shows of it, beside the scaling itself."""
        levels = self.reader.levels
        categories = {j: np.array(levels[j], dtype=object) for j in levels}
        return {"categories_": categories, "interactions_": [*self.pairs_]}


def _grid(estimator: Any, n_numbers: int, n_targets: int) -> dict[str, int]:
    """Cells and degree, of which "auto" depends on columns, solver, and rows with numbers."""
    is_wide = n_numbers >= _WIDE and estimator.basis == "bspline" and estimator.grid_size == "auto"
    cells, degree, n = estimator.grid_size, estimator.degree, max(n_numbers, 1)
    if cells == "auto" and estimator.solver == "reml" and not is_wide:
        (fewest, most), each = _SOLVED_CELLS, _SOLVED_IN_ALL // n
        cells = max(min(most, n_targets // _ROWS_A_CELL, each), min(fewest, max(5, each)))
    cells = (2 if is_wide else 5) if cells == "auto" else cells
    degree = (2 if is_wide else 3) if degree == "auto" else degree
    return {"grid_size": int(cells), "degree": int(degree)}
