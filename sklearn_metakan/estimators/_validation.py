"""Input checks whose messages name the column, the rule, the value and the remedy."""

from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_HELP = """
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((encoder, {columns!r}), remainder="passthrough")
    model = make_pipeline(columns, {name}())"""


def check_columns_are_numbers(X: Any, estimator_name: str) -> None:
    """Raise for text, category and mixed columns, before they are converted to floats."""
    if isinstance(X, pd.DataFrame):
        text = [name for name in X.columns if not _is_numeric_column(X[name])]
        if text:
            columns = [str(name) for name in text]
            raise ValueError(
                f"{estimator_name} needs numbers, but {_plural('column', columns)} hold(s) text "
                "or categories. Encode in a pipeline:"
                + _HELP.format(columns=text, name=estimator_name)
            )
    elif isinstance(X, np.ndarray) and X.dtype.kind in "US":
        raise ValueError(
            f"{estimator_name} needs numbers, but X holds text (dtype {X.dtype}). Convert it with "
            "X.astype(float), or encode it in a pipeline:"
            + _HELP.format(columns=[0], name=estimator_name)
        )
    elif isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 2:
        for column in range(X.shape[1]):
            for value in X[:, column]:
                _check_number(value, column, estimator_name)


def _check_number(value: Any, column: int, estimator_name: str) -> None:
    if isinstance(value, str):
        raise ValueError(
            f"{estimator_name} needs numbers, but column {column} of X holds the text {value!r}. "
            "Encode in a pipeline:" + _HELP.format(columns=[column], name=estimator_name)
        )
    if not isinstance(value, Number | np.bool_ | None):
        raise TypeError(
            f"{estimator_name} needs numbers, but column {column} of X holds {value!r}: float() "
            "argument must be a string or a real number."
        )


def _is_numeric_column(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return True
    return column.dtype == object and all(
        isinstance(value, Number | np.bool_ | None) for value in column
    )


def check_finite(X: NDArray[Any], columns: Any, estimator_name: str) -> None:
    """Raise if X holds NaN or infinity, naming the first such column and how many rows."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    finite = np.isfinite(X)
    if finite.all():
        return
    column = int(np.argmin(finite.all(axis=0)))
    bad = X[:, column]
    what, remedy = "NaN", "Put a SimpleImputer() before it in a pipeline, or drop those rows."
    if not np.isnan(bad).any():
        what, remedy = "infinity (inf)", "Replace such values or drop those rows."
    name = repr(columns[column]) if columns is not None else str(column)
    raise ValueError(
        f"Input X contains {what} in column {name} ({int((~finite[:, column]).sum())} rows); "
        f"{estimator_name} needs finite numbers. {remedy}"
    )


def _plural(word: str, names: list[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{word}{'s' if len(names) > 1 else ''} {listed}"
