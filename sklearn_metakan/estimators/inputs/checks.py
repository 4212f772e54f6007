"""What users bring: a table of numbers, a target, weights. All else is refused, with a remedy."""

import re
from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from math import inf, nan
from numbers import Complex, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import _num_samples

# A column's kind, by how NumPy, pandas, polars or pyarrow write its type, in lower case; else text.
_KIND = re.compile(
    r"(?P<number>u?int\d|float|double|halffloat|bool)|(?P<moment>date|timestamp)|"
    r"(?P<duration>duration|timedelta)|(?P<time>time)|(?P<period>period)|(?P<complex>complex)|"
    r"(?P<nested>list|array|struct|map|large_list|fixed_size_list)|(?P<sparse>sparse)|"
    r"(?P<object>object|decimal|null)"  # known by its values
)
_GAP = type(pd.NaT) | type(pd.NA) | None
# The kind of a value among objects, the first that fits; else nested.
_TYPES: list[tuple[str, Any]] = [
    *(("number", _GAP), ("duration", timedelta | np.timedelta64), ("moment", date | np.datetime64)),
    *(("time", time), ("period", pd.Period), ("text", str | bytes)),
    *(("number", Real | Decimal | np.bool_), ("complex", Complex)),
]
# What to say of a kind, and how pandas and polars make numbers of such columns.
_REMEDIES = {
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
    "mixed": ("Make text of what the encoder cannot sort", "{}.astype(str)", ""),
}
_ENCODE = """
Encode text and categories in a pipeline:{}
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.01, sparse_output=False)
    columns = make_column_transformer((encoder, {}), remainder={})
    model = make_pipeline(columns, {}())"""  # noqa: E501
_MANY = 5  # columns; more are not named one by one
_SMALLEST, _LARGEST = np.finfo(np.float64).tiny, np.finfo(np.float64).max  # weights


class _Table(NamedTuple):
    """Columns by name, how their library writes their types, and what comes first in code."""

    columns: Any
    types: dict[Any, str]
    library: str = "pandas"
    first: str = ""


