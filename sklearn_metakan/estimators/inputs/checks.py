"""Input checks whose messages name the column, the rule, the value and the remedy."""

from contextlib import suppress
from decimal import Decimal
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import _num_samples

_HELP = """
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((encoder, {columns!r}), remainder="passthrough")
    model = make_pipeline(columns, {name}())"""


_TIMES = "Make numbers of times, such as years, days since a date, or hours of the day"


def check_columns_are_numbers(X: Any, estimator_name: str) -> None:
    """Raise for text, category and mixed columns, before they are converted to floats.

    Columns of a table must have names of their own as well.
    """
    if issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required. Call X.toarray(); in a "
            "pipeline set OneHotEncoder(sparse_output=False), or ColumnTransformer("
            "sparse_threshold=0)."
        )
    if isinstance(X, list | tuple):
        with suppress(ValueError):  # ragged; validate_data says so
            X = np.array(X, dtype=object)
    if isinstance(X, pd.DataFrame):
        if not X.shape[1]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={X.shape}): {estimator_name} needs at least "
                "one column."
            )
        _check_names_are_unique(X.columns)
        other = {name: x for name, x in X.items() if not _is_numeric_column(x)}
        if other:
            raise ValueError(_say_what_columns_hold(other, estimator_name))
        for name, x in X.items():
            if x.dtype == object:
                _check_gaps_convert(x, repr(name), estimator_name)
    elif isinstance(X, np.ndarray) and X.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: X has dtype {X.dtype}. Put real and imaginary parts "
            "into columns of their own."
        )
    elif isinstance(X, np.ndarray) and X.dtype.kind in "mM":
        raise ValueError(
            f"{estimator_name} needs numbers, but X holds times (dtype {X.dtype}). {_TIMES}."
        )
    elif isinstance(X, np.ndarray) and X.dtype.kind in "UST":
        raise ValueError(
            f"{estimator_name} needs numbers, but X holds text (dtype {X.dtype}). Convert it with "
            "X.astype(float), or encode it in a pipeline:"
            + _HELP.format(columns=[0], name=estimator_name)
        )
    elif isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 2:
        for column in range(X.shape[1]):
            for value in X[:, column]:
                _check_number(value, column, estimator_name)
            _check_gaps_convert(X[:, column], str(column), estimator_name)


def _say_what_columns_hold(columns: dict[Any, pd.Series], estimator_name: str) -> str:
    held = ", ".join(f"{name!r} (dtype {x.dtype})" for name, x in list(columns.items())[:5])
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    kinds = {name: getattr(x.dtype, "kind", "O") for name, x in columns.items()}
    message = (
        f"{estimator_name} needs real numbers, but these columns of X hold something else: "
        f"{held}{more}."
    )
    if not {"m", "M"}.isdisjoint(kinds.values()):
        message += f" {_TIMES}."
    if "c" in kinds.values():
        message += " Put real and imaginary parts into columns of their own."
    text = [name for name, kind in kinds.items() if kind not in "mMc"]
    written = [name for name in text if _is_numbers_as_text(columns[name])]
    if written:
        message += " Convert numbers that are written as text:"
        message += f"\n    X[{written!r}] = X[{written!r}].apply(pd.to_numeric)"
    encoded = [name for name in text if name not in written]
    if encoded:
        message += "\n" if written else " "
        message += "Encode text and categories in a pipeline:"
        message += _HELP.format(columns=encoded, name=estimator_name)
    return message


def _check_names_are_unique(columns: pd.Index) -> None:
    again = columns[columns.duplicated()]
    if len(again):  # scikit-learn says so itself, but not in every version
        raise ValueError(
            f"The columns of X need unique names, but {again[0]!r} occurs "
            f"{(columns == again[0]).sum()} times. Rename or drop some."
        )


def _check_number(value: Any, column: int, estimator_name: str) -> None:
    if isinstance(value, str):
        is_number = _is_numbers_as_text(pd.Series([value], dtype=object))
        remedy = "Convert it with X.astype(float), or encode" if is_number else "Encode"
        raise ValueError(
            f"{estimator_name} needs numbers, but column {column} of X holds the text {value!r}. "
            f"{remedy} in a pipeline:" + _HELP.format(columns=[column], name=estimator_name)
        )
    if not _is_number_or_gap(value):
        raise TypeError(
            f"{estimator_name} needs numbers, but column {column} of X holds {value!r}: float() "
            "argument must be a string or a real number. Convert it, put nan for what is missing, "
            "or drop the column."
        )


def _is_numeric_column(column: pd.Series) -> bool:
    if pd.api.types.is_complex_dtype(column):
        return False
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return True
    return column.dtype == object and all(map(_is_number_or_gap, column))


def _is_number_or_gap(value: Any) -> bool:
    return isinstance(value, Real | Decimal | np.bool_ | None) or _is_gap_of_pandas(value)


def _is_gap_of_pandas(value: Any) -> bool:
    return value is pd.NA or value is pd.NaT


def _is_numbers_as_text(column: pd.Series) -> bool:
    """Whether a column of text, or of anything, holds numbers and numbers as text beside gaps."""
    given = column[column.notna()]
    if not (len(given) and pd.api.types.is_string_dtype(column.dtype)):
        return False
    if not all(isinstance(value, str | Real | Decimal) for value in given):
        return False
    return bool(pd.to_numeric(given, errors="coerce").notna().all())


