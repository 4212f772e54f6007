"""Tables as their owner hands them over, of whose values new rows are put together."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_metakan.inspection.holders import column_number

FEW_VALUES = 10  # of a column of numbers that has points, and no curve
_NUMBERS = ("integer", "floating", "mixed-integer-float", "boolean")
MOST_LEVELS = 20  # of other columns: the most frequent ones


class Table:
    """Rows of a pandas or polars table, or an array, and what is put together of their values.

    Values are only ever taken from rows that there are, so that types, levels and missing values
    are as their owner has them.

    Raises ValueError for what is no table, or one without rows.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_columns)

    Attributes
    ----------
    names : list of str
        Of the columns; empty for an array.
    """

    def __init__(self, X: Any) -> None:
        self.is_frame = hasattr(X, "columns") and hasattr(X, "shape")
        self.X: Any = X if self.is_frame else np.asarray(X)
        if not self.is_frame and self.X.ndim != 2:
            raise ValueError(
                f"X must be a table of shape (n_samples, n_features), got shape {self.X.shape}; "
                "a single row is X[:1] or X.reshape(1, -1)."
            )
        self.n_rows, self.n_columns = self.X.shape
        self.names = [*map(str, X.columns)] if self.is_frame else []
        if self.n_rows == 0:
            raise ValueError("X must have at least one row, got none.")

    def name(self, j: int) -> str:
        return self.names[j] if self.names else f"column {j}"

    def number(self, column: Any) -> int:
        """Of a column that is given by name or number; ValueError where there is none."""
        return column_number(column, self.names, self.n_columns)

    def values(self, j: int) -> NDArray[Any]:
        """A column: numbers as float64, NaN where there is none; others as objects."""
        column = self._column(j)
        if pd.api.types.is_numeric_dtype(column.dtype):
            return column.to_numpy(np.float64, na_value=np.nan)
        if pd.api.types.infer_dtype(column) in _NUMBERS:  # among objects
            return column.astype(np.float64).to_numpy()
        return column.astype(object).to_numpy()

    def _column(self, j: int) -> pd.Series:
        if not self.is_frame:
            return pd.Series(self.X[:, j])
        if hasattr(self.X, "iloc"):
            return self.X.iloc[:, j]
        return pd.Series(self.X[self.X.columns[j]].to_numpy())

    def compose(self, index: NDArray[np.intp]) -> Any:
        """A table of the same kind of these rows, (n,), or of single values, (n, n_columns).

        Value (k, j) is that of row ``index[k, j]`` in column j.
        """
        if index.ndim == 1:
            return self.X.iloc[index] if hasattr(self.X, "iloc") else self.X[index]
        if not self.is_frame:
            return np.take_along_axis(self.X, index, axis=0)
        if hasattr(self.X, "iloc"):
            parts = [
                self.X.iloc[index[:, j], j].reset_index(drop=True) for j in range(self.n_columns)
            ]
            made = pd.DataFrame(dict(enumerate(parts)))
            made.columns = self.X.columns
            return made
        return type(self.X)(
            {name: self.X[name][rows] for name, rows in zip(self.X.columns, index.T, strict=True)}
        )

    def joined(self, other: "Table") -> "Table":
        """The rows of both.

        Raises ValueError for tables of other columns or another kind.
        """
        if (
            type(self.X) is not type(other.X)
            or self.names != other.names
            or (self.n_columns != other.n_columns)
        ):
            raise ValueError(
                f"background must be a table like X: a {type(self.X).__name__} with its "
                f"{self.n_columns} columns in their order."
            )
        if not self.is_frame:
            return Table(np.concatenate([self.X, other.X]))
        if hasattr(self.X, "iloc"):
            return Table(pd.concat([self.X, other.X], ignore_index=True))
        return Table(self.X.vstack(other.X))

    def points(self, j: int, n_points: int) -> "Points":
        """Where the effect of a column is asked for: quantiles of numbers, or levels."""
        values = self.values(j)
        missing = np.asarray(pd.isna(values))
        known = values[~missing]
        is_number = values.dtype == np.float64
        if is_number:
            distinct = np.unique(known)
        else:
            frequent = pd.Series(known).value_counts()[:MOST_LEVELS].index
            distinct = np.array(sorted(frequent, key=str), dtype=object)
        few = not is_number or len(distinct) <= FEW_VALUES
        if not few:
            levels = np.linspace(0, 1, n_points)
            distinct = np.unique(np.quantile(known, levels, method="inverted_cdf"))
        number_of = {value: k for k, value in enumerate(distinct.tolist())}
        if few:
            place = np.array([number_of.get(value, -1) for value in values.tolist()])
        else:
            place = np.searchsorted(distinct, values)
        place[missing] = -1
        first = {int(k): row for row, k in reversed([*enumerate(place)])}
        if not few:  # a point is the largest value of its place
            order = np.argsort(values)
            first = dict(enumerate(order[np.searchsorted(values[order], distinct)].tolist()))
        rows = np.array([first[k] for k in range(len(distinct))], dtype=np.intp)
        return Points(distinct, rows, place, missing, is_number, few)


class Points(NamedTuple):
    """Values of a column at which its effect is asked for, in order.

    Attributes
    ----------
    values : ndarray of shape (n_points,)
        Numbers, or levels.
    rows : ndarray of shape (n_points,)
        A row of the table that has this value.
    place : ndarray of shape (n_rows,)
        For each row, the first point that its value does not exceed, or the one that it has;
        -1 for missing and rare values.
    missing : ndarray of shape (n_rows,)
        Which rows have no value.
    is_number, is_few : bool
        Whether values are numbers; whether they are all that there are.
    """

    values: NDArray[Any]
    rows: NDArray[np.intp]
    place: NDArray[np.intp]
    missing: NDArray[np.bool_]
    is_number: bool
    is_few: bool

    @property
    def there(self) -> NDArray[np.intp]:
        """Rows that have a point."""
        return np.flatnonzero(self.place >= 0)