def _shown(value: Any) -> str:
    """Its representation, cut if it is long; of whole numbers of 5,000 digits Python has none."""
    try:
        text = repr(value)
    except ValueError:
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_array(values: Any, name: str = "X") -> Any:
    """Tensors, lists of numbers and lists of images as arrays; all else as it is.

    Raises ValueError for a list whose entries differ in shape.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
        values = list(values) if len(values) and _shape(values[0]) != () else values
    if not isinstance(values, list | tuple):
        return values
    if any(isinstance(value, torch.Tensor) for value in values):
        values = [as_array(value) for value in values]
    try:
        array = np.asarray(values)
    except ValueError as error:
        first = _shape(values[0])
        odd = next((i for i, value in enumerate(values) if _shape(value) != first), 0)
        things, remedy = "rows of one length", "Fill what is missing with nan."
        if first is not None and len(first) > 1:
            things, remedy = "images of one size", "Crop, pad or resize them."
        raise ValueError(
            f"{name} must hold {things}, but number {odd} has the shape {_shape(values[odd])}, the "
            f"first {first}. {remedy}"
        ) from error
    return array if array.ndim > 2 or array.dtype.kind in "biufc" else values


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        return np.shape(value)
    except ValueError:  # ragged
        return None


def check_columns_are_numbers(X: Any, estimator_name: str) -> None:
    """Raise for what is no table, and for text, categories, times and the like in its columns.

    X is a DataFrame of pandas or polars, a table of pyarrow, an array or a list. The columns of
    the first three must have names of their own as well.
    """
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biuf":
        return
    table = _as_table(X, estimator_name)
    odd: dict[Any, tuple[str, str]] = {}
    numbers = {}
    for name, of_type in table.types.items():
        kind, shown = _kind(of_type), f"dtype {of_type[:60]}"
        if kind == "object":
            kind, value = _kind_of_values(table.columns[name])
            shown += f", such as {_shown(value)}"
            if kind == "number":
                numbers[name] = _floats(table.columns[name])
        if kind == "text" and _is_numbers_as_text(of_type, table.columns[name]):
            kind = "written"
        elif kind == "text" and table.library == "pandas":  # which may know of more types
            kind = "number" if pd.api.types.is_numeric_dtype(table.columns[name]) else "text"
        if kind != "number":
            odd[name] = kind, shown
    if odd:
        wrong_type = {"sparse", "nested"} & {kind for kind, _ in odd.values()}
        message = _say_what_columns_hold(table, odd, estimator_name)
        raise (TypeError if wrong_type else ValueError)(message)
    if numbers:
        check_finite(np.column_stack([*numbers.values()]), [*numbers], estimator_name)


def _as_table(X: Any, estimator_name: str) -> _Table:
    """Raise for what is none; a table without columns where scikit-learn says what is wrong."""
    if issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required. Call X.toarray(); in a "
            "pipeline set OneHotEncoder(sparse_output=False), or ColumnTransformer("
            "sparse_threshold=0)."
        )
    table = f"{estimator_name} takes a table, (n_samples, n_features)"
    if not isinstance(X, list | tuple) and not hasattr(X, "__array__"):
        remedies = {"dict": " Pass pd.DataFrame(X).", "LazyFrame": " Pass X.collect()."}
        name = type(X).__name__
        raise TypeError(f"X is of type {name}, but {table}.{remedies.get(name, '')}")
    if len(getattr(X, "shape", ())) > 2:
        raise ValueError(
            f"Found array with dim {len(X.shape)}: X has the shape {tuple(X.shape)}, but {table}. "
            "Pass X.reshape(len(X), -1), or images to an image classifier."
        )
    libraries = {of.__module__.partition(".")[0] for of in type(X).__mro__}
    library, first = "pandas" if isinstance(X, pd.DataFrame) else "numpy", ""
    if not libraries.isdisjoint(("polars", "pyarrow")) and hasattr(X, "schema"):
        library = "polars"
        if "pyarrow" in libraries:
            _check_names_are_unique(X.schema.names)
            if all(_kind(str(of_type)) == "number" for of_type in X.schema.types):
                return _Table({}, {})
            X, library, first = X.to_pandas(), "pandas", "\n    X = X.to_pandas()"
    if library != "numpy":
        if not X.shape[1]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={X.shape}): {estimator_name} needs at least "
                "one column."
            )
        _check_names_are_unique(X.columns)
        return _Table(X, dict(zip(X.columns, map(str, X.dtypes), strict=True)), library, first)
    array = np.array(X, dtype=object) if isinstance(X, list | tuple) else X
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        return _Table({}, {})
    types = dict.fromkeys(range(array.shape[1]), str(array.dtype))
    return _Table(array.T, types, library, "\n    X = pd.DataFrame(X)")


def _check_names_are_unique(names: Iterable[Any]) -> None:
    columns = pd.Index(names)
    again = columns[columns.duplicated()]
    if len(again):  # scikit-learn says so itself, but not in every version
        raise ValueError(
            f"The columns of X need unique names, but {again[0]!r} occurs "
            f"{(columns == again[0]).sum()} times. Rename or drop some."
        )


def _kind(of_type: str) -> str:
    match = _KIND.match(of_type.lower())
    return (match and match.lastgroup) or "text"


def _kind_of_values(values: Iterable[Any]) -> tuple[str, Any]:
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
    if not known or not all(isinstance(value, str | Real | Decimal | _GAP) for value in column):
        return False
    given = pd.Series([*column], dtype=object).dropna()
    return bool(len(given) and pd.to_numeric(given, errors="coerce").notna().all())


def _floats(values: Any) -> NDArray[np.float64]:
    """Real numbers and gaps as float64; infinite where they are too large for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            return np.asarray(values, dtype=np.float64)
        except (OverflowError, TypeError):  # whole numbers of 400 digits; pd.NA
            array = np.asarray(values, dtype=object)
            return np.reshape([_float(value) for value in array.flat], array.shape)


def _float(value: Any) -> float:
    try:
        return nan if isinstance(value, _GAP) else float(value)
    except OverflowError:
        return inf