def _check_gaps_convert(column: Any, name: str, estimator_name: str) -> None:
    """Raise for gaps among objects that do not become NaN in floats, as None does."""
    if any(map(_is_gap_of_pandas, column)):
        raise ValueError(_say_not_finite("NaN", name, pd.isna(column), estimator_name))


def check_finite(
    X: NDArray[Any], columns: Any, estimator_name: str, of_images: bool = False
) -> None:
    """Raise if X holds NaN or infinity, naming the first such column and how many rows.

    Of images, how many of them.
    """
    if X.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    finite = np.isfinite(X)
    if finite.all():
        return
    column = int(np.argmin(finite.all(axis=0)))
    bad = X[:, column]
    what = "NaN" if np.isnan(bad).any() else "infinity (inf)"
    if of_images:
        raise ValueError(
            f"Input X contains {what} in {int((~finite).any(axis=1).sum())} of {len(X)} images; "
            f"{estimator_name} needs finite numbers. Replace such pixels or drop those images."
        )
    name = repr(columns[column]) if columns is not None else str(column)
    raise ValueError(_say_not_finite(what, name, ~finite[:, column], estimator_name))


def _say_not_finite(what: str, column: str, bad: Any, estimator_name: str) -> str:
    remedy = "Replace such values or drop those rows."
    if what == "NaN":
        remedy = "Put a SimpleImputer() before it in a pipeline, or drop those rows."
    return (
        f"Input X contains {what} in column {column} ({int(bad.sum())} rows); "
        f"{estimator_name} needs finite numbers. {remedy}"
    )


def check_target(X: Any, y: Any, numeric: bool, estimator_name: str) -> None:
    """Raise if y has not the length of X, has gaps, or holds what is no number or no label."""
    if y is None:
        return
    if np.isscalar(y):
        raise ValueError(f"y must have one value for each row of X, got {y!r}.")
    lengths = _num_samples(X), _num_samples(y)
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"X and y must have as many rows, got {lengths[0]} in X and {lengths[1]} in y."
        )
    values = np.asarray(y)
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: y has dtype {values.dtype}.")
    if numeric and values.dtype.kind in "mM":
        raise ValueError(
            f"{estimator_name} needs numbers in y, but it holds times (dtype {values.dtype}). "
            f"{_TIMES}."
        )
    _check_gaps(values, estimator_name)
    if numeric and values.dtype.kind in "OUST":
        text = next((value for value in values.flat if isinstance(value, str)), None)
        if text is not None:
            raise ValueError(
                f"{estimator_name} needs numbers in y, but it holds the text {str(text)!r}. "
                "For classes, use a classifier."
            )
    elif values.dtype == object:
        _check_one_kind_of_label(values, "y")


def _check_gaps(y: NDArray[Any], estimator_name: str) -> None:
    """Raise for rows whose target is missing or infinite."""
    if not y.ndim or not y.size or y.dtype.kind not in "fO":
        return
    what, bad = "NaN" if y.dtype.kind == "f" else "NaN or None", pd.isna(y)
    if not bad.any() and y.dtype.kind == "f":
        what, bad = f"infinity or a value too large for dtype('{y.dtype}')", ~np.isfinite(y)
    rows = np.flatnonzero(bad.reshape(len(y), -1).any(axis=1))
    if len(rows):
        raise ValueError(
            f"Input y contains {what} in {len(rows)} rows, first in row {rows[0]}; "
            f"{estimator_name} needs a target in every row. Drop those rows."
        )


def check_classes(classes: Any) -> None:
    """Raise if the classes that partial_fit is told have gaps, or are of several kinds."""
    labels = np.asarray(classes, dtype=object)
    for label in labels.flat:
        number = isinstance(label, Real)
        if label is None or _is_gap_of_pandas(label) or (number and not isfinite(label)):
            raise ValueError(
                f"classes must name classes, but it holds {label!r}. Leave it out, and the rows "
                "without a class as well."
            )
    _check_one_kind_of_label(labels, "classes")


def _check_one_kind_of_label(labels: NDArray[Any], name: str) -> None:
    texts = [isinstance(label, str) for label in labels.flat]
    if any(texts) and not all(texts):
        text, other = labels.flat[texts.index(True)], labels.flat[texts.index(False)]
        raise ValueError(
            f"{name} must hold labels of one kind, but it has the text {text!r} as well as "
            f"{other!r}. Convert them, for instance with {name}.astype(str)."
        )


def check_validation_is_used(X: Any, y: Any, early_stopping: bool | str) -> None:
    """Raise unless both came, and something is to be done with them."""
    if X is None or y is None:
        raise ValueError(
            f"X_val and y_val go together, but {'X_val' if X is None else 'y_val'} is missing."
        )
    if early_stopping is False:
        raise ValueError(
            "X_val and y_val are for early stopping, but early_stopping=False. Set "
            "early_stopping=True or leave them out."
        )


def is_stochastic(estimator: Any) -> bool:
    """Whether the solver works on batches, as partial_fit needs."""
    if estimator.solver != "adamw":
        raise AttributeError(
            "partial_fit needs solver='adamw'; L-BFGS works on the whole table at once."
        )
    return True
