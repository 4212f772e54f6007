"""Which rows are held out for early stopping."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, check_cv

from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.training import warn_caller

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def check_groups(groups: Any, n: int) -> NDArray[Any] | None:
    """One group for each row, (n,); None stays None.

    Raises ValueError for another shape, and for missing ones.
    """
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(
            f"groups must have one entry for each of the {n} rows of X, got the shape "
            f"{groups.shape}."
        )
    return groups


def check_held_out_once(estimator: Any, groups: Any, given: Any) -> None:
    """Raise if rows are to be held out in a way that contradicts another."""
    named = {"validation_split": estimator.validation_split, "groups": groups}
    asked = [name for name, value in named.items() if value is not None]
    if asked and given is not None:
        raise ValueError(
            f"{asked[0]} says which rows of X to hold out, but X_val came as well. Leave one out."
        )
    if asked and estimator.early_stopping is False:
        raise ValueError(
            f"{asked[0]} is for early stopping, but early_stopping=False. Set early_stopping=True "
            "or leave it out."
        )


def warn_if_beyond(inputs: Any, validation: Rows) -> None:
    """Warn where a column of X_val lies beyond its range in training in all rows."""
    column = inputs.beyond(validation)
    if column is not None:
        warn_caller(
            "All rows of X_val lie beyond the range of training in "
            f"{inputs.called(column)}. A pipeline hands X_val on as it is; have it "
            'transformed with Pipeline(..., transform_input=["X_val"]).',
            UserWarning,
        )


def splits_of(
    validation_split: Any,
    groups: NDArray[Any] | None,
    rows: Rows,
    fraction: float,
    n: int,
    seed: int,
) -> list[Split]:
    """Rows of training and validation for each of n members, by a splitter of scikit-learn.

    With groups alone, whole groups are held out. Of more than n splits the last ones are taken, of
    fewer all in turn. Splitters see the whole table, of which rows may not count.

    Raises
    ------
    ValueError
        For a split that leaves no row to one side; and what the splitter raises.
    """
    n_table = len(rows.X)
    index = np.arange(n_table) if rows.index is None else rows.index
    y = np.zeros((n_table, *rows.y.shape[1:]), rows.y.dtype)
    y[index] = rows.y
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    splitter = validation_split
    if splitter is None:
        splitter = GroupShuffleSplit(n, test_size=fraction, random_state=seed)
    splitter = check_cv(splitter, y, classifier=rows.y.dtype.kind == "i")
    place = np.full(n_table, -1, dtype=np.intp)
    place[index] = np.arange(len(index))
    found: list[Split] = []
    for sides in splitter.split(rows.X, y, groups):
        train, held_out = (place[np.arange(n_table)[side]] for side in sides)
        train, held_out = train[train >= 0], held_out[held_out >= 0]
        if not (len(train) and len(held_out)):
            side = "trains on" if len(held_out) else "holds out"
            raise ValueError(
                f"validation_split={validation_split!r}: split {len(found)} {side} no row that "
                "counts."
            )
        found.append((train, held_out))
    if not found:
        raise ValueError(f"validation_split={validation_split!r} has no splits.")
    last = found[-n:]
    return [last[member % len(last)] for member in range(n)]
