"""Columns as they come: any table as numbers, levels of categories by their positions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_metakan.estimators.inputs.frames import (
    Table,
    as_table,
    floats,
    kind_of_column,
    kind_of_type,
    listed,
    refusal,
    shown,
)
from sklearn_metakan.estimators.inputs.stored import read_whole

MOST_DENSE = 2**30  # bytes that a frame with sparse columns may take
_PLAIN = ("number", "flag")
_SINGLE = ("float32", "float16", "halffloat", "float[")  # of Arrow's float in pandas

# What to do about text where it is not taken as categories.
_IN_ARRAYS = (
    " Text in a DataFrame is taken as categories, with categorical_features='from_dtype'; columns "
    "of an array or a list may be named there by number. A step of a pipeline hands a DataFrame on "
    "after set_output(transform='pandas')."
)
_NOT_NAMED = " To have text taken as categories, name such columns in categorical_features."
_NUMBERS_BEFORE = " In training these columns held numbers."


@dataclass
class ColumnReader:
    """Reads tables as floats: NaN where something is missing, positions in place of categories.

    Parameters
    ----------
    categorical_features : "from_dtype", None or array-like
        Which columns are categories: those of a frame's text, categories and truth values; none;
        or a mask, indices or names.
    of_pixels : bool
        Whether nothing can be a category.

    Attributes
    ----------
    levels : dict of lists
        Of each column of categories, by position, what occurs in it, sorted where it can be.
    names, categorical : list
        Of all columns; positions of those of categories. Fixed, as levels are, by the first table.
    """

    categorical_features: Any = None
    of_pixels: bool = False
    levels: dict[int, list[Any]] = field(default_factory=dict)
    names: list[Any] = field(default_factory=list)
    categorical: list[int] = field(default_factory=list)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def read(self, X: Any, name: str, reset: bool = True) -> Any:
        """The table as scikit-learn validates it: as it is, if that is numbers, or as floats.

        Raises TypeError, ValueError for what is no table, and columns that are neither numbers nor
        categories.

        Parameters
        ----------
        X : table of any kind
        name : str
            Of the estimator, for messages.
        reset : bool
            Whether it decides which columns are categories, and their levels.
        """
        if isinstance(X, np.ma.MaskedArray):
            X = np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)
        if self.of_pixels and isinstance(X, np.ndarray) and X.dtype.kind in "biuf":
            return X
        table = as_table(read_whole(X), name)
        if not table.types:  # scikit-learn says what is wrong
            return X
        if not reset and not self._fits(table):
            return _framed(np.zeros((1, len(table.types))), table)
        kinds = {column: kind_of_column(table, column) for column in table.types}
        if reset:
            self.names, self.levels = [*table.types], {}
            self.categorical = self._categorical(table, kinds)
        self._refuse(table, kinds, name, reset)
        easy = all(kind_of_type(each) in _PLAIN for each in table.types.values())
        if easy and not self.categorical:
            return table.columns if table.is_frame else X
        return _framed(self._floats(table, reset), table)

    def _fits(self, table: Table) -> bool:
        """Whether the columns are those of the first table; else scikit-learn says what is not."""
        names = [*table.types]
        both = all(isinstance(each, str) for each in [*names, *self.names])
        return len(names) == len(self.names) and (not both or names == self.names)

    def _categorical(self, table: Table, kinds: dict[Any, tuple[str, str]]) -> list[int]:
        """Positions of the columns that are categories."""
        names, wanted = [*table.types], self.categorical_features
        if wanted is None:
            return []
        if isinstance(wanted, str) and wanted == "from_dtype":
            if not table.is_frame:
                return []
            return [j for j, each in enumerate(names) if kinds[each][0] in ("text", "flag")]
        given = np.asarray(wanted)
        if given.dtype.kind == "b":
            if given.shape != (len(names),):
                raise ValueError(
                    f"categorical_features as a mask must have the shape ({len(names)},), the "
                    f"columns of X, got {given.shape}."
                )
            return np.flatnonzero(given).tolist()
        found = []
        for each in given.tolist() if given.ndim == 1 else [wanted]:
            if isinstance(each, str) and table.is_frame and each in names:
                found.append(names.index(each))
            elif isinstance(each, int) and 0 <= each < len(names):
                found.append(each)
            else:
                by_name = f"name, {listed([*map(shown, names)])}, or by " if table.is_frame else ""
                raise ValueError(
                    "categorical_features must be 'from_dtype', None, a mask, or list columns of "
                    f"X by {by_name}number, below {len(names)}; got {shown(each)}."
                )
        return sorted({*found})

    def _refuse(
        self, table: Table, kinds: dict[Any, tuple[str, str]], name: str, reset: bool
    ) -> None:
        """Raise for columns that are neither numbers nor categories."""
        odd = {}
        for j, (column, (kind, what)) in enumerate(kinds.items()):
            of_category = j in self.categorical and kind != "nested"
            if of_category or kind in _PLAIN or (kind == "sparse" and _fits_dense(table)):
                continue
            odd[column] = kind, what
        if odd:
            advice = _NOT_NAMED if table.is_frame else _IN_ARRAYS
            advice = advice if reset else _NUMBERS_BEFORE
            raise refusal(table, odd, "" if self.of_pixels else advice, name)

    def _floats(self, table: Table, reset: bool) -> NDArray[Any]:
        """(n, columns), float32 if all its numbers are."""
        of_numbers = [t for j, t in enumerate(table.types.values()) if j not in self.categorical]
        single = [t.lower().startswith(_SINGLE) or t.lower() == "float" for t in of_numbers]
        dtype = np.float32 if single and all(single) else np.float64
        found = np.empty((len(table.columns[next(iter(table.types))]), len(table.types)), dtype)
        with np.errstate(over="ignore"):  # check_table says so
            for j, column in enumerate(table.types):
                values = table.columns[column]
                is_category = j in self.categorical
                found[:, j] = self._positions(j, values, reset) if is_category else _numbers(values)
        return found

    def _positions(self, j: int, values: Any, reset: bool) -> NDArray[np.float64]:
        """Of each value among the levels; NaN where it is missing, -1 where it is unknown."""
        codes, unique = pd.factorize(values if isinstance(values, pd.Series) else _objects(values))
        known = [each.item() if isinstance(each, np.generic) else each for each in _objects(unique)]
        if reset:
            self.levels[j] = _sorted(known)
        index = pd.Index(self.levels[j], dtype=object).get_indexer(pd.Index(known, dtype=object))
        return np.append(index.astype(np.float64), np.nan)[codes]  # the last stands for code -1


def _objects(values: Any) -> NDArray[Any]:
    values = values.to_numpy() if hasattr(values, "to_numpy") else values
    return np.asarray(values, dtype=object)


def _sorted(levels: list[Any]) -> list[Any]:
    try:
        return sorted(levels)
    except TypeError:  # of several types
        return levels


def _numbers(values: Any) -> NDArray[np.float64]:
    """A column of numbers, nullable or not, or of objects that are numbers and gaps."""
    if isinstance(values, pd.Series) and kind_of_type(str(values.dtype)) in (*_PLAIN, "sparse"):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return floats(values)


def _fits_dense(table: Table) -> bool:
    first: Sequence[Any] = table.columns[next(iter(table.types))]
    return len(first) * len(table.types) * 8 <= MOST_DENSE


def _framed(X: NDArray[Any], table: Table) -> Any:
    """With the names that the table has."""
    return pd.DataFrame(X, columns=[*table.types], copy=False) if table.is_frame else X