def _say_what_columns_hold(
    table: _Table, odd: dict[Any, tuple[str, str]], estimator_name: str
) -> str:
    """Five of the columns by name, and code that makes numbers of all of them."""
    held = [f"column {_shown(name)} ({what})" for name, (_, what) in odd.items()]
    message = f"{estimator_name} needs real numbers, but X holds something else: {_first(held)}."
    by_kind: dict[str, list[Any]] = {}
    for name, (kind, _) in odd.items():
        by_kind.setdefault(kind, []).append(name)
    if "nested" in by_kind:
        message += " float() argument must be a string or a real number: convert such values, put "
        message += "nan for what is missing, or drop the column."
    if "complex" in by_kind:
        message += " Complex data not supported: put real and imaginary parts into columns of "
        message += "their own."
    if table.library == "numpy" and [*by_kind] == ["written"]:
        return f"{message} {_REMEDIES['written'][0]}:\n    X = X.astype(float)"
    encoded = by_kind.get("text", [])
    mixed = [name for name in encoded if _cannot_be_sorted(table.columns[name])]
    by_kind |= {"mixed": mixed} if mixed and table.library != "polars" else {}
    first = table.first
    for kind, (words, for_pandas, for_polars) in _REMEDIES.items():
        if kind in by_kind:
            names = _in_code(by_kind[kind], table)
            code = f"for name in {names}: X[name] = {for_pandas.format('X[name]')}"
            if table.library == "polars":
                code = f"X = X.with_columns(pl.col({names}).{for_polars})"
            message, first = f"{message}\n{words}:{first}\n    {code}", ""
    if encoded:
        numbers = [table.columns[name] for name in table.types if name not in odd]
        imputes = any(np.isnan(_floats(column)).any() for column in numbers)
        remainder = "SimpleImputer()" if imputes else '"passthrough"'
        first = "" if table.library == "numpy" else first
        message += _ENCODE.format(first, _in_code(encoded, table), remainder, estimator_name)
    return message


def _cannot_be_sorted(column: Iterable[Any]) -> bool:
    """Whether levels are neither text nor numbers alone: pd.NA, intervals, "a" beside 1."""
    levels = [value for value in column if value is pd.NA or (value is not None and value == value)]
    numbers = [isinstance(value, Real) for value in levels]
    return not all(numbers) and not all(isinstance(value, str) for value in levels)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more


def _in_code(names: list[Any], table: _Table) -> str:
    """A list of these columns: by their types if they are many and no others have those."""
    if len(names) <= _MANY and len(repr(names)) < 300:
        return repr(names)
    own = sorted({table.types[name] for name in names})
    same = sum(of_type in own for of_type in table.types.values())
    if table.library == "numpy" or same > len(names) or len(repr(own)) > 300:
        return f"[{', '.join(map(_shown, names[:_MANY]))}, ...]"
    return f"[name for name in X.columns if str(X[name].dtype) in {own!r}]"


def check_finite(
    X: NDArray[Any], columns: Any, estimator_name: str, of_images: bool = False
) -> None:
    """Raise if X holds NaN or infinity, naming five such columns and how many rows.

    Of images, how many of them.
    """
    if X.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    bad = np.isnan(X)
    what, remedy = "NaN", "Put a SimpleImputer() before it in a pipeline, or drop those rows."
    if not bad.any():
        bad, what = ~np.isfinite(X), f"infinity (inf) or numbers too large for {X.dtype}"
        remedy = "Replace such values or drop those rows."
    rows = bad.sum(axis=0)
    (odd,) = rows.nonzero()
    if not len(odd):
        return
    if of_images:
        raise ValueError(
            f"Input X contains {what} in {int(bad.any(axis=1).sum())} of {len(X)} images; "
            f"{estimator_name} needs finite numbers. Replace such pixels or drop those images."
        )
    names = range(X.shape[1]) if columns is None else columns
    held = _first([f"column {_shown(names[i])} ({rows[i]} rows)" for i in odd])
    raise ValueError(
        f"Input X contains {what} in {held}; {estimator_name} needs finite numbers. {remedy}"
    )


def check_target(X: Any, y: Any, numeric: bool, estimator_name: str) -> None:
    """Raise if y has not the length of X, has gaps, or holds what is no number or no label."""
    if y is None:
        raise ValueError(f"{estimator_name} requires y to be passed, but the target y is None.")
    values = np.asarray(y)
    if not values.ndim:
        raise ValueError(f"y must have one value for each row of X, got {_shown(y)}.")
    lengths = _num_samples(X), _num_samples(y)
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"X and y must have as many rows, got {lengths[0]} in X and {lengths[1]} in y."
        )
    kind, value = _kind(str(values.dtype)), next(iter(values.flat), None)
    if kind == "complex":
        raise ValueError(f"Complex data not supported: y has dtype {values.dtype}.")
    _check_gaps(values, pd.isna(values), "NaN or None", estimator_name)
    if numeric and kind == "object":
        kind, value = _kind_of_values(values.ravel())
    if kind == "number":
        what = "infinity or a value too large for dtype('float64')"
        _check_gaps(values, ~np.isfinite(_floats(values)), what, estimator_name)
    elif not numeric:
        _check_labels(values, "y")
    elif kind == "text":
        raise ValueError(
            f"{estimator_name} needs numbers in y, but it holds the text {_shown(value)}. For "
            "classes, use a classifier."
        )
    else:
        remedy = f" Convert it: y = {_REMEDIES[kind][1].format('y')}" if kind in _REMEDIES else ""
        raise ValueError(
            f"{estimator_name} needs numbers in y, but it holds {_shown(value)} (dtype "
            f"{values.dtype}).{remedy}"
        )


