"""Tables of every library: what their columns hold, and what to say of those that are refused."""

import re
import warnings
from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from math import inf, nan
from numbers import Complex, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse

# A column's kind, by how NumPy, pandas, polars or pyarrow write its type, in lower case; else text.
_KIND = re.compile(
    r"(?P<flag>bool)|(?P<number>u?int\d|float|double|halffloat)|(?P<moment>date|timestamp)|"
    r"(?P<duration>duration|timedelta)|(?P<time>time)|(?P<period>period)|(?P<complex>complex)|"
    r"(?P<nested>list|array|struct|map|large_list|fixed_size_list)|(?P<sparse>sparse)|"
    r"(?P<object>object|decimal|null)"  # known by its values
)
_SINGLE_COLUMNS = ("Series", "ChunkedArray")  # of pandas and polars, of pyarrow
GAP = type(pd.NaT) | type(pd.NA) | None
# The kind of a value among objects, the first that fits; else nested.
_TYPES: list[tuple[str, Any]] = [
    *(("number", GAP), ("duration", timedelta | np.timedelta64), ("moment", date | np.datetime64)),
    *(("time", time), ("period", pd.Period), ("text", str | bytes)),
    *(("number", Real | Decimal | np.bool_), ("complex", Complex)),
]
# What to say of a kind, and how pandas and polars make numbers of such columns.
REMEDIES = {
    "sparse": ("Make dense columns", "{}.sparse.to_dense()", ""),
    "moment": ("Make days of dates", "pd.DatetimeIndex({}).to_julian_date()", "to_physical()"),
    "period": ("Make days of periods", "pd.PeriodIndex({}).to_timestamp().to_julian_date()", ""),
    "duration": ("Make numbers", "pd.TimedeltaIndex({}).total_seconds()", "to_physical()"),
    "time": (
        "Make numbers of times of day",
        'pd.to_timedelta({}.astype(str), errors="coerce").dt.total_seconds()',
        "to_physical()",
    ),
    "written": ("Convert numbers written as text", "pd.to_numeric({})", "cast(pl.Float64)"),
    "mixed": ("Make text of what is text and numbers", "{}.astype(str)", ""),
}
_MANY = 5  # columns; more are not named one by one


class Table(NamedTuple):
    """Columns by name, how their library writes their types, and what comes first in code."""

    columns: Any
    types: dict[Any, str]
    library: str = "pandas"
    first: str = ""

    @property
    def is_frame(self) -> bool:
        """Whether each column has a type of its own."""
        return self.library != "numpy"


def shown(value: Any) -> str:
    """Its representation, cut if it is long; of whole numbers of 5,000 digits Python has none."""
    if isinstance(value, np.str_ | np.number | np.bool_):  # as what they are: 'a', not np.str_('a')
        value = value.item()
    try:
        text = repr(value)
    except ValueError:
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_table(X: Any, estimator_name: str) -> Table:
    """A DataFrame, an Arrow table, an array or a list by columns.

    Without columns where scikit-learn says what is wrong. Raises TypeError or ValueError for what
    is no table, and for columns without names of their own.
    """
    if issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required. Call X.toarray(); in a "
            "pipeline set OneHotEncoder(sparse_output=False), or ColumnTransformer("
            "sparse_threshold=0)."
        )
    X, first = _as_pandas(X)
    table = f"{estimator_name} takes a table, (n_samples, n_features)"
    if (name := type(X).__name__) in _SINGLE_COLUMNS:
        raise ValueError(
            f"X is a {name}, but {table}. Take a column as a table, X[['a']], and a row, "
            "X.iloc[[0]] or X[:1]."
        )
    if not isinstance(X, list | tuple) and not hasattr(X, "__array__"):
        remedies = {"dict": " Pass pd.DataFrame(X).", "LazyFrame": " Pass X.collect()."}
        raise TypeError(f"X is of type {name}, but {table}.{remedies.get(name, '')}")
    if len(getattr(X, "shape", ())) > 2:
        raise ValueError(
            f"Found array with dim {len(X.shape)}: X has the shape {tuple(X.shape)}, but {table}. "
            "Pass X.reshape(len(X), -1), or images to an image classifier."
        )
    library = "pandas" if isinstance(X, pd.DataFrame) else "numpy"
    if "polars" in _libraries(X) and hasattr(X, "schema"):
        library = "polars"
    if library != "numpy":
        if not X.shape[1]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={X.shape}): {estimator_name} needs at least "
                "one column."
            )
        _check_names_are_unique(X.columns)
        return Table(X, dict(zip(X.columns, map(str, X.dtypes), strict=True)), library, first)
    array = np.array(X, dtype=object) if isinstance(X, list | tuple) else X
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        return Table({}, {}, "numpy")
    types = dict.fromkeys(range(array.shape[1]), str(array.dtype))
    return Table(array.T, types, "numpy", "\n    X = pd.DataFrame(X)")


