"""What users bring: numbers, a target, weights. All else is refused, with a remedy."""

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import _check_y, _num_samples

from sklearn_metakan.estimators.inputs.frames import (
    GAP,
    REMEDIES,
    as_float,
    floats,
    kind_of_type,
    kind_of_values,
    listed,
    shown,
)

_SMALLEST, _LARGEST = np.finfo(np.float64).tiny, np.finfo(np.float64).max  # weights


def as_array(values: Any, name: str = "X") -> Any:
    """Tensors, lists of numbers and lists of images as arrays; all else as it is.

    Raises ValueError for a list whose entries differ in shape.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
        values = list(values) if len(values) and _shape(values[0]) != () else values
    if name == "y" and issparse(values):  # several labels
        return values.toarray()
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


def check_target(X: Any, y: Any, target: Any, estimator_name: str) -> NDArray[Any]:
    """y, if it has the length of X, no gaps, and holds numbers or labels; raises if not."""
    numeric = target.is_numeric
    if not (type(y) is np.ndarray and y.dtype.kind in "biuf"):
        y = as_array(y, "y")
    if y is None:
        raise ValueError(f"{estimator_name} requires y to be passed, but the target y is None.")
    values = np.asarray(y)
    if not values.ndim:
        raise ValueError(f"y must have one value for each row of X, got {shown(y)}.")
    lengths = _num_samples(X), _num_samples(y)
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"X and y must have as many rows, got {lengths[0]} in X and {lengths[1]} in y."
        )
    plain = values.dtype.kind in "biuf" and values.itemsize <= 8  # longer ones may be too large
    if not (plain and np.isfinite(values).all()):
        _refuse_target(values, numeric, estimator_name)
    with np.errstate(over="ignore", invalid="ignore"):  # of a sum of large numbers
        found: NDArray[Any] = _check_y(y, **target.validation, estimator=estimator_name)
    return found


def _refuse_target(values: NDArray[Any], numeric: bool, estimator_name: str) -> None:
    """Raise for what is neither numbers nor labels."""
    kind, value = kind_of_type(str(values.dtype)), next(iter(values.flat), None)
    if kind == "complex":
        raise ValueError(f"Complex data not supported: y has dtype {values.dtype}.")
    _check_gaps(values, pd.isna(values), "NaN or None", estimator_name)
    if numeric and kind == "object":
        kind, value = kind_of_values(values.ravel())
    if kind in ("number", "flag"):
        what = "infinity or a value too large for dtype('float64')"
        _check_gaps(values, ~np.isfinite(floats(values)), what, estimator_name)
    elif not numeric:
        _check_labels(values, "y")
    elif kind == "text":
        raise ValueError(
            f"{estimator_name} needs numbers in y, but it holds the text {shown(value)}. For "
            "classes, use a classifier."
        )
    else:
        remedy = f" Convert it: y = {REMEDIES[kind][1].format('y')}" if kind in REMEDIES else ""
        raise ValueError(
            f"{estimator_name} needs numbers in y, but it holds {shown(value)} (dtype "
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
        if isinstance(label, GAP) or (isinstance(label, Real) and not np.isfinite(as_float(label))):
            raise ValueError(
                f"classes must name classes, but it holds {shown(label)}. Leave it out, and the "
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


def check_sample_weight(sample_weight: Any, X: Any) -> NDArray[np.float64]:
    """Weights (n_samples,), of one number or one for each row.

    Raises ValueError unless each is 0 or a normal number of float64, and some are not 0.
    """
    n = _num_samples(X)
    try:
        weight = floats(as_array(sample_weight, "sample_weight"))
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
            f"{what}, first in row {bad.argmax()}. Only ratios count: weights may be divided by "
            "their mean."
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
            factor == 0 or _SMALLEST <= as_float(factor) <= _LARGEST
        ):
            raise ValueError(
                f"class_weight must hold 0 or numbers between {_SMALLEST:.1e} and {_LARGEST:.1e}, "
                f"got {shown(factor)} for class {label!r}."
            )
    unknown = [label for label in class_weight if label not in classes]
    missing = [i for i, label in enumerate(classes) if label not in class_weight]
    if unknown and missing:
        known = [*map(shown, classes.tolist())]
        raise ValueError(
            f"class_weight names {shown(unknown[0])}, which is no class, but not "
            f"{known[missing[0]]}; the classes are {listed(known)}."
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
            "partial_fit needs solver='adamw'; the others work on the whole table at once."
        )
    return True