def _check_gaps(y: NDArray[Any], bad: NDArray[np.bool_], what: str, estimator_name: str) -> None:
    """Raise for rows whose target is missing or infinite."""
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(y), -1).any(axis=1))
        raise ValueError(
            f"Input y contains {what} in {len(rows)} rows, first in row {rows[0]}; "
            f"{estimator_name} needs a target in every row. Drop those rows."
        )


def check_classes(classes: Any) -> None:
    """Raise if the classes that partial_fit is told have gaps, or are of several kinds."""
    labels = np.asarray(classes, dtype=object)
    for label in labels.flat:
        if isinstance(label, _GAP) or (isinstance(label, Real) and not np.isfinite(_float(label))):
            raise ValueError(
                f"classes must name classes, but it holds {_shown(label)}. Leave it out, and the "
                "rows without a class as well."
            )
    _check_labels(labels, "classes")


def _check_labels(labels: NDArray[Any], name: str) -> None:
    first = next(iter(labels.flat), None)
    if isinstance(first, bytes):
        raise ValueError(
            f"{name} holds bytes, such as {bytes(first)!r}, but labels are text or whole numbers. "
            f"Decode them: {name} = np.char.decode(np.asarray({name}, dtype=bytes))"
        )
    values = labels.ravel().tolist() if labels.dtype == object else []
    texts = [label for label in values if isinstance(label, str)]
    if texts and len(texts) < len(values):
        other = next(label for label in values if not isinstance(label, str))
        raise ValueError(
            f"{name} must hold labels of one kind, but it has the text {texts[0]!r} as well as "
            f"{other!r}. Convert them, for instance with {name}.astype(str)."
        )


def check_sample_weight(sample_weight: Any, X: Any) -> NDArray[np.float64] | None:
    """Weights (n_samples,), of one number or one for each row; None stays None.

    Raises ValueError unless each is 0 or a normal number of float64, and some are not 0.
    """
    if sample_weight is None:
        return None
    n = _num_samples(X)
    try:
        weight = _floats(as_array(sample_weight, "sample_weight"))
    except ValueError as error:
        raise ValueError(f"sample_weight must hold numbers: {error}.") from error
    weight = weight if weight.ndim else np.full(n, weight)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected ({n},)!")
    if np.isnan(weight).any():
        raise ValueError(f"sample_weight holds NaN, first in row {np.isnan(weight).argmax()}.")
    bad = (weight != 0) & ~((weight >= _SMALLEST) & (weight <= _LARGEST))
    if bad.any():
        what = "Negative values" if (weight < 0).any() else weight[bad.argmax()]
        raise ValueError(
            f"sample_weight must be 0 or lie between {_SMALLEST:.1e} and {_LARGEST:.1e}, got "
            f"{what}, first in row {bad.argmax()}. Only ratios count: divide by the mean."
        )
    if n and not weight.any():
        raise ValueError("sample_weight is zero for every row; at least one must count.")
    return weight


def class_factors(class_weight: dict[Any, Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """The factor of each class, 1 where the dict names only others.

    Raises ValueError for factors as for weights, and for a name that is no class where one lacks.
    """
    for label, factor in class_weight.items():
        if not isinstance(factor, Real) or not (
            factor == 0 or _SMALLEST <= _float(factor) <= _LARGEST
        ):
            raise ValueError(
                f"class_weight must hold 0 or numbers between {_SMALLEST:.1e} and {_LARGEST:.1e}, "
                f"got {_shown(factor)} for class {label!r}."
            )
    unknown = [label for label in class_weight if label not in classes]
    missing = [i for i, label in enumerate(classes) if label not in class_weight]
    if unknown and missing:
        known = [*map(_shown, classes.tolist())]
        raise ValueError(
            f"class_weight names {_shown(unknown[0])}, which is no class, but not "
            f"{known[missing[0]]}; the classes are {_first(known)}."
        )
    return np.array([class_weight.get(label, 1.0) for label in classes], dtype=np.float64)


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