def _as_pandas(X: Any) -> tuple[Any, str]:
    """Frames of other libraries than pandas and polars as pandas', with the code for it."""
    if hasattr(X, "to_native"):  # narwhals
        X = X.to_native()
    if type(X).__name__ in _SINGLE_COLUMNS:
        return X, ""
    if isinstance(X, pd.DataFrame) or "polars" in _libraries(X):
        return X, ""
    if "pyarrow" in _libraries(X) and hasattr(X, "schema"):
        _check_names_are_unique(X.schema.names)
        return X.to_pandas(), "\n    X = X.to_pandas()"
    if hasattr(X, "__arrow_c_stream__"):
        import pyarrow

        return _as_pandas(pyarrow.table(X))[0], "\n    X = pyarrow.table(X).to_pandas()"
    if hasattr(X, "__dataframe__"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas calls the protocol deprecated
            code = "\n    X = pd.api.interchange.from_dataframe(X)"
            return pd.api.interchange.from_dataframe(X), code
    return X, ""


def _libraries(X: Any) -> set[str]:
    return {of.__module__.partition(".")[0] for of in type(X).__mro__}


def _check_names_are_unique(names: Iterable[Any]) -> None:
    columns = pd.Index(names)
    again = columns[columns.duplicated()]
    if len(again):  # scikit-learn says so itself, but not in every version
        raise ValueError(
            f"The columns of X need unique names, but {again[0]!r} occurs "
            f"{(columns == again[0]).sum()} times. Rename or drop some."
        )


def kind_of_type(of_type: str) -> str:
    """What a column of this type holds."""
    match = _KIND.match(of_type.lower())
    return (match and match.lastgroup) or "text"


def kind_of_column(table: Table, name: Any) -> tuple[str, str]:
    """What a column holds, and how to show it.

    The kinds are number, flag, text, written (numbers as text), mixed (text and numbers), and those
    that are refused.
    """
    of_type, column = table.types[name], table.columns[name]
    kind, what = kind_of_type(of_type), f"dtype {of_type[:60]}"
    if kind == "object":
        kind, value = kind_of_values(column)
        what += f", such as {shown(value)}"
        is_text = kind == "text"
        if is_text and any(isinstance(v, Real) and v == v for v in column):
            kind = "mixed"
    is_text = kind in ("text", "mixed")
    if is_text and _is_numbers_as_text(of_type, column):
        kind = "written"
    elif kind == "text" and table.library == "pandas":  # which may know of more types
        kind = "number" if pd.api.types.is_numeric_dtype(column) else "text"
    return kind, what


def kind_of_values(values: Iterable[Any]) -> tuple[str, Any]:
    """Of objects: the kind of the first value that is no number, and that value."""
    kinds = {
        of: next((kind for kind, types in _TYPES if issubclass(of, types)), "nested")
        for of in {*map(type, values)}
    }
    odd = next((value for value in values if kinds[type(value)] != "number"), None)
    return kinds.get(type(odd), "number"), odd


def _is_numbers_as_text(of_type: str, column: Iterable[Any]) -> bool:
    """Whether a column of text, or of objects, holds numbers and numbers as text beside gaps."""
    known = of_type.lower().startswith(("object", "str", "<u"))
    if not known or not all(isinstance(value, str | Real | Decimal | GAP) for value in column):
        return False
    given = pd.Series([*column], dtype=object).dropna()
    return bool(len(given) and pd.to_numeric(given, errors="coerce").notna().all())


def floats(values: Any) -> NDArray[np.float64]:
    """Real numbers and gaps as float64; infinite where they are too large for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            return np.asarray(values, dtype=np.float64)
        except (OverflowError, TypeError, ValueError):  # whole numbers of 400 digits; pd.NA
            array = np.asarray(values, dtype=object)
            return np.reshape([as_float(value) for value in array.flat], array.shape)


def as_float(value: Any) -> float:
    """A real number or a gap."""
    try:
        return nan if isinstance(value, GAP) else float(value)
    except OverflowError:
        return inf


def refusal(table: Table, odd: dict[Any, tuple[str, str]], advice: str, name: str) -> Exception:
    """What to raise: five of the columns by name, and code that makes numbers of all of them."""
    held = [f"column {shown(column)} ({what})" for column, (_, what) in odd.items()]
    message = f"{name} needs real numbers, but X holds something else: {listed(held)}."
    by_kind: dict[str, list[Any]] = {}
    for column, (kind, _) in odd.items():
        by_kind.setdefault(kind, []).append(column)
    if "nested" in by_kind:
        message += " float() argument must be a string or a real number: convert such values, put "
        message += "nan for what is missing, or drop the column."
    if "complex" in by_kind:
        message += " Complex data not supported: put real and imaginary parts into columns of "
        message += "their own."
    if not table.is_frame and [*by_kind] == ["written"]:
        message += f" {REMEDIES['written'][0]}:\n    X = X.astype(float)"
        return ValueError(message)
    if "text" in by_kind:
        message += advice
    first = table.first
    for kind, (words, for_pandas, for_polars) in REMEDIES.items():
        if kind in by_kind:
            names = _in_code(by_kind[kind], table)
            code = f"for name in {names}: X[name] = {for_pandas.format('X[name]')}"
            if table.library == "polars":
                code = f"X = X.with_columns(pl.col({names}).{for_polars})"
            message, first = f"{message}\n{words}:{first}\n    {code}", ""
    wrong_type = not {"sparse", "nested"}.isdisjoint(by_kind)
    return (TypeError if wrong_type else ValueError)(message)


def listed(names: list[str]) -> str:
    """Five of them, and how many more there are."""
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more


def _in_code(names: list[Any], table: Table) -> str:
    """A list of these columns: by their types if they are many and no others have those."""
    if len(names) <= _MANY and len(repr(names)) < 300:
        return repr(names)
    own = sorted({table.types[name] for name in names})
    same = sum(of_type in own for of_type in table.types.values())
    if not table.is_frame or same > len(names) or len(repr(own)) > 300:
        return f"[{', '.join(map(shown, names[:_MANY]))}, ...]"
    return f"[name for name in X.columns if str(X[name].dtype) in {own!r}]"
