"""Rows that were read: which of them count, and which are held out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, check_cv, train_test_split
from torch import Tensor

AUTO_EARLY_STOPPING_ROWS = 200
LIGHTEST = 1e-6  # of the mean weight: what single precision just adds to it

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


class Rows(NamedTuple):
    """Rows of a validated table, without a copy of it.

    Attributes
    ----------
    X : ndarray of shape (n_table, d)
        The whole table.
    index : ndarray of shape (n,) or None
        Which of its rows count; None: all of them.
    y : ndarray of shape (n, ...)
        Their encoded targets.
    weight : ndarray of shape (n,) or None
        Their weights; None: one each.
    unit : float
        What the weights were divided by.
    counts : bool ndarray of shape (n, n_members) or None
        Which rows count for which member of a network; None: all for all.
    within : ndarray of shape (n,) or None
        Which of the training rows these are, if they are among them.
    """

    X: NDArray[Any]
    index: NDArray[np.integer] | None  # type: ignore[assignment]
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    unit: float = 1.0
    counts: NDArray[np.bool_] | None = None
    within: NDArray[np.integer] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def chosen(self, rows: slice | NDArray[np.integer] = slice(None)) -> NDArray[Any]:
        """Some of the rows of X, by default all that count."""
        return self.X[rows] if self.index is None else self.X[self.index[rows]]

    def made_by(self, tensor: Callable[["Rows"], Tensor]) -> Callable[[Tensor | slice], Tensor]:
        """What gives the inputs of some of them, which ``tensor`` makes; holds no targets."""
        source = Rows(self.X, self.index, self.X, None)

        def make(some: Tensor | slice) -> Tensor:
            X = source.chosen(some if isinstance(some, slice) else some.numpy())
            return tensor(Rows(X, None, X, None))

        return make

    def facts(self, ending: str) -> dict[str, Any]:
        """Its arrays by their names in ``fit``."""
        found = {"X": self.X, "y": self.y, "sample_weight": self.weight, "rows of": self.index}
        return {f"{name}{ending}": array for name, array in found.items()}

    def column(self, j: int) -> NDArray[np.float64]:
        """One column of the rows that count."""
        column = self.X[:, j] if self.index is None else self.X[self.index, j]
        return column.astype(np.float64)

    def take(self, rows: NDArray[np.integer]) -> "Rows":
        """Some of them; weights have mean one again."""
        weight = None if self.weight is None else self.weight[rows]
        weight = None if weight is None else weight / weight.mean()
        index = rows if self.index is None else self.index[rows]
        return Rows(self.X, index, self.y[rows], weight, self.unit)


def rows_that_count(
    X: NDArray[Any], y: NDArray[Any], weight: NDArray[Any] | None, unit: float | None = None
) -> Rows:
    """Rows whose weight is not next to nothing; weights in this unit, by default their mean.

    AdamW divides by the size of gradients, so that once the others are learned, it learns rows
    of any weight. Those below a millionth of the mean, together a millionth of all at most, are
    therefore taken for zero.

    Raises ValueError if no row counts, or weights in this unit cannot be held.
    """
    if weight is None:
        if unit in (None, 1.0):
            return Rows(X, None, y, None)
        weight = np.ones(len(y))
    index = np.flatnonzero(weight)
    if not len(index):
        raise ValueError(
            "sample_weight, times class_weight where there is one, is zero for every row; "
            "at least one must count."
        )
    largest = weight.max()
    mean = largest * (weight[index] / largest).mean()  # a sum might overflow
    index = index[weight[index] >= LIGHTEST * mean]
    weight = weight[index]
    if unit is None:
        unit = float(largest * (weight / largest).mean())
    with np.errstate(over="ignore"):
        weight = weight / unit
    if not np.isfinite(weight).all():
        raise ValueError("sample_weight is too large beside the weights of the first call.")
    every = len(index) == len(y)
    return Rows(X, None if every else index, y[index], weight, unit)


def set_aside(
    estimator: Any, rows: Rows, given: Rows | None, groups: Any, seed: int
) -> tuple[Rows, Rows | None]:
    """Rows to train on, and those that early stopping watches, as an estimator's parameters say.

    Of several members each holds rows of its own out: the first are then all rows, the second
    those that some member does not train on, each with whom it counts for.

    Raises ValueError for parameters that contradict one another, groups of another shape, and too
    few rows.
    """
    n, wanted, fraction = len(rows.y), estimator.early_stopping, estimator.validation_fraction
    by_splitter = not (estimator.validation_split is None and groups is None)
    if by_splitter:
        check_held_out_once(estimator, groups, given)
        groups = check_groups(groups, len(rows.X))
    if wanted == "auto":
        wanted = by_splitter or (n > AUTO_EARLY_STOPPING_ROWS and estimator.solver == "adamw")
    if given is not None or not wanted:
        return rows, given
    if n < 2:
        raise ValueError(f"early_stopping=True needs at least 2 rows, got {n} sample(s).")
    members = int(getattr(estimator, "n_estimators", 1))
    trains = np.zeros((n, members), dtype=bool)
    out = np.zeros_like(trains)
    splits: list[Split] = []
    if by_splitter:
        splits = splits_of(estimator.validation_split, groups, rows, fraction, members, seed)
    else:
        drawn, always, options = strata(rows.y, fraction)
    for member in range(members):  # one after the other: of a large table they take room
        if by_splitter:
            train, held_out = splits[member]
        else:
            train, held_out = train_test_split(drawn, random_state=seed + member, **options)
            train = np.concatenate([always, train])
        trains[train, member] = True
        out[held_out, member] = True
    if members == 1:
        if not isinstance(rows.X, np.ndarray):  # a stored table is read from one end to the other
            train, held_out = np.sort(train), np.sort(held_out)
        return rows.take(train), rows.take(held_out)
    short = np.int32 if n < 2**31 else np.int64
    some: NDArray[np.integer] = np.flatnonzero(out.any(1)).astype(short, copy=False)
    return Rows(*rows[:5], trains), Rows(*rows.take(some)[:5], out[some], some)


def strata(
    y: NDArray[Any], fraction: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], dict[str, Any]]:
    """Rows to draw from, those that are always trained on, and how to draw.

    Numbers at random. Labels are stratified where each side has room for every class; a class of
    one row is trained on.
    """
    drawn, always, stratify, n_classes = np.arange(len(y)), np.empty(0, np.intp), None, 0
    if y.dtype.kind == "i":
        counts = np.bincount(y)
        if np.count_nonzero(counts[y] > 1) >= 2:
            (always,), (drawn,) = np.nonzero(counts[y] == 1), np.nonzero(counts[y] > 1)
            n_classes = int(np.count_nonzero(counts > 1))
    held_out = min(max(1, round(fraction * len(drawn))), len(drawn) - 1)
    if 0 < n_classes <= min(held_out, len(drawn) - held_out):
        stratify = y[drawn]
    return drawn, always, {"test_size": held_out, "stratify": stratify}


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

    Raises ValueError for a split that leaves no row to one side; and what the splitter raises.
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
